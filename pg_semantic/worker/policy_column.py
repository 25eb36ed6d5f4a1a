"""Keeps the carried column of chunks and receipts, which policies compare, equal to the column in their row.

A foreign key normally does that (see `IndexSpec.carried`). It doesn't if logical replication, or a session whose
session_replication_role is replica, changes the row; nor while foreign keys are missing, nor in a table that an index
was moved to.
"""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from pg_semantic.index import keys
from pg_semantic.index.chunk_tables import Tables

Condition = Callable[[Sequence[sa.ColumnElement[Any]]], sa.ColumnElement[bool]]


def differs(tables: Tables, table: sa.Table) -> sa.ColumnElement[bool]:
    """Returns the condition that a chunk or receipt has another value than its row, compared byte by byte as text."""
    if tables.spec.carried is None:
        return sa.false()
    columns = (keys.column(one, tables.spec.carried) for one in (table, tables.source))
    ours, theirs = (sa.collate(sa.cast(column, sa.Text), "C") for column in columns)
    return ours.is_distinct_from(theirs)


def follow(connection: sa.Connection, tables: Tables, where: Condition) -> None:
    """Copies the column from the source to the chunks and receipts whose key meets a condition.

    Locks the source rows first, and so waits for concurrent changes to them, for as long as for any lock.
    """
    if (name := tables.spec.carried) is None:
        return
    for table, key in ((tables.receipts, tables.receipt_key), (tables.chunks, tables.chunk_key)):
        same_row = sa.and_(*(a == b for a, b in zip(tables.source_key, key, strict=True)))
        there = (
            sa.select(keys.column(tables.source, name).label("carried"), *_labeled(tables.source_key))
            .join_from(table, tables.source, same_row)
            .where(where(key), differs(tables, table))
            .with_for_update(key_share=True, read=True, of=tables.source)
            .cte("there")
        )
        found = (own == there.c[f"key_{number}"] for number, own in enumerate(key))
        connection.execute(sa.update(table).values({name: there.c.carried}).where(*found))


def of_keys(row_keys: Sequence[str]) -> Condition:
    """Returns the condition that a key is one of these."""
    return lambda key: keys.matches_key_table(keys.key_table(row_keys, len(key)), key)


def _labeled(key: Sequence[sa.ColumnElement[Any]]) -> list[sa.Label[Any]]:
    return [column.label(f"key_{number}") for number, column in enumerate(key)]
