"""How true each semantic index is right now: rows synced and waiting, failures, and the vector index's state.

It reads the view ``semantic.index_status``, whose counts of rows are the planner's estimates; exact counts scan.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, jobqueue, registry, sql
from pg_semantic.database import transaction
from pg_semantic.registry import Generation
from pg_semantic.worker import key_changes, late_indexes, problems
from pg_semantic.worker.problems import Trouble

_FAILURES_SHOWN = 10
_SMALL_BYTES = 32_000_000  # tables that are counted in a few milliseconds
_INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One copy of a semantic index; ``index`` is its name with the schema, and with its role unless it is live.

    ``rows`` are source rows, ``synced`` those with a receipt (a pending one may be stale): estimates unless ``exact``,
    None when the planner knows nothing yet. ``truncated`` are rows with text that the encoder could not read whole,
    None for a role that may not look, and while they are locked. ``oldest_seconds`` is the age of the oldest change
    that waits; ``eta_seconds`` when workers will be through at their present pace. ``failures`` has the newest ten
    parked jobs. ``uncaptured`` counts tables without working triggers; ``capture_trouble`` says what keeps rows from
    being captured. Since ``stale_since``, rows may be out of date without a job, for ``stale_reason``; ``reconciled``
    is the share that was compared since, 0 to 1, by the planner's count of rows. ``vector_index`` and
    ``lexical_index`` are one of `late_indexes.State`; the latter is None for a semantic index without BM25.
    ``troubles`` say why it is not kept in sync or not built.
    """

    index: str
    name: str
    table: str
    columns: tuple[str, ...]
    encoder: str
    dimensions: int
    generation: str
    generation_id: int
    backfilled: bool
    exact: bool
    rows: int | None
    synced: int | None
    chunks: int | None
    pending: int | None
    processing: int | None
    failed: int | None
    truncated: int | None
    oldest_seconds: float | None
    eta_seconds: float | None
    uncaptured: int
    capture_trouble: str | None
    stale_since: dt.datetime | None
    stale_reason: str | None
    reconciled: float | None
    vector_index: late_indexes.State
    lexical_index: late_indexes.State | None
    failures: list[jobqueue.Failure]
    troubles: list[Trouble]

    @property
    def waiting(self) -> int | None:
        """Changed rows that no worker is through with; None for a role that may not look."""
        return _sum(self.pending, self.processing)


@dataclass(frozen=True, slots=True)
class Status:
    """Every semantic index of a database; workers alive gave a sign of life in the last minute."""

    workers: int
    rows_per_second: float
    indexes: list[IndexStatus]


def read(connection: sa.Connection, *, exact: bool = False) -> Status:
    """The status of a database; with ``exact``, or when they are small, tables are scanned and counted."""
    seen = {row.generation_id: row for row in connection.execute(sql.statement("registry", "index_status"))}
    waiting = sum(_sum(row.pending, row.processing) or 0 for row in seen.values())
    workers, rate = connection.execute(sql.statement("registry", "workers_alive")).one()
    eta = waiting / rate if rate else None
    known = [generation for generation in registry.generations(connection) if generation.id in seen]
    troubles = problems.read(connection)
    of = {generation.id: generation for generation in known}
    for one in (one for one in key_changes.altered_keys(connection) if one.generation_id in of):
        known_troubles = troubles.setdefault(one.generation_id, [])
        if all(noted.kind != "key" for noted in known_troubles):
            said = key_changes.advice(of[one.generation_id], one)
            known_troubles.append(Trouble("key", said, 0, 0.0, 0.0))
    indexes = [
        dataclasses.replace(
            _estimated(connection, generation, seen[generation.id], eta=eta), troubles=troubles.get(generation.id, [])
        )
        for generation in known
    ]
    for number, generation in enumerate(known):
        if not generation.gone and (exact or seen[generation.id].bytes < _SMALL_BYTES):
            counted = _counted(connection, generation) if exact else _counted_unless_busy(connection, generation)
            indexes[number] = dataclasses.replace(indexes[number], **counted)
    return Status(workers, rate, indexes)


def _sum(pending: int | None, processing: int | None) -> int | None:
    return None if pending is None or processing is None else pending + processing


def remaining(connection: sa.Connection, *, limit: int) -> int:
    """Jobs that are waiting over all semantic indexes, counted up to ``limit`` each."""
    with database.translated():
        known = registry.generations(connection)
        return sum(jobqueue.waiting(connection, generation.id, limit=limit) for generation in known)


def rows_estimate(engine: sa.Engine, generation_ids: Sequence[int]) -> int:
    """Source rows of these generations as the planner believes."""
    with transaction.begin(engine) as connection:
        rows = connection.execute(sql.statement("registry", "index_status"))
        return sum(row.rows_estimate or 0 for row in rows if row.generation_id in generation_ids)


def _estimated(
    connection: sa.Connection, generation: Generation, row: sa.Row[Any], *, eta: float | None
) -> IndexStatus:
    spec, tables = generation.spec, generation.stored
    return IndexStatus(
        index=generation.title,
        name=generation.name,
        table=f"{spec.schema}.{spec.table}",
        columns=spec.columns,
        encoder=spec.encoder.reference,
        dimensions=spec.encoder.dimensions,
        generation=generation.role,
        generation_id=generation.id,
        backfilled=generation.backfilled,
        exact=False,
        rows=row.rows_estimate,
        synced=row.synced_estimate,
        chunks=row.chunks_estimate,
        pending=row.pending,
        processing=row.processing,
        failed=row.failed,
        truncated=row.truncated,
        oldest_seconds=row.oldest_pending_seconds,
        eta_seconds=eta if _sum(row.pending, row.processing) else None,
        uncaptured=row.uncaptured,
        capture_trouble=row.capture_trouble or None,
        stale_since=row.stale_since,
        stale_reason=row.stale_reason,
        reconciled=row.reconciled,
        vector_index=late_indexes.state(connection, tables.vector_index),
        lexical_index=late_indexes.state(connection, tables.lexical_index) if spec.lexical else None,
        failures=jobqueue.failures(connection, generation.id, limit=_FAILURES_SHOWN),
        troubles=[],
    )


def _counted(connection: sa.Connection, generation: Generation) -> dict[str, Any]:
    tables = generation.tables
    counts = {"rows": tables.source, "synced": tables.receipts, "chunks": tables.chunks}
    counted = {name: connection.scalar(sa.select(sa.func.count()).select_from(table)) for name, table in counts.items()}
    return {**counted, "exact": True}


def _counted_unless_busy(connection: sa.Connection, generation: Generation) -> dict[str, Any]:
    """What `_counted` gives; nothing, so that estimates stay, while the tables are locked or not all rows are seen."""
    try:
        with connection.begin_nested():
            return _counted(connection, generation)
    except exc.DBAPIError as error:
        if not transaction.is_busy(error) and database.sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
            raise
        return {}
