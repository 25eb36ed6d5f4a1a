"""Backfill: every row gets a job that may need one, page by page, from where it stopped.

The first time these are all rows. Later it compares: rows whose receipt is right get none, and what is stored of rows
that are gone is deleted. That is how a table is reconciled that was changed past its triggers.
"""

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import jobqueue, keys, registry, schema, sql
from pg_semantic.schema import Tables
from pg_semantic.sync import carried, orphans, transaction
from pg_semantic.sync.paging import Range

PAGE_ROWS = 2_000


class Backfill:
    """The backfills of one worker; for one thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._not_before: dict[int, float] = {}

    def advance(self, tables: Tables, generation_id: int) -> None:
        """Takes the next page, unless the last one was a moment ago: between pages, it rests for as long as one took.

        Waits for nobody: a page of a table that is locked is tried again at the next call.
        """
        started = time.monotonic()
        if started >= self._not_before.get(generation_id, 0.0):
            advance(self._engine, tables, generation_id)
            ended = time.monotonic()
            self._not_before[generation_id] = ended + (ended - started)


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
    done = len(page) < PAGE_ROWS
    part = Range(state.backfill_after, None if done else page[-1])
    gone = orphans.sweep(connection, tables, part, rows=PAGE_ROWS)
    if len(gone) == PAGE_ROWS:  # there may be more
        page, wanted, done = [], gone, False
    else:
        wanted = [*(connection.scalars(_changed(tables, part)) if state.again else page), *gone]
    carried.follow(connection, tables, part.of)
    registry.require_named(connection, tables)
    jobqueue.enqueue(connection, generation_id, wanted)
    last = page[-1] if page else state.backfill_after
    binds = {"generation": generation_id, "after": last, "done": done, "rows": len(page)}
    connection.execute(sql.statement("registry", "advance_backfill"), binds)
    return done


def _page(tables: Tables, after: str | None) -> "sa.Select[str]":
    key = tables.source_key
    return sa.select(keys.as_text(key)).where(Range(after, None).of(key)).order_by(*key).limit(PAGE_ROWS)


def _changed(tables: Tables, part: Range) -> "sa.Select[str]":
    """Rows of a range whose text is not the one that was synced; where none was, the text is not read."""
    stored: sa.ColumnElement[Any] = tables.receipts.c.source_hash
    same_row = (a == b for a, b in zip(tables.receipt_key, tables.source_key, strict=True))
    digest = schema.source_hash(schema.text_of(tables.spec, tables.source))
    return (
        sa.select(keys.as_text(tables.source_key))
        .select_from(tables.source)
        .outerjoin(tables.receipts, sa.and_(*same_row))
        .where(part.of(tables.source_key), sa.or_(stored.is_(None), stored != digest))
    )
