"""Reads the stored chunks of rows."""

from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sa

from pg_semantic.index import keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.worker.chunk_diff import StoredChunk


def read(connection: sa.Connection, tables: Tables, row_keys: Sequence[str]) -> dict[str, list[StoredChunk]]:
    """Returns the stored chunks of rows, by key, in order of their ordinals.

    OFFSET makes the server look up the chunks of each row by themselves. Before the first ANALYZE of a growing table, a
    join would read all of it.
    """
    if not row_keys:
        return {}
    wanted = keys.key_table(row_keys, len(tables.spec.key))
    chunks = tables.chunks.c
    of_row = (
        sa.select(chunks.ordinal, chunks.content_hash, chunks.truncated)
        .where(keys.matches_key_table(wanted, tables.chunk_key))
        .correlate(wanted)
        .offset(0)
        .lateral()
    )
    statement = (
        sa.select(wanted.c.key, *of_row.c).join_from(wanted, of_row, sa.true()).order_by(wanted.c.key, of_row.c.ordinal)
    )
    found: dict[str, list[StoredChunk]] = defaultdict(list)
    for key, ordinal, content_hash, truncated in connection.execute(statement):
        found[key].append(StoredChunk(ordinal, bytes(content_hash), truncated))
    return found
