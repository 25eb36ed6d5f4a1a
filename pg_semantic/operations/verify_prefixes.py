"""Checks that prefixes are those of their vectors, on a sample of chunks, and computes all of them again.

A wrong prefix hides a row from searches, or shows it to the second stage in vain. Its vector is right, so nothing has
to be encoded again.
"""

import numpy as np
import sqlalchemy as sa

from pg_semantic.database import transaction
from pg_semantic.index import keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.recall import random_chunks
from pg_semantic.registry import Generation
from pg_semantic.worker import key_ranges, prefixes
from pg_semantic.worker.prefixes import Basis

SAMPLE = 1_000
_PAGE_CHUNKS = 1_000
_TIMEOUT = "10min"  # to pick the sample, which reads all keys
_TOLERANCE = 0.005  # of a prefix of length 1: rounding to 16 bits, and sums in another order


def wrong(engine: sa.Engine, generation: Generation, *, sample: int = SAMPLE) -> int:
    """Returns how many chunks of a random sample have a wrong prefix, with all chunks that lack one.

    A chunk lacks a prefix only after all chunks had one.

    Args:
        engine: Connects to the database.
        generation: The generation.
        sample: How many chunks to compare. Picking them reads all keys.
    """
    if generation.spec.prefix is None:
        return 0
    tables = generation.tables
    with transaction.begin(engine, statement_timeout=_TIMEOUT) as connection:
        basis = prefixes.read(connection, generation.id)
        if basis is None or not prefixes.are_filled(connection, generation.id):
            return 0
        chunks = tables.chunks.c
        lacking = connection.scalar(
            sa.select(sa.func.count()).select_from(tables.chunks).where(chunks.prefix.is_(None))
        )
        picked = random_chunks.picked(tables, sample=sample, seed=0).add_columns(keys.as_text(_place(tables)))
        places = [row[-1] for row in connection.execute(picked)]
        some = keys.key_table(places, len(_place(tables)))
        statement = _compared(tables).join(some, keys.matches_key_table(some, _place(tables)))
        return (lacking or 0) + len(_wrong_ones(connection, statement, basis))


def correct(engine: sa.Engine, generation: Generation) -> int:
    """Computes the prefixes of all chunks again, page by page, and writes those that are wrong. Returns how many."""
    if generation.spec.prefix is None:
        return 0
    tables, count = generation.tables, 0
    place = _place(tables)
    with transaction.begin(engine) as connection:
        basis = prefixes.read(connection, generation.id)
    if basis is None:
        return 0
    for part in key_ranges.ranges(engine, place, rows=_PAGE_CHUNKS):
        count += _correct_page(engine, tables, basis, page=_compared(tables, lacking=True).where(part.of(place)))
    return count


@transaction.retried
def _correct_page(engine: sa.Engine, tables: Tables, basis: Basis, *, page: "sa.Select[str, str, str]") -> int:
    with transaction.begin(engine) as connection:
        found = _wrong_ones(connection, page.with_for_update(key_share=True), basis)
        if found:
            prefixes.write(connection, tables, basis, chunks=found)
    return len(found)


def _compared(tables: Tables, *, lacking: bool = False) -> "sa.Select[str, str, str]":
    """Selects the keys, vectors and prefixes of chunks, as text."""
    chunks = tables.chunks.c
    columns = (keys.as_text(_place(tables)), sa.cast(chunks.vector, sa.Text), sa.cast(chunks.prefix, sa.Text))
    statement = sa.select(*columns).select_from(tables.chunks)
    return statement if lacking else statement.where(chunks.prefix.is_not(None))


def _wrong_ones(
    connection: sa.Connection, statement: "sa.Select[str, str, str]", basis: Basis
) -> list[tuple[str, prefixes.Vector]]:
    """Returns the keys and vectors of those chunks whose prefix is not that of the vector."""
    rows = connection.execute(statement).all()
    if not rows:
        return []
    vectors = np.array([prefixes.numbers(row[1]) for row in rows])
    right = basis.prefixes(vectors).astype(np.float32)
    none = np.full(len(right[0]), np.inf, np.float32)
    stored = np.array([prefixes.numbers(row[2]) if row[2] else none for row in rows])
    off = np.abs(stored - right).max(axis=1) > _TOLERANCE
    return [(row[0], vector) for row, vector, is_off in zip(rows, vectors, off, strict=True) if is_off]


def _place(tables: Tables) -> list[sa.Column[int]]:
    return [*tables.chunk_key, tables.chunks.c.ordinal]
