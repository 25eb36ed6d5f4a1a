"""The write stage: chunks that changed, in one short transaction that first makes sure they are still wanted.

The order is what makes a stale vector impossible: (1) lock the jobs that are still as claimed, so that no newer
version can slip in before commit; (2) lock the source rows against deletion; (3) write; (4) end the jobs. Nothing is
waited for: a job or a row that a writer has locked is left for later.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from pg_semantic import database, hashing, jobqueue, keys
from pg_semantic.chunking import Chunk
from pg_semantic.jobqueue import Claim
from pg_semantic.schema import Tables
from pg_semantic.settings import Settings
from pg_semantic.spec import Storage
from pg_semantic.sync.batch import Batch, Row

_RELEASE_SECONDS = 0.25
_BUSY = {"55P03", "40P01"}  # lock not available, deadlock detected
_FLOAT: dict[Storage, str] = {"halfvec": ">f2", "vector": ">f4"}


def write(engine: sa.Engine, batch: Batch, *, settings: Settings) -> int:
    """Writes a batch in transactions of at most ``write_rows`` rows; returns how many rows were synced.

    Jobs that could not be ended are still claimed afterwards: `give_back` them.
    """
    with engine.begin() as connection:
        _finish_idle(connection, batch)
        _report_failures(connection, batch, settings)
    rows = [row for row in batch.rows if batch.failure(row) is None]
    written = len(batch.idle_jobs)
    for start in range(0, len(rows), settings.write_rows):
        written += _write_unless_busy(engine, batch, rows[start : start + settings.write_rows])
    return written


def give_back(engine: sa.Engine, claim: Claim, keys_: Sequence[str], *, at_once: bool = False) -> list[str]:
    """Releases what is left of a claim; returns the keys that a writer has locked, to be given back later."""
    with engine.begin() as connection:
        return jobqueue.release(connection, claim, keys_, delay_seconds=0 if at_once else _RELEASE_SECONDS)


def _write_unless_busy(engine: sa.Engine, batch: Batch, rows: Sequence[Row]) -> int:
    """Writes rows, or leaves them when a table is locked, as by TRUNCATE or ALTER TABLE.

    Who locks the table may be waiting for a job that we hold; we give way well before Postgres would call it a
    deadlock (after `deadlock_timeout`, a second) and might end the application's transaction instead of ours.
    """
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '200ms'"))
            return _write_rows(connection, batch, rows)
    except exc.DBAPIError as error:
        if database.sqlstate(error) not in _BUSY:
            raise
        return 0


def _finish_idle(connection: sa.Connection, batch: Batch) -> None:
    if jobs := batch.idle_jobs:
        jobqueue.complete(connection, batch.claim, list(jobqueue.hold(connection, batch.claim, jobs)))


def _report_failures(connection: sa.Connection, batch: Batch, settings: Settings) -> None:
    for row in batch.rows:
        if error := batch.failure(row):
            jobqueue.fail(
                connection,
                batch.claim,
                row.job,
                error=error,
                max_attempts=settings.max_attempts,
                retry_seconds=settings.retry_seconds,
            )


def _write_rows(connection: sa.Connection, batch: Batch, rows: Sequence[Row]) -> int:
    held = jobqueue.hold(connection, batch.claim, [row.job for row in rows])
    there = _lock_sources(connection, batch.tables, sorted(held))
    if not there:
        return 0
    rows = [row for row in rows if row.job.key in there]
    _delete_changed(connection, batch.tables, rows)
    _copy_new(connection, batch, rows)
    _sign_receipts(connection, batch.tables, rows)
    jobqueue.complete(connection, batch.claim, sorted(there))
    return len(rows)


def _lock_sources(connection: sa.Connection, tables: Tables, row_keys: Sequence[str]) -> set[str]:
    wanted = keys.wanted(row_keys, len(tables.spec.key))
    statement = (
        sa.select(wanted.c.key)
        .join_from(wanted, tables.source, keys.found(wanted, tables.source_key))
        .with_for_update(key_share=True, read=True, of=tables.source, skip_locked=True)
    )
    return set(connection.scalars(statement))


def _delete_changed(connection: sa.Connection, tables: Tables, rows: Sequence[Row]) -> None:
    """Deletes stored chunks that are not kept."""
    wanted = keys.wanted([row.job.key for row in rows], len(tables.spec.key))
    kept = [(row.job.key, ordinal) for row in rows for ordinal in row.kept]
    keep = _pairs(kept)
    statement = (
        sa.delete(tables.chunks)
        .where(keys.found(wanted, tables.chunk_key))
        .where(~sa.exists().where(keep.c.key == wanted.c.key, keep.c.ordinal == tables.chunks.c.ordinal))
    )
    connection.execute(statement)


def _pairs(pairs: Sequence[tuple[str, int]]) -> sa.TableValuedAlias:
    texts = sa.bindparam(None, [key for key, _ in pairs], type_=postgresql.ARRAY(sa.Text))
    ordinals = sa.bindparam(None, [ordinal for _, ordinal in pairs], type_=postgresql.ARRAY(sa.Integer))
    columns = (sa.column("key", sa.Text), sa.column("ordinal", sa.Integer))
    return sa.func.unnest(texts, ordinals).table_valued(*columns).render_derived()


def _copy_new(connection: sa.Connection, batch: Batch, rows: Sequence[Row]) -> None:
    """COPYs new chunks in binary; a vector travels as the bytes that pgvector's receive function reads."""
    spec = batch.tables.spec
    names = [column.name for column in spec.key]
    names += ["ordinal", "content", "vector", "content_hash", "encoder_id", "token_count", "truncated"]
    types = [_copy_type(column.type) for column in spec.key]
    types += ["int4", "text", "bytea", "bytea", "int8", "int4", "bool"]
    table = database.qualified_name(batch.tables.chunks.schema, batch.tables.chunks.name)
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


def _copy_type(name: str) -> str:
    """The name of a type that the driver can write and that the key column's type can read."""
    base = name.lower().partition("(")[0].strip()
    if base == "timestamp":
        return "timestamptz" if name.lower().endswith("with time zone") else "timestamp"
    aliases = {"character varying": "varchar", "character": "text", "char": "text"}
    return aliases.get(base, base)


def _records(batch: Batch, rows: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    spec = batch.tables.spec
    new: list[tuple[Row, int, Chunk]] = [(row, *piece) for row in rows for piece in row.new]
    digests = [hashing.content_hash(chunk.content) for _, _, chunk in new]
    wire = to_wire([batch.vectors[digest] for digest in digests], spec.storage)
    for (row, ordinal, chunk), digest, vector in zip(new, digests, wire, strict=True):
        yield (
            *row.identity,
            ordinal,
            chunk.content,
            vector,
            digest,
            spec.encoder.id,
            chunk.token_count,
            chunk.truncated,
        )


def to_wire(vectors: Sequence[Any], storage: Storage) -> list[bytes]:
    """Vectors in pgvector's binary form: dimensions and a zero as 16-bit integers, then the numbers, big-endian."""
    if not vectors:
        return []
    numbers = np.asarray(vectors, np.float32).astype(_FLOAT[storage])
    header = int(numbers.shape[1]).to_bytes(2) + b"\0\0"
    return [header + row.tobytes() for row in numbers]


def _sign_receipts(connection: sa.Connection, tables: Tables, rows: Sequence[Row]) -> None:
    if not rows:
        return
    names = [column.name for column in tables.spec.key]
    statement = postgresql.insert(tables.receipts)
    changed = {name: statement.excluded[name] for name in ("source_hash", "chunk_count", "truncated")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=names, set_={**changed, "embedded_at": sa.func.now()}),
        [
            {
                **dict(zip(names, row.identity, strict=True)),
                "source_hash": row.source_hash,
                "chunk_count": len(row.chunks),
                "truncated": any(chunk.truncated for chunk in row.chunks),
            }
            for row in rows
        ],
    )
