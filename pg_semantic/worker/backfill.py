"""Backfill: every row gets a job that may need one, page by page, from where it stopped.

The first time these are all rows. Later it compares: rows whose receipt is right get none, and what is stored of rows
that are gone is deleted. That is how a table is reconciled that was changed past its triggers.
"""

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, jobqueue, registry, sql
from pg_semantic.database import transaction
from pg_semantic.index import chunk_tables, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.worker import comparison, orphans, policy_column
from pg_semantic.worker.key_ranges import KeyRange

PAGE_ROWS = 2_000

_FIRST_ROWS = 250  # then twice as many while pages are quick, and half as many after one that was slow
_PAGE_SECONDS = 0.5
_QUERY_CANCELED = "57014"


class Backfill:
    """The backfills of one worker; for one thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._not_before: dict[int, float] = {}
        self._rows: dict[int, int] = {}

    def advance(self, tables: Tables, generation_id: int) -> None:
        """Takes the next page, unless the last one was a moment ago: between pages, it rests for as long as one took.

        Where texts are long, a page has fewer rows. Waits for nobody: a page of a table that is locked is tried again
        at the next call.
        """
        started = time.monotonic()
        if started < self._not_before.get(generation_id, 0.0):
            return
        rows = self._rows.get(generation_id, min(_FIRST_ROWS, PAGE_ROWS))
        try:
            advance(self._engine, tables, generation_id, rows=rows)
        except exc.DBAPIError as error:
            if database.sqlstate(error) != _QUERY_CANCELED or rows == 1:
                raise
        ended = time.monotonic()
        self._not_before[generation_id] = ended + (ended - started)
        is_slow = ended - started > _PAGE_SECONDS
        self._rows[generation_id] = max(1, rows // 2) if is_slow else min(2 * rows, PAGE_ROWS)


def advance(engine: sa.Engine, tables: Tables, generation_id: int, *, rows: int | None = None) -> bool:
    """Enqueues the next page in key order, of so many rows if texts are compared; returns whether all is enqueued.

    Waits for nobody: a page of a table that is locked is tried again at the next call.
    """
    try:
        with transaction.begin(engine) as connection:
            return _advance(connection, tables, generation_id, rows=rows or PAGE_ROWS)
    except exc.DBAPIError as error:
        if not transaction.is_busy(error):
            raise
        return False


def _advance(connection: sa.Connection, tables: Tables, generation_id: int, *, rows: int) -> bool:
    state = connection.execute(sql.statement("registry", "lock_backfill"), {"generation": generation_id}).one_or_none()
    if state is None:
        return True  # done, or in the hands of another worker
    if not state.again:
        rows = PAGE_ROWS  # no text is read
    page = list(connection.scalars(_page(tables, state.backfill_after, rows)))
    done = len(page) < rows
    part = KeyRange(state.backfill_after, None if done else page[-1])
    gone = orphans.sweep(connection, tables, part, rows=PAGE_ROWS)
    if len(gone) == PAGE_ROWS:  # there may be more
        page, wanted, done = [], gone, False
    else:
        select = _changed if state.again else _unsynced
        wanted = [*connection.scalars(select(tables, part, generation_id)), *gone]
    policy_column.follow(connection, tables, part.of)
    registry.require_named(connection, tables)
    jobqueue.enqueue(connection, generation_id, wanted)
    last = page[-1] if page else state.backfill_after
    binds = {"generation": generation_id, "after": last, "done": done, "rows": len(page)}
    connection.execute(sql.statement("registry", "advance_backfill"), binds)
    return done


def _page(tables: Tables, after: str | None, rows: int) -> "sa.Select[str]":
    key = tables.source_key
    return sa.select(keys.as_text(key)).where(KeyRange(after, None).of(key)).order_by(*key).limit(rows)


def _unsynced(tables: Tables, part: KeyRange, generation_id: int) -> "sa.Select[str]":
    """Rows of a range that no worker has synced or is at, as one is at those that were edited since the begin."""
    return _with_receipts(tables).where(
        part.of(tables.source_key), tables.receipts.c.source_hash.is_(None), ~_in_hand(tables, generation_id)
    )


def _changed(tables: Tables, part: KeyRange, generation_id: int) -> "sa.Select[str]":
    """Rows of a range whose text is not the one that was synced, or whose chunks are not there.

    Where none was synced, the text is not read.

    Also those that a worker is at: it may have read a text that was there in between, past the triggers.
    """
    stored: sa.ColumnElement[Any] = tables.receipts.c.source_hash
    digest = chunk_tables.source_hash(chunk_tables.text_of(tables.spec, tables.source))
    lost = comparison.lacks_chunks(tables)
    differs = sa.or_(stored.is_(None), stored != digest, lost, _in_hand(tables, generation_id))
    return _with_receipts(tables).where(part.of(tables.source_key), differs)


def _in_hand(tables: Tables, generation_id: int) -> sa.ColumnElement[bool]:
    jobs = comparison.JOBS.c
    return sa.exists().where(
        jobs.generation_id == generation_id, jobs.key == keys.as_text(tables.source_key), jobs.state == "processing"
    )


def _with_receipts(tables: Tables) -> "sa.Select[str]":
    same_row = (a == b for a, b in zip(tables.receipt_key, tables.source_key, strict=True))
    return (
        sa.select(keys.as_text(tables.source_key))
        .select_from(tables.source)
        .outerjoin(tables.receipts, sa.and_(*same_row))
    )
