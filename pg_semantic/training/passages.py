"""Reads the texts of passages, which training needs in memory and never writes: `read`."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic.index import keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker

Passage: TypeAlias = tuple[str, int]
"""The key of a row as text, and the ordinal of one of its chunks."""

_KEYS = 1_000  # rows read by one statement


def read(session: orm.Session, index: BoundIndex[Any], wanted: Iterable[Passage]) -> dict[Passage, str]:
    """Returns the texts of passages, as they were encoded. Leaves out those that are not there any more.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index, bound to the tables of its live generation.
        wanted: The passages.
    """
    passages = set(wanted)
    rows = sorted({key for key, _ in passages})
    connection, tables = generation_tracker.connect(session, index), index.tables
    found: dict[Passage, str] = {}
    for start in range(0, len(rows), _KEYS):
        batch = set(rows[start : start + _KEYS])
        ordinals = {ordinal for key, ordinal in passages if key in batch}
        table = keys.key_table(sorted(batch), len(tables.chunk_key))
        chunks = tables.chunks.c
        statement = (
            sa.select(keys.as_text(tables.chunk_key), chunks.ordinal, chunks.content)
            .select_from(tables.chunks)
            .join(table, keys.matches_key_table(table, tables.chunk_key))
            .where(chunks.ordinal.in_(ordinals))
        )
        found |= {(key, ordinal): text for key, ordinal, text in connection.execute(statement)}
    return {passage: found[passage] for passage in passages if passage in found}
