"""Backfill: finds the rows without a job that may need one, page by page in key order, and resumes where it stopped.

In a first backfill, a worker takes a page when it has nothing better to do. A later one compares, alongside other work:
rows that match their receipt get no job. That is how a table is reconciled after changes that bypassed its triggers.
"""

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, jobqueue, registry, sql
from pg_semantic.database import transaction
from pg_semantic.index import chunk_tables, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.key_range import KeyRange
from pg_semantic.jobqueue import Claim
from pg_semantic.worker import compare_text_hashes, orphans, policy_column

PAGE_ROWS = 2_000
_JOBS = compare_text_hashes.JOBS


class Backfill:
    """The later backfills of one worker, which compare. Not thread-safe.

    Args:
        engine: The worker's engine.
        first_rows: Rows in the first page. Doubles after a fast page, halves after a slow one.
        page_seconds: From when on a page is slow.
    """

    def __init__(self, engine: sa.Engine, *, first_rows: int = 250, page_seconds: float = 0.5) -> None:
        self._engine = engine
        self._first_rows, self._page_seconds = first_rows, page_seconds
        self._not_before: dict[int, float] = {}
        self._rows: dict[int, int] = {}

    def advance(self, tables: Tables, generation_id: int) -> None:
        """Compares the next page, then rests for as long as that page took.

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
        if done:
            del self._rows[generation_id]


def advance(engine: sa.Engine, tables: Tables, generation_id: int, *, rows: int = PAGE_ROWS) -> bool:
    """Compares the next page of rows with what is stored, in key order, and enqueues those that differ.

    Never waits for a lock: if the table is locked, the next call tries the same page again.

    Args:
        engine: The worker's engine.
        tables: The tables of the generation.
        generation_id: The generation to backfill.
        rows: The page size.

    Returns:
        Whether there is nothing left to compare, or another worker has this backfill.
    """
    try:
        with transaction.begin(engine) as connection:
            page = _next_page(connection, tables, generation_id, rows=rows, first=False)
            if page is None:
                return True
            if page.range is not None:
                changed = list(connection.scalars(_changed(tables, page.range, generation_id)))
                jobqueue.enqueue(connection, generation_id, changed)
            return page.is_last
    except exc.DBAPIError as error:
        if not transaction.is_busy(error):
            raise
        return False


def claim(engine: sa.Engine, tables: Tables, generation_id: int, *, rows: int, lease_seconds: float) -> Claim | None:
    """Claims the next rows of a first backfill: of a page in key order, those that were never synced and have no job.

    Creates their jobs claimed, in a transaction that ends before anyone reads their text, so that an edit voids the
    claim from then on. The queue never holds more rows of a first backfill than workers have claimed.

    Args:
        engine: The worker's engine.
        tables: The tables of the generation.
        generation_id: The generation to backfill.
        rows: The page size.
        lease_seconds: How long the claim is valid without a heartbeat.

    Returns:
        The claim, without jobs if the page has no such row. None if no page is left, or another worker takes one.
    """
    with transaction.begin(engine, by_index=True) as connection:
        page = _next_page(connection, tables, generation_id, rows=rows, first=True)
        if page is None or page.range is None:
            return None
        unsynced = _unsynced(tables, page.range, generation_id)
        return jobqueue.enqueue_claimed(connection, generation_id, unsynced, lease_seconds=lease_seconds)


@dataclass(frozen=True, slots=True)
class _Page:
    """The next rows. Without a range, too much is stored for rows that are gone: the same rows come next again."""

    range: KeyRange | None
    is_last: bool


def _next_page(
    connection: sa.Connection, tables: Tables, generation_id: int, *, rows: int, first: bool
) -> _Page | None:
    """Moves a backfill on by a page, after deleting what is stored for rows of the page that are gone.

    Returns:
        The page. None if there is no such backfill, a first or a later one, or another worker has it.
    """
    binds = {"generation": generation_id, "first": first}
    state = connection.execute(sql.statement("registry", "lock_backfill"), binds).one_or_none()
    if state is None:
        return None
    after: str | None = state.backfill_after
    last = connection.scalar(_last(tables, after, rows))
    part = KeyRange(after, last)
    gone = orphans.sweep(connection, tables, part, rows=PAGE_ROWS)
    jobqueue.enqueue(connection, generation_id, gone)
    policy_column.follow(connection, tables, part.of)
    registry.require_named(connection, tables)
    if len(gone) >= PAGE_ROWS:  # there may be more, in one of the two tables
        return _Page(None, is_last=False)
    read = rows if last is not None else connection.scalar(_rows(tables, part))
    moved = {"generation": generation_id, "after": after if last is None else last, "done": last is None, "rows": read}
    connection.execute(sql.statement("registry", "advance_backfill"), moved)
    return _Page(part, is_last=last is None)


def _last(tables: Tables, after: str | None, rows: int) -> "sa.Select[str]":
    """Selects the last key of a page; nothing if fewer rows are left."""
    key = tables.source_key
    return sa.select(keys.as_text(key)).where(KeyRange(after, None).of(key)).order_by(*key).offset(rows - 1).limit(1)


def _unsynced(tables: Tables, part: KeyRange, generation_id: int) -> "sa.Select[str]":
    """Selects rows of a range that were never synced and have no job."""
    return _with_receipts(tables).where(
        part.of(tables.source_key), tables.receipts.c.source_hash.is_(None), ~_has_job(tables, generation_id)
    )


def _rows(tables: Tables, part: KeyRange) -> "sa.Select[int]":
    return sa.select(sa.func.count()).select_from(tables.source).where(part.of(tables.source_key))


def _changed(tables: Tables, part: KeyRange, generation_id: int) -> "sa.Select[str]":
    """Selects rows of a range whose text differs from the synced text, or whose chunks are missing.

    Doesn't read the text of rows that were never synced. Includes rows that a worker is processing, because it may have
    read an intermediate text that bypassed the triggers.
    """
    stored: sa.ColumnElement[Any] = tables.receipts.c.source_hash
    digest = chunk_tables.source_hash(chunk_tables.text_of(tables.spec, tables.source))
    lost = compare_text_hashes.lacks_chunks(tables)
    claimed = _has_job(tables, generation_id, _JOBS.c.state == "processing")
    differs = sa.or_(stored.is_(None), stored != digest, lost, claimed)
    return _with_receipts(tables).where(part.of(tables.source_key), differs)


def _has_job(tables: Tables, generation_id: int, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    same_row = _JOBS.c.key == keys.as_text(tables.source_key)
    return sa.exists().where(_JOBS.c.generation_id == generation_id, same_row, *conditions)


def _with_receipts(tables: Tables) -> "sa.Select[str]":
    same_row = (a == b for a, b in zip(tables.receipt_key, tables.source_key, strict=True))
    return (
        sa.select(keys.as_text(tables.source_key))
        .select_from(tables.source)
        .outerjoin(tables.receipts, sa.and_(*same_row))
    )
