"""Backfill: every row that was there before the semantic index gets a job, page by page, from where it stopped."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, jobqueue, keys, sql
from pg_semantic.schema import Tables

PAGE_ROWS = 10_000
# Keys are written as text as the capture function writes them; and writers are not kept waiting.
_SETTINGS = (
    "SET LOCAL lock_timeout = '200ms'",
    "SET LOCAL datestyle = 'ISO'",
    "SET LOCAL timezone = 'UTC'",
    "SET LOCAL bytea_output = 'hex'",
)
_LOCK_NOT_AVAILABLE = "55P03"


def advance(engine: sa.Engine, tables: Tables, generation_id: int) -> bool:
    """Enqueues the next page in key order; returns whether all is enqueued.

    Gives way to writers: a page that would wait for one is tried again at the next call.
    """
    try:
        with engine.begin() as connection:
            for setting in _SETTINGS:
                connection.execute(sa.text(setting))
            return _advance(connection, tables, generation_id)
    except exc.DBAPIError as error:
        if database.sqlstate(error) != _LOCK_NOT_AVAILABLE:
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
