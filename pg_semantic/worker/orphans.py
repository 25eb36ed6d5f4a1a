"""Deletes chunks and receipts whose row is gone, where no foreign key deleted them.

Deletes by logical replication, or by a session whose session_replication_role is replica, fire no foreign key. And
foreign keys can be dropped, as DROP TABLE ... CASCADE of a partition does.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from pg_semantic import registry
from pg_semantic.index import keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.key_range import KeyRange
from pg_semantic.worker import compare_text_hashes


def delete(connection: sa.Connection, tables: Tables, row_keys: Sequence[str]) -> None:
    """Deletes what is stored for those of the rows that are gone. Hold their jobs, so that no worker writes to them."""
    if not row_keys:
        return
    for table, key in _stored(tables):
        wanted = keys.key_table(row_keys, len(key))
        connection.execute(
            sa.delete(table).where(keys.matches_key_table(wanted, key), compare_text_hashes.without_row(tables, key))
        )
    registry.require_named(connection, tables)


def sweep(connection: sa.Connection, tables: Tables, part: KeyRange, *, rows: int) -> list[str]:
    """Deletes what is stored for rows that are gone, up to ``rows`` keys of a range in each table.

    A row with such a key may return meanwhile: create a job for each key in the same transaction.

    Returns:
        The keys of these rows, sorted.
    """
    found: set[str] = set()
    for table, key in _stored(tables):
        missing = compare_text_hashes.without_row(tables, key)
        gone = sa.select(*key).where(part.of(key), missing).distinct().limit(rows).subquery("gone")
        doomed = sa.delete(table).where(*(column == gone.c[column.name] for column in key), missing)
        found.update(connection.scalars(doomed.returning(keys.as_text(key))))
    return sorted(found)


def _stored(tables: Tables) -> Iterator[tuple[sa.Table, list[sa.Column[Any]]]]:
    yield tables.receipts, tables.receipt_key
    yield tables.chunks, tables.chunk_key
