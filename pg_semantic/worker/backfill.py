"""Backfill: creates a job for every row that may need one, page by page, and resumes where it stopped.

The first backfill covers all rows. A later one compares: rows that match their receipt get no job, and whatever is
stored for rows that are gone is deleted. This is how a table is reconciled after changes that bypassed its triggers.
"""

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, jobqueue, registry, sql
from pg_semantic.database import transaction
from pg_semantic.index import chunk_tables, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.key_range import KeyRange
from pg_semantic.worker import compare_text_hashes, orphans, policy_column

PAGE_ROWS = 2_000


class Backfill:
    """The backfills of one worker. Not thread-safe.

    Args:
        engine: The worker's engine.
        first_rows: Rows in the first page that is compared. Doubles after a fast page, halves after a slow one.
        page_seconds: From when on a page is slow.
    """

    def __init__(self, engine: sa.Engine, *, first_rows: int = 250, page_seconds: float = 0.5) -> None:
        self._engine = engine
        self._first_rows, self._page_seconds = first_rows, page_seconds
        self._not_before: dict[int, float] = {}
        self._rows: dict[int, int] = {}

    def advance(self, tables: Tables, generation_id: int) -> None:
        """Processes the next page, then rests for as long as that page took.

        Does nothing while it rests. Pages have fewer rows where texts are long. Never waits for a lock: if the table is
        locked, the next call tries the same page again.

        Raises:
            sqlalchemy.exc.DBAPIError: The database failed. A timeout is ignored unless the page was one row, because
                the next page is smaller.
        """
        started = time.monotonic()
        if started < self._not_before.get(generation_id, 0.0):
            return
        rows = self._rows.get(generation_id, min(self._first_rows, PAGE_ROWS))
        done = False
        try:
            done = advance(self._engine, tables, generation_id, rows=rows)
        except exc.DBAPIError as error:
            if not database.is_canceled(error) or rows == 1:
                raise
        ended = time.monotonic()
        self._not_before[generation_id] = ended + (ended - started)
        is_slow = ended - started > self._page_seconds
        self._rows[generation_id] = max(1, rows // 2) if is_slow else min(2 * rows, PAGE_ROWS)
        if done:  # the next one may compare texts, which a first one doesn't read
            del self._rows[generation_id]


def advance(engine: sa.Engine, tables: Tables, generation_id: int, *, rows: int | None = None) -> bool:
    """Enqueues the next page of rows, in key order.

    Never waits for a lock: if the table is locked, the next call tries the same page again.

    Args:
        engine: The worker's engine.
        tables: The tables of the generation.
        generation_id: The generation to backfill.
        rows: The page size if texts are compared, `PAGE_ROWS` by default. The first backfill reads no text and ignores
            this.

    Returns:
        Whether there is nothing left to enqueue, or another worker has this backfill.
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
        return True  # done, or another worker has it
    if not state.again:
        rows = PAGE_ROWS  # a first backfill reads no text
    page = list(connection.scalars(_page(tables, state.backfill_after, rows)))
    done = len(page) < rows
    part = KeyRange(state.backfill_after, None if done else page[-1])
    gone = orphans.sweep(connection, tables, part, rows=PAGE_ROWS)
    if len(gone) >= PAGE_ROWS:  # there may be more, in one of the two tables
        page, wanted, done = [], gone, False
    else:
        select = _changed if state.again else _unsynced
        wanted = [*connection.scalars(select(tables, part, generation_id)), *gone]
    policy_column.follow(connection, tables, part.of)
    registry.require_named(connection, tables)
    jobqueue.enqueue(connection, generation_id, wanted, voids=state.again or bool(gone))
    last = page[-1] if page else state.backfill_after
    binds = {"generation": generation_id, "after": last, "done": done, "rows": len(page)}
    connection.execute(sql.statement("registry", "advance_backfill"), binds)
    return done


def _page(tables: Tables, after: str | None, rows: int) -> "sa.Select[str]":
    key = tables.source_key
    return sa.select(keys.as_text(key)).where(KeyRange(after, None).of(key)).order_by(*key).limit(rows)


def _unsynced(tables: Tables, part: KeyRange, generation_id: int) -> "sa.Select[str]":
    """Selects rows of a range that were never synced and that no worker is processing because of an edit."""
    return _with_receipts(tables).where(
        part.of(tables.source_key), tables.receipts.c.source_hash.is_(None), ~_is_claimed(tables, generation_id)
    )


def _changed(tables: Tables, part: KeyRange, generation_id: int) -> "sa.Select[str]":
    """Selects rows of a range whose text differs from the synced text, or whose chunks are missing.

    Doesn't read the text of rows that were never synced. Includes rows that a worker is processing, because it may have
    read an intermediate text that bypassed the triggers.
    """
    stored: sa.ColumnElement[Any] = tables.receipts.c.source_hash
    digest = chunk_tables.source_hash(chunk_tables.text_of(tables.spec, tables.source))
    lost = compare_text_hashes.lacks_chunks(tables)
    differs = sa.or_(stored.is_(None), stored != digest, lost, _is_claimed(tables, generation_id))
    return _with_receipts(tables).where(part.of(tables.source_key), differs)


def _is_claimed(tables: Tables, generation_id: int) -> sa.ColumnElement[bool]:
    jobs = compare_text_hashes.JOBS.c
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
