"""Reads the stored vectors of a semantic index into memory: `StoredVectors`. Encodes nothing."""

import functools
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic.encoders.base import Vectors
from pg_semantic.evaluation import existing_rows
from pg_semantic.index import keys, seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.search import generation_tracker, statements
from pg_semantic.search.legs import Where
from pg_semantic.training import passages

T = TypeVar("T")
Columns: TypeAlias = "sa.Select[str, str]"

MOST = 50_000
"""The most vectors that are read of a table, in addition to those of the rows in pairs."""

_NEAREST = 200  # rows of a larger table that are read for each query
_RANDOM = 2_000  # rows of a larger table that are read for no query
_KEYS = 1_000  # rows read by one statement
_LEAST_LENGTH = 1e-12


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """Vectors of chunks, those of a row one after the other.

    Attributes:
        keys: The key of each row, sorted.
        starts: The position of each row's first vector, shape (rows,).
        vectors: The vectors, scaled to unit length, shape (vectors, dimensions), float32.
        is_sample: Whether the index has more vectors than these.
    """

    keys: tuple[str, ...]
    starts: NDArray[np.int64]
    vectors: Vectors
    is_sample: bool = False

    def of_row(self, row: int) -> range:
        """Returns the positions of a row's vectors."""
        last = row + 1 == len(self.starts)
        return range(int(self.starts[row]), len(self.vectors) if last else int(self.starts[row + 1]))


def read(
    session: orm.Session,
    index: BoundIndex[Any],
    *,
    relevant: Set[str],
    queries: Vectors,
    seed: int,
    where: Where = (),
) -> StoredVectors:
    """Reads the vectors of an index: all of them, or those that matter if there are more than `MOST`.

    Of a larger table, reads the rows in ``relevant``, up to 200 of the nearest rows of each query, and 2,000 random
    rows. Takes about 25 µs for each vector of 384 dimensions, and 4 bytes per number.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index, bound to the tables of its live generation.
        relevant: Keys of rows that must be read. Those without vectors are left out.
        queries: The vectors of the queries, shape (queries, dimensions).
        seed: Chooses the random rows.
        where: Conditions on the rows.
    """
    connection = generation_tracker.connect(session, index)
    chunks = passages.of_rows(index, index.tables.chunks, key=index.tables.chunk_key, where=where)
    count = connection.scalar(sa.select(sa.func.count()).select_from(chunks)) or 0
    columns = _columns(index.tables, chunks)
    if count <= MOST:
        return of_rows(_all(connection, columns), is_sample=False)
    needed = sorted(set(existing_rows.canonical(session, index, relevant).values()))
    others = [*_random(connection, index, where=where, seed=seed), *_nearest(session, index, queries, where=where)]
    wanted = [key for key in dict.fromkeys(others) if key not in relevant]
    read_rows = functools.partial(_by_key, connection, columns, tables=index.tables)
    return of_rows(read_rows(needed, most=None) | read_rows(wanted, most=MOST), is_sample=True)


def _all(connection: sa.Connection, columns: Columns) -> dict[str, list[Vectors]]:
    found: dict[str, list[Vectors]] = {}
    for key, vector in connection.execute(columns.execution_options(yield_per=_KEYS)):
        found.setdefault(key, []).append(numbers(vector))
    return found


def _by_key(
    connection: sa.Connection, columns: Columns, wanted: Sequence[str], *, tables: Tables, most: int | None
) -> dict[str, list[Vectors]]:
    """Reads the vectors of these rows, until there are ``most`` of them."""
    found: dict[str, list[Vectors]] = {}
    count = 0
    for batch in _batches(wanted):
        if most is not None and count >= most:
            break
        table = keys.key_table(batch, len(tables.chunk_key))
        statement = columns.join(table, keys.matches_key_table(table, tables.chunk_key))
        for key, vector in connection.execute(statement):
            found.setdefault(key, []).append(numbers(vector))
            count += 1
    return found


def _columns(tables: Tables, chunks: sa.FromClause) -> Columns:
    """Selects key and vector as text: a text is read in a quarter of the time that pgvector's own type takes."""
    key, vector = keys.as_text(tables.chunk_key).label("key"), sa.cast(tables.chunks.c.vector, sa.Text)
    return sa.select(key, vector).select_from(chunks).order_by(key, tables.chunks.c.ordinal)


def _random(connection: sa.Connection, index: BoundIndex[Any], *, where: Where, seed: int) -> Iterable[str]:
    """Returns the keys of random rows: the first ones in the order of a hash of their keys. Scans all receipts."""
    tables = index.tables
    key = keys.as_text(tables.receipt_key)
    order = seeds.order(key, seed)
    receipts = passages.of_rows(index, tables.receipts, key=tables.receipt_key, where=where)
    return connection.scalars(sa.select(key).select_from(receipts).order_by(order, key).limit(_RANDOM)).all()


def _nearest(session: orm.Session, index: BoundIndex[T], queries: Vectors, *, where: Where) -> Iterator[str]:
    """Yields the keys of the rows nearest to each query, found through the vector index."""
    limit = min(_NEAREST, max(10, (MOST - _RANDOM) // max(1, len(queries))))
    key = keys.as_text(index.tables.source_key)
    for vector in (one for one in queries if one.any()):  # nothing is near to zeros
        nearest = statements.knn(index, vector, limit=limit).where(*where)
        yield from session.scalars(nearest.with_only_columns(key, maintain_column_froms=True))


def _batches(wanted: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(wanted), _KEYS):
        yield wanted[start : start + _KEYS]


def numbers(text: str) -> Vectors:
    """Reads a vector that was selected as text."""
    return np.fromstring(text[1:-1], np.float32, sep=",")


def of_rows(found: dict[str, list[Vectors]], *, is_sample: bool) -> StoredVectors:
    """Puts the vectors of rows together, and scales them to unit length. Empties ``found``, to save memory."""
    names = sorted(found)
    counts = [len(found[name]) for name in names]
    starts = np.cumsum([0, *counts[:-1]]) if names else np.zeros(0, np.int64)
    every = [vector for name in names for vector in found.pop(name)]
    vectors = np.stack(every) if every else np.zeros((0, 0), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(_LEAST_LENGTH)
    return StoredVectors(tuple(names), starts.astype(np.int64), vectors, is_sample)
