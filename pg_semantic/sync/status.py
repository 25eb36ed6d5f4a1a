"""How true each semantic index is right now: rows synced and waiting, failures, and the vector index's state."""

from dataclasses import dataclass

import sqlalchemy as sa

from pg_semantic import database, jobqueue, registry, schema, sql
from pg_semantic.registry import Generation
from pg_semantic.sync import vectorindex

_ALIVE_SECONDS = 60  # three heartbeats
_FAILURES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One semantic index; counts are exact, so the cost is a scan of the source table and the receipts.

    ``rows`` are source rows, ``synced`` those with a receipt (a pending one may be stale), ``truncated`` those with
    text that the encoder could not read whole. ``oldest_seconds`` is the age of the oldest change that is waiting.
    ``failures`` has the newest ten parked jobs.
    ``vector_index`` is one of `vectorindex.State`.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    encoder: str
    dimensions: int
    rows: int
    synced: int
    chunks: int
    pending: int
    processing: int
    failed: int
    truncated: int
    oldest_seconds: float | None
    vector_index: vectorindex.State
    failures: list[jobqueue.Failure]


def indexes(connection: sa.Connection) -> list[IndexStatus]:
    """The status of every semantic index in the database."""
    return [_status(connection, generation) for generation in registry.generations(connection)]


def workers_alive(connection: sa.Connection) -> int:
    """Workers that gave a sign of life in the last minute."""
    found = connection.execute(sql.statement("registry", "workers_alive"), {"seconds": _ALIVE_SECONDS})
    return int(found.scalar_one())


def remaining(connection: sa.Connection, *, limit: int) -> int:
    """Jobs that are waiting over all semantic indexes, counted up to ``limit`` each."""
    with database.translated():
        known = registry.generations(connection)
        return sum(jobqueue.waiting(connection, generation.id, limit=limit) for generation in known)


def _status(connection: sa.Connection, generation: Generation) -> IndexStatus:
    spec = generation.spec
    tables = schema.build(spec)
    jobs = jobqueue.counts(connection, generation.id)
    synced, chunks, truncated = connection.execute(_receipt_counts(tables)).one()
    return IndexStatus(
        name=generation.name,
        table=f"{spec.schema}.{spec.table}",
        columns=spec.columns,
        encoder=spec.encoder.reference,
        dimensions=spec.encoder.dimensions,
        rows=connection.execute(sa.select(sa.func.count()).select_from(tables.source)).scalar_one(),
        synced=synced,
        chunks=chunks,
        pending=jobs.pending,
        processing=jobs.processing,
        failed=jobs.failed,
        truncated=truncated,
        oldest_seconds=jobs.oldest_seconds,
        vector_index=vectorindex.state(connection, tables),
        failures=jobqueue.failures(connection, generation.id, limit=_FAILURES_SHOWN),
    )


def _receipt_counts(tables: schema.Tables) -> "sa.Select[int, int, int]":
    receipts = tables.receipts.c
    return sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(receipts.chunk_count), 0),
        sa.func.count().filter(receipts.truncated),
    ).select_from(tables.receipts)
