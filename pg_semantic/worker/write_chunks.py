"""The write stage: writes changed chunks in short transactions that first make sure the chunks are still wanted.

The order makes a stale vector impossible: (1) lock the jobs that are still as claimed, so that no newer version can
slip in before the commit; (2) lock the source rows against deletion; (3) write; (4) finish the jobs. Nothing waits:
jobs and rows that are locked are left for later.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from pg_semantic import database, jobqueue, registry
from pg_semantic.database import transaction
from pg_semantic.index import bm25_expressions, keys
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.chunking import TextChunk
from pg_semantic.index.spec import Lexical, Storage
from pg_semantic.jobqueue import Claim, Job
from pg_semantic.settings import Settings
from pg_semantic.worker import failure_isolation, orphans, policy_column, stored_chunks
from pg_semantic.worker.batch import Batch, BatchRow
from pg_semantic.worker.chunk_diff import StoredChunk

_RELEASE_SECONDS = 0.25
_SECONDS = 60  # for a statement, and more if a single row has thousands of chunks, or it would never be written
_SLOWEST_PER_SECOND = 10  # chunks that a large vector index takes
_FLOAT: dict[Storage, str] = {"halfvec": ">f2", "vector": ">f4"}


def write(
    engine: sa.Engine,
    batch: Batch,
    *,
    settings: Settings,
    locks: contextlib.AbstractContextManager[None] = contextlib.nullcontext(),  # noqa: B008 - has no state
) -> int:
    """Writes a batch in transactions of about ``write_chunks`` chunks.

    Jobs that could not be finished remain claimed: `give_back` them. The batch says what was committed, even if a later
    transaction fails.

    Args:
        engine: The worker's engine.
        batch: The batch, encoded.
        settings: What an operator can change.
        locks: Held during each transaction, so that heartbeats can come between two of them.

    Returns:
        How many rows were synced.
    """
    idle = batch.idle_jobs
    rows = [row for row in batch.rows if batch.failure(row) is None]

    def step(share: Sequence[BatchRow]) -> None:
        with locks:
            _write_unless_busy(engine, batch, share)

    for share in _shares(rows, settings.write_chunks):
        failure_isolation.halving(share, step, blame=lambda row, error: batch.blame(row.job, error))
    if idle or batch.failures or batch.moved:
        with locks, transaction.begin(engine) as connection:
            ended = _finish_idle(connection, batch, idle)
            recorded = _report_failures(connection, batch, settings=settings)
            _look_again(connection, batch, settings=settings)
        batch.written += ended
        batch.recorded = recorded
    return batch.written


def _shares(rows: Sequence[BatchRow], write_chunks: int) -> Iterator[Sequence[BatchRow]]:
    """Yields the rows of one transaction each: up to ``write_chunks`` chunks together, or one row with more."""
    start, chunks = 0, 0
    for number, row in enumerate(rows):
        size = 1 + len(row.new)
        if number > start and chunks + size > write_chunks:
            yield rows[start:number]
            start, chunks = number, 0
        chunks += size
    if rows:
        yield rows[start:]


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


def _write_unless_busy(engine: sa.Engine, batch: Batch, rows: Sequence[BatchRow]) -> None:
    """Writes rows, or leaves them if a table is locked: the lock's holder may be waiting for a job that we hold."""
    chunks = sum(len(row.new) for row in rows)
    seconds = _SECONDS + chunks // _SLOWEST_PER_SECOND
    try:
        with transaction.begin(engine, statement_timeout=f"{seconds}s") as connection:
            written = _write_rows(connection, batch, rows)
    except exc.DBAPIError as error:
        if database.fault(error) != "busy":
            raise
    else:
        batch.written += written


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


def _write_rows(connection: sa.Connection, batch: Batch, rows: Sequence[BatchRow]) -> int:
    held = jobqueue.hold(connection, batch.claim, [row.job for row in rows])
    there = _lock_sources(connection, batch.tables, sorted(held))
    registry.require_named(connection, batch.tables)
    if not there:
        return 0
    before = stored_chunks.read(connection, batch.tables, sorted(there))
    rows = [row for row in rows if row.job.key in there and _has_what_was_kept(row, before)]
    _delete(connection, batch.tables, [chunk for row in rows for chunk in _gone(row, before)])
    _copy_new(connection, batch, rows)
    _sign_receipts(connection, batch.tables, rows)
    policy_column.follow(connection, batch.tables, policy_column.of_keys([row.job.key for row in rows]))
    jobqueue.complete(connection, batch.claim, sorted(row.job.key for row in rows))
    return len(rows)


def _lock_sources(connection: sa.Connection, tables: Tables, row_keys: Sequence[str]) -> set[str]:
    wanted = keys.key_table(row_keys, len(tables.spec.key))
    statement = (
        sa.select(wanted.c.key)
        .join_from(wanted, tables.source, keys.matches_key_table(wanted, tables.source_key))
        .with_for_update(key_share=True, read=True, of=tables.source, skip_locked=True)
    )
    return set(connection.scalars(statement))


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


def _copy_new(connection: sa.Connection, batch: Batch, rows: Sequence[BatchRow]) -> None:
    """COPYs new chunks in binary; keys and vectors are sent as the bytes that their types' receive functions read.

    COPY doesn't accept a view, so this looks up the table's name, which can't change any more: the chunks were read.
    """
    spec = batch.tables.spec
    names = [column.name for column in spec.key]
    names += ["ordinal", "content", "vector", "content_hash", "encoder_id", "token_count", "truncated"]
    types = ["bytea"] * len(spec.key) + ["int4", "text", "bytea", "bytea", "int8", "int4", "bool"]
    table = registry.chunk_table(connection, batch.claim.generation_id)
    target = f"{table} ({', '.join(database.qualified_name(None, name) for name in names)})"
    driver: Any = connection.connection.driver_connection
    statement = f"COPY {target} FROM STDIN (FORMAT binary)"
    try:
        with driver.cursor().copy(statement) as copy:
            copy.set_types(types)
            for record in _records(batch, rows):
                copy.write_row(record)
    except psycopg.Error as error:
        raise exc.DBAPIError(statement, None, error) from error


def _records(batch: Batch, rows: Sequence[BatchRow]) -> Iterator[tuple[Any, ...]]:
    spec = batch.tables.spec
    new: list[tuple[BatchRow, int, TextChunk]] = [(row, *piece) for row in rows for piece in row.new]
    wire = to_wire([batch.vectors[chunk.content_hash] for _, _, chunk in new], spec.storage)
    for (row, ordinal, chunk), vector in zip(new, wire, strict=True):
        yield (
            *row.identity,
            ordinal,
            chunk.content,
            vector,
            chunk.content_hash,
            spec.encoder.id,
            chunk.token_count,
            chunk.truncated,
        )


def to_wire(vectors: Sequence[Any], storage: Storage) -> list[bytes]:
    """Converts vectors to pgvector's binary format.

    Returns:
        The bytes of each vector: its dimensions and a zero as 16-bit integers, then the numbers, all big-endian.
    """
    if not vectors:
        return []
    numbers = np.asarray(vectors, np.float32).astype(_FLOAT[storage])
    header = int(numbers.shape[1]).to_bytes(2) + b"\0\0"
    return [header + row.tobytes() for row in numbers]


def _sign_receipts(connection: sa.Connection, tables: Tables, rows: Sequence[BatchRow]) -> None:
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
        lexemes, length = _lexemes(lexical, signed), bm25_expressions.weights_length(tables)
        found = found.join(lexemes, sa.true())
        said["lexemes"] = lexemes.c.lexemes
        said["weights"] = bm25_expressions.weights(lexical, lexemes.c.lexemes, length)
        said["weights_length"] = length
    receipts = postgresql.insert(tables.receipts).from_select([*key, *said], found.add_columns(*said.values()))
    changes = {name: receipts.excluded[name] for name in said} | {"embedded_at": sa.func.now()}
    connection.execute(receipts.on_conflict_do_update(index_elements=key, set_=changes))


def _lexemes(lexical: Lexical, signed: sa.TableValuedAlias) -> sa.FromClause:
    """Selects the lexemes of each text once: OFFSET keeps the planner from repeating their expression at each use."""
    lexemes = bm25_expressions.lexemes(lexical, signed.c.text).label("lexemes")
    return sa.select(lexemes).correlate(signed).offset(0).lateral()


def _array(of: type[sa.types.TypeEngine[Any]], values: Sequence[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(None, list(values), type_=postgresql.ARRAY(of))
