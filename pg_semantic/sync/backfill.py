"""Backfill: every row that was there before the semantic index gets a job, page by page, from where it stopped."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import jobqueue, keys, sql
from pg_semantic.schema import Tables
from pg_semantic.sync import transaction

PAGE_ROWS = 2_000


def advance(engine: sa.Engine, tables: Tables, generation_id: int) -> bool:
    """Enqueues the next page in key order; returns whether all is enqueued.

    Waits for nobody: a page of a table that is locked is tried again at the next call.
    """
    try:
        with transaction.begin(engine) as connection:
            return _advance(connection, tables, generation_id)
    except exc.DBAPIError as error:
        if not transaction.is_busy(error):
            raise
        return False


def _advance(connection: sa.Connection, tables: Tables, generation_id: int) -> bool:
    state = connection.execute(sql.statement("registry", "lock_backfill"), {"generation": generation_id}).one_or_none()
    if state is None:
        return True  # done, or in the hands of another worker
    page = list(connection.scalars(_page(tables, state.backfill_after)))
    jobqueue.enqueue(connection, generation_id, page)
    done = len(page) < PAGE_ROWS
    connection.execute(
        sql.statement("registry", "advance_backfill"),
        {"generation": generation_id, "after": page[-1] if page else state.backfill_after, "done": done},
    )
    return done


def _page(tables: Tables, after: str | None) -> "sa.Select[str]":
    key = tables.source_key
    statement = sa.select(keys.as_text(key)).order_by(*key).limit(PAGE_ROWS)
    if after is None:
        return statement
    parts: list[sa.ColumnElement[Any]] = [
        sa.cast(part, column.type) for part, column in zip(keys.split(after, len(key)), key, strict=True)
    ]
    return statement.where(sa.tuple_(*key) > sa.tuple_(*parts))
