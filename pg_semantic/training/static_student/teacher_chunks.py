"""Reads what a student learns from: the texts of chunks, and the vectors that the index stores for them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic.encoders.base import Vectors
from pg_semantic.index import keys, seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker
from pg_semantic.search.legs import Where
from pg_semantic.training import passages
from pg_semantic.training.query_side import stored_vectors
from pg_semantic.training.query_side.stored_vectors import StoredVectors

_FETCHED = 1_000  # chunks at a time
_HASHES = 1 << 31


@dataclass(frozen=True, slots=True)
class TeacherChunks:
    """Chunks with their stored vectors, those of a row one after the other.

    Attributes:
        stored: The vectors.
        texts: The text of each chunk, as it was encoded, in the order of the vectors.
    """

    stored: StoredVectors
    texts: tuple[str, ...]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The number of each chunk's row, shape (chunks,)."""
        ends = np.append(self.stored.starts[1:], len(self.texts))
        return np.repeat(np.arange(len(self.stored.starts)), ends - self.stored.starts)


def read(session: orm.Session, index: BoundIndex[Any], *, most: int, seed: int, where: Where = ()) -> TeacherChunks:
    """Reads the chunks of an index, or those of random rows if there are more than ``most``.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index, bound to the tables of its live generation.
        most: About how many chunks to read at most.
        seed: Chooses the random rows, by a hash of their keys.
        where: Conditions on the rows.
    """
    connection, tables = generation_tracker.connect(session, index), index.tables
    chosen = passages.of_rows(index, tables.chunks, key=tables.chunk_key, where=where)
    count = connection.scalar(sa.select(sa.func.count()).select_from(chosen)) or 0
    chunks, key = tables.chunks.c, keys.as_text(tables.chunk_key)
    columns = sa.select(key, chunks.content, sa.cast(chunks.vector, sa.Text))
    statement = columns.select_from(chosen).order_by(key, chunks.ordinal)
    if count > most:
        hashed = seeds.order(key, seed).op("&")(_HASHES - 1)
        statement = statement.where(hashed < int(_HASHES * most / count))
    texts: dict[str, list[str]] = {}
    vectors: dict[str, list[Vectors]] = {}
    for name, text, vector in connection.execute(statement.execution_options(yield_per=_FETCHED)):
        texts.setdefault(name, []).append(text)
        vectors.setdefault(name, []).append(stored_vectors.numbers(vector))
    stored = stored_vectors.of_rows(vectors, is_sample=count > most)
    return TeacherChunks(stored, tuple(text for name in stored.keys for text in texts[name]))
