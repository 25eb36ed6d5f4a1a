"""The write stage: writes changed chunks in short transactions that first make sure the chunks are still wanted.

The order makes a stale vector impossible: (1) lock the jobs that are still as claimed, so that no newer version can
slip in before the commit; (2) lock the source rows against deletion; (3) write; (4) finish the jobs. Nothing waits:
jobs and rows that are locked are left for later.
"""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from pg_semantic import database, jobqueue, registry
from pg_semantic.database import transaction
from pg_semantic.index import bm25_expressions, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.jobqueue import Claim, Job
from pg_semantic.settings import Settings
from pg_semantic.worker import copy_rows, failure_isolation, orphans, policy_column, prefixes, stored_chunks
from pg_semantic.worker.batch import Batch, BatchRow
from pg_semantic.worker.chunk_diff import StoredChunk
from pg_semantic.worker.copy_rows import Records
from pg_semantic.worker.prefixes import Basis
from pg_semantic.worker.write_size import WriteSizer, chunks_of

_RELEASE_SECONDS = 0.25
_SECONDS = 60  # for a statement, and more if a single row has thousands of chunks, or it would never be written
_SLOWEST_PER_SECOND = 10  # chunks that a large vector index takes

Lock: TypeAlias = contextlib.AbstractContextManager[object]


def write(
    engine: sa.Engine,
    batch: Batch,
    *,
    settings: Settings,
    size: WriteSizer | None = None,
    locks: Sequence[Lock] = (contextlib.nullcontext(),),
    bases: dict[int, Basis] | None = None,
) -> int:
    """Writes a batch in transactions of about ``write_seconds``, on as many connections as there are locks.

    Jobs that could not be finished remain claimed: `give_back` them. The batch says what was committed, even if a later
    transaction fails.

    Args:
        engine: The worker's engine.
        batch: The batch, encoded.
        settings: What an operator can change.
        size: How much to write in a transaction; learns from each. By default, a new one.
        locks: One is held during each transaction, so that heartbeats can come between two of them.
        bases: The bases of prefixes that were read before, by generation. What is read now is added.

    Returns:
        How many rows were synced.
    """
    idle = batch.idle_jobs
    writer = _Writer(engine, batch, size or WriteSizer(settings.write_seconds), bases={} if bases is None else bases)
    writer.run(locks)
    if idle or batch.failures or batch.moved:
        with locks[0], transaction.begin(engine, by_index=True) as connection:
            ended = _finish_idle(connection, batch, idle)
            recorded = _report_failures(connection, batch, settings=settings)
            _look_again(connection, batch, settings=settings)
        batch.count(ended)
        batch.recorded = recorded
    return batch.written


class _Writer:
    """Writes the rows of a batch, in one transaction after the other on each connection."""

    def __init__(self, engine: sa.Engine, batch: Batch, size: WriteSizer, *, bases: dict[int, Basis]) -> None:
        self._engine = engine
        self._batch = batch
        self._size = size
        self._left: Sequence[BatchRow] = [row for row in batch.rows if batch.failure(row) is None]
        self._taking = threading.Lock()
        self._bases = bases

    def run(self, locks: Sequence[Lock]) -> None:
        """Writes all rows, with a thread and a connection for each lock, or on this thread if they are few."""
        if len(locks) == 1 or len(self._size.share(self._left)) == len(self._left):
            self._write_shares(locks[0])
            return
        with ThreadPoolExecutor(len(locks)) as threads:
            for writing in [threads.submit(self._write_shares, lock) for lock in locks]:
                writing.result()

    def _write_shares(self, lock: Lock) -> None:
        """Writes until no row is left. After an error, the other threads end their transactions and begin no more."""

        def step(rows: Sequence[BatchRow]) -> None:
            records = copy_rows.make(self._engine, self._batch, rows, basis=self._basis())
            with lock:
                is_done = self._write_unless_busy(rows, records)
            if not is_done:
                self._put_back(rows)

        try:
            while rows := self._take():
                failure_isolation.halving(rows, step, blame=lambda row, error: self._batch.blame(row.job, error))
        except BaseException:
            with self._taking:
                self._left = ()
            raise

    def _basis(self) -> Basis | None:
        """Returns the basis of the generation's prefixes, if it needs one and has it by now."""
        number = self._batch.claim.generation_id
        if number not in self._bases and self._batch.tables.spec.prefix is not None:
            with transaction.begin(self._engine) as connection:
                found = prefixes.read(connection, number)
            if found is not None:
                self._bases[number] = found
        return self._bases.get(number)

    def _take(self) -> Sequence[BatchRow]:
        """Returns the rows of the next transaction; none if no row is left."""
        with self._taking:
            rows = self._size.share(self._left)
            self._left = self._left[len(rows) :]
            return rows

    def _put_back(self, rows: Sequence[BatchRow]) -> None:
        with self._taking:
            self._left = [*rows, *self._left]

    def _write_unless_busy(self, rows: Sequence[BatchRow], records: Records) -> bool:
        """Writes rows, or leaves them if a table is locked: the lock's holder may be waiting for a job that we hold.

        Returns:
            False if nothing was written, and the records must be made again.
        """
        seconds = _SECONDS + chunks_of(rows) // _SLOWEST_PER_SECOND
        started = time.monotonic()
        try:
            with transaction.begin(self._engine, statement_timeout=f"{seconds}s", by_index=True) as connection:
                written = _write_rows(connection, self._batch, rows, records=records, size=self._size)
        except exc.DBAPIError as error:
            if database.fault(error) != "busy":
                raise
            return True
        if written is None:
            return False
        self._size.learn(chunks_of(written), time.monotonic() - started)
        self._batch.count(len(written))
        return True


def give_back(engine: sa.Engine, claim: Claim, keys_: Sequence[str], *, at_once: bool = False) -> list[str]:
    """Releases the remaining jobs of a claim.

    Args:
        engine: The worker's engine.
        claim: The claim that the jobs belong to.
        keys_: The keys of the jobs.
        at_once: Whether the jobs can be claimed again immediately, not after a short delay.

    Returns:
        The keys that are locked: give them back later.
    """
    with transaction.begin(engine, by_index=True) as connection:
        return jobqueue.release(connection, claim, keys_, delay_seconds=0 if at_once else _RELEASE_SECONDS)


def _finish_idle(connection: sa.Connection, batch: Batch, jobs: Sequence[Job]) -> int:
    held = sorted(jobqueue.hold(connection, batch.claim, jobs)) if jobs else []
    if possible := [key for key in held if key not in batch.impossible]:
        orphans.delete(connection, batch.tables, possible)
        policy_column.follow(connection, batch.tables, policy_column.of_keys(possible))
    if held:
        jobqueue.complete(connection, batch.claim, held)
    return len(held)


def _report_failures(connection: sa.Connection, batch: Batch, *, settings: Settings) -> list[tuple[Job, str]]:
    """Records failures: what the database refuses is parked at once, as it would be refused again.

    Encoder failures get more attempts. Returns the failures of jobs that are still as claimed.
    """
    return [
        (job, reason)
        for job, reason in batch.failures
        if jobqueue.fail(
            connection,
            batch.claim,
            job,
            error=reason,
            max_attempts=1 if job.key in batch.refused else settings.max_attempts,
            retry_seconds=settings.retry_seconds,
        )
    ]


def _look_again(connection: sa.Connection, batch: Batch, *, settings: Settings) -> None:
    """Leaves rows for another round if they were gone when written, or their key had changed or was taken."""
    if batch.moved:
        delay = settings.retry_seconds
        jobqueue.release(connection, batch.claim, sorted(batch.moved), delay_seconds=delay)


def _write_rows(
    connection: sa.Connection, batch: Batch, rows: Sequence[BatchRow], *, records: Records, size: WriteSizer
) -> Sequence[BatchRow] | None:
    """Writes those rows whose jobs are unchanged and whose source rows are there and not locked.

    Returns:
        The rows that were written. None if nothing was written, and the records must be made again: the rows are too
        many for one transaction, because a vector index is there now or is being built, or they need prefixes now.
    """
    tables = batch.tables
    held = sorted(jobqueue.hold(connection, batch.claim, [row.job for row in rows]))
    there, signed, chunked = _lock_sources(connection, tables, held, are_new=bool(records.receipts))
    registry.require_named(connection, tables)
    before = stored_chunks.read(connection, tables, sorted(there & chunked))
    rows = [row for row in rows if row.job.key in there and _has_what_was_kept(row, before)]
    if not rows:
        return rows
    stored = registry.stored_tables(connection, batch.claim.generation_id)  # which were read: their names stay
    size.is_indexed = stored.is_indexed
    if stored.is_indexed and len(size.share(rows)) < len(rows):
        return None
    if not records.has_prefixes and prefixes.are_due(connection, batch.claim.generation_id, tables):
        return None
    _delete(connection, tables, [chunk for row in rows for chunk in _gone(row, before)])
    records.copy_chunks(connection, stored.chunks, rows)
    copied = records.receipts.keys() - signed if _has_current_weights(connection, tables, records) else set()
    records.copy_receipts(connection, stored.receipts, [row for row in rows if row.job.key in copied])
    _sign_receipts(connection, tables, [row for row in rows if row.job.key not in copied])
    policy_column.follow(connection, tables, policy_column.of_keys([row.job.key for row in rows]))
    jobqueue.complete(connection, batch.claim, sorted(row.job.key for row in rows))
    return rows


def _lock_sources(
    connection: sa.Connection, tables: Tables, row_keys: Sequence[str], *, are_new: bool
) -> tuple[set[str], set[str], set[str]]:
    """Locks source rows that aren't locked: returns which, and of these, which may have a receipt, and which chunks.

    If rows are new, looks whether they have any by now, each row by itself because of the LIMIT: otherwise the server
    may read all of a growing table.
    """
    wanted = keys.key_table(row_keys, len(tables.spec.key))

    def stored(key: Sequence[sa.Column[Any]]) -> sa.FromClause:
        same_row = keys.matches_key_table(wanted, key)
        return sa.select(sa.true().label("there")).where(same_row).correlate(wanted).limit(1).lateral()

    found = wanted.join(tables.source, keys.matches_key_table(wanted, tables.source_key))
    flags: list[sa.ColumnElement[bool]] = [sa.true(), sa.true()]
    if are_new:
        receipt, chunk = stored(tables.receipt_key), stored(tables.chunk_key)
        found = found.outerjoin(receipt, sa.true()).outerjoin(chunk, sa.true())
        flags = [receipt.c.there, chunk.c.there]
    statement = sa.select(wanted.c.key, *flags).select_from(found)
    locked = connection.execute(
        statement.with_for_update(key_share=True, read=True, of=tables.source, skip_locked=True)
    ).all()
    return {key for key, _, _ in locked}, {key for key, yes, _ in locked if yes}, {key for key, _, yes in locked if yes}


def _has_what_was_kept(row: BatchRow, before: Mapping[str, Sequence[StoredChunk]]) -> bool:
    """Whether the kept chunks still exist: not if the row was deleted and came back, or keys moved."""
    return set(row.kept) <= set(before.get(row.job.key, ()))


def _gone(row: BatchRow, before: Mapping[str, Sequence[StoredChunk]]) -> list[tuple[str, int]]:
    """Returns the key and ordinal of the row's stored chunks that aren't kept."""
    kept = set(row.kept)
    return [(row.job.key, one.ordinal) for one in before.get(row.job.key, ()) if one not in kept]


def _delete(connection: sa.Connection, tables: Tables, gone: Sequence[tuple[str, int]]) -> None:
    if gone:
        ordinals = _array(sa.Integer, [ordinal for _, ordinal in gone])
        doomed = keys.key_table([key for key, _ in gone], len(tables.spec.key), ordinal=ordinals)
        same = sa.and_(keys.matches_key_table(doomed, tables.chunk_key), tables.chunks.c.ordinal == doomed.c.ordinal)
        connection.execute(sa.delete(tables.chunks).where(same))


def _has_current_weights(connection: sa.Connection, tables: Tables, records: Records) -> bool:
    """Whether BM25 weights are still computed with the same average length; otherwise they may never be updated."""
    if records.weights_length is None:
        return True
    length = connection.scalar(sa.select(bm25_expressions.weights_length(tables)))
    return bool(length == records.weights_length)


def _sign_receipts(connection: sa.Connection, tables: Tables, rows: Sequence[BatchRow]) -> None:
    """Inserts or updates receipts."""
    if not rows:
        return
    signed = keys.key_table(
        [row.job.key for row in rows],
        len(tables.spec.key),
        source_hash=_array(sa.LargeBinary, [row.source_hash for row in rows]),
        chunk_count=_array(sa.Integer, [row.chunk_count for row in rows]),
        truncated=_array(sa.Boolean, [row.truncated for row in rows]),
        text=_array(sa.Text, [row.text if tables.spec.lexical else "" for row in rows]),
    )
    key = [column.name for column in tables.receipt_key]
    said: dict[str, sa.ColumnElement[Any]] = {
        name: signed.c[name] for name in ("source_hash", "chunk_count", "truncated")
    }
    found = sa.select(*keys.typed_columns(signed, tables.receipt_key)).select_from(signed)
    if lexical := tables.spec.lexical:
        lexemes, length = copy_rows.lexemes_of(lexical, signed.c.text, signed), bm25_expressions.weights_length(tables)
        found = found.join(lexemes, sa.true())
        said["lexemes"] = lexemes.c.lexemes
        said["weights"] = bm25_expressions.weights(lexical, lexemes.c.lexemes, length)
        said["weights_length"] = length
    receipts = postgresql.insert(tables.receipts).from_select([*key, *said], found.add_columns(*said.values()))
    changes = {name: receipts.excluded[name] for name in said} | {"embedded_at": sa.func.now()}
    connection.execute(receipts.on_conflict_do_update(index_elements=key, set_=changes))


def _array(of: type[sa.types.TypeEngine[Any]], values: Sequence[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(None, list(values), type_=postgresql.ARRAY(of))
