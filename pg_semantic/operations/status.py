"""The status of each semantic index: rows synced and waiting, failures, and the state of the vector index.

Reads the view ``semantic.index_status``, which estimates row counts from statistics. Exact counts scan.
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
from pg_semantic.index import hnsw_size
from pg_semantic.index.hnsw_size import HnswShape
from pg_semantic.recall import store as recall_store
from pg_semantic.recall.store import KeptRecall
from pg_semantic.registry import Generation
from pg_semantic.worker import build_records, create_index_concurrently, key_changes, problems, token_usage
from pg_semantic.worker.build_records import BuildRecord
from pg_semantic.worker.problems import Problem

_FAILURES_SHOWN = 10
_SMALL_BYTES = 32_000_000  # counting tables of this size takes a few milliseconds
_INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """A vector index that exists: how old it is, how large, and how much has changed since it was built.

    Attributes:
        built_at: When its build ended; None if that isn't known: a person built it, or the role may not see it.
        age_seconds: How long ago that was.
        bytes: Its size; None while it is locked.
        forecast_bytes: The size that it would have if it were built now; None while the number of chunks is unknown.
        drift: Chunks written or deleted since the build, divided by the chunks of the build; it can exceed 1. None if
            the build isn't known, or the server's statistics were reset or lost since.
        prefix_bytes: The size of the prefixes in the chunk table, if they are what is indexed; None while the number of
            chunks is unknown.
    """

    built_at: dt.datetime | None
    age_seconds: float | None
    bytes: int | None
    forecast_bytes: int | None
    drift: float | None
    prefix_bytes: int | None = 0

    @property
    def bloat(self) -> float | None:
        """Its size divided by that of a new index; None if one of them is unknown. Below 1 if chunks are equal."""
        return self.bytes / self.forecast_bytes if self.bytes is not None and self.forecast_bytes else None


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The status of one generation of a semantic index.

    Attributes:
        index: Name of the index with its schema, and with the role of the generation unless that is live.
        exact: Whether ``rows``, ``synced`` and ``chunks`` were counted. If not, they are estimates, or None if there is
            none while a table is locked.
        rows: Source rows.
        synced: Rows with a receipt. One with a pending job may be stale.
        truncated: Rows with text longer than the encoder reads. None if the role may not read the table, or while the
            table is locked.
        backfill_rows: How many rows the first backfill has looked at; the others have no job yet. None once it is
            complete, or if the role may not know.
        oldest_seconds: Age of the oldest waiting change.
        eta_seconds: How long the workers need for all waiting rows at their present speed.
        uncaptured: How many tables have no working triggers.
        capture_problem: What keeps changes from being captured.
        stale_since: Since then, rows may be out of date without having a job.
        stale_reason: Why.
        reconciled: The share of rows compared since then, 0 to 1, by an estimate of the rows.
        vector_index: State of the vector index.
        built: Its age, size and drift; None unless it is ready.
        lexical_index: State of the lexical index. None without BM25.
        recall: What is known of the recall of the vector index, its objective and the ``ef_search`` of searches.
        failures: The ten newest parked jobs.
        problems: Why the index is not kept in sync or not built.
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
    backfill_rows: int | None
    oldest_seconds: float | None
    eta_seconds: float | None
    uncaptured: int
    capture_problem: str | None
    stale_since: dt.datetime | None
    stale_reason: str | None
    reconciled: float | None
    vector_index: create_index_concurrently.State
    built: BuiltIndex | None
    lexical_index: create_index_concurrently.State | None
    recall: KeptRecall
    failures: list[jobqueue.Failure]
    problems: list[Problem]

    @property
    def coverage(self) -> float | None:
        """The share of rows that are synced, 0 to 1; None while ``rows`` or ``synced`` is unknown."""
        if self.rows is None or self.synced is None:
            return None
        return min(1.0, self.synced / self.rows) if self.rows else 1.0

    @property
    def backfill_left(self) -> int | None:
        """How many rows the first backfill has not looked at; None while ``rows`` is unknown."""
        if self.backfill_rows is None:
            return 0
        return None if self.rows is None else max(0, self.rows - self.backfill_rows)

    @property
    def waiting(self) -> int | None:
        """How many rows are not synced yet; None if the role may not read the jobs.

        Without ``backfill_left`` while that is unknown.
        """
        if self.pending is None or self.processing is None:
            return None
        return self.pending + self.processing + (self.backfill_left or 0)


@dataclass(frozen=True, slots=True)
class Status:
    """The status of all semantic indexes of a database.

    Attributes:
        workers: How many workers sent a heartbeat in the last minute.
        rows_per_second: Their speed, in total.
        paused: Why workers pause backfill.
        tokens_today: How many tokens workers have sent to remote encoders today (UTC). None if the role may not know.
        indexes: One entry per generation.
    """

    workers: int
    rows_per_second: float
    paused: list[str]
    tokens_today: int | None
    indexes: list[IndexStatus]


def read(connection: sa.Connection, *, exact: bool = False) -> Status:
    """Returns the status of a database. Counts small tables, and with ``exact`` all of them, by scanning them."""
    seen = {row.generation_id: row for row in connection.execute(sql.statement("registry", "index_status"))}
    recalls = recall_store.read(connection)
    alive = connection.execute(sql.statement("registry", "workers_alive")).one()
    known = [one for one in registry.generations(connection) if one.id in seen and one.id in recalls]
    recorded, builds = _problems(connection, known), build_records.read(connection)
    indexes = [
        _index_status(
            connection,
            one,
            _SeenGeneration(seen[one.id], recalls[one.id], builds.get(one.id), recorded.get(one.id, [])),
            exact=exact,
        )
        for one in known
    ]
    return Status(
        workers=alive.workers,
        rows_per_second=alive.rows_per_second,
        paused=alive.paused or [],
        tokens_today=token_usage.today_if_readable(connection),
        indexes=_with_eta(indexes, alive.rows_per_second),
    )


def _with_eta(indexes: Sequence[IndexStatus], rows_per_second: float) -> list[IndexStatus]:
    """Adds the time until no row waits in any index, if that can be known."""
    if not rows_per_second or any(one.backfill_left is None for one in indexes):
        return list(indexes)
    seconds = sum(one.waiting or 0 for one in indexes) / rows_per_second
    return [dataclasses.replace(one, eta_seconds=seconds if one.waiting else None) for one in indexes]


def waiting(connection: sa.Connection) -> int:
    """Estimates how many rows wait in all semantic indexes, as far as the role may know. Scans no table."""
    with database.translated():
        return int(connection.scalar(sql.statement("registry", "waiting_rows")) or 0)


def rows_estimate(engine: sa.Engine, generation_ids: Sequence[int]) -> int:
    """Returns an estimate of the source rows of these generations, in total."""
    with transaction.begin(engine) as connection:
        rows = connection.execute(sql.statement("registry", "index_status"))
        return sum(row.rows_estimate or 0 for row in rows if row.generation_id in generation_ids)


@dataclass(frozen=True, slots=True)
class _SeenGeneration:
    """What was read of a generation, in statements about all of them."""

    row: sa.Row[Any]
    recall: KeptRecall
    build: BuildRecord | None
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class _TableCounts:
    """How many rows and chunks there are, exactly or by estimate."""

    rows: int | None
    synced: int | None
    chunks: int | None
    exact: bool


def _counts(connection: sa.Connection, generation: Generation, row: sa.Row[Any], *, exact: bool) -> _TableCounts:
    """Counts a generation's tables if they are small, or with ``exact``; otherwise returns estimates.

    Returns estimates also of small tables that are locked, or that the role may not read.
    """
    estimated = _TableCounts(row.rows_estimate, row.synced_estimate, row.chunks_estimate, exact=False)
    if generation.gone:
        return estimated
    if exact:
        return _counted(connection, generation)
    if row.bytes is None or row.bytes >= _SMALL_BYTES:
        return estimated
    try:
        with connection.begin_nested():
            return _counted(connection, generation)
    except exc.DBAPIError as error:
        if not transaction.is_busy(error) and database.sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
            raise
        return estimated


def _counted(connection: sa.Connection, generation: Generation) -> _TableCounts:
    tables = generation.tables
    rows, synced, chunks = (
        connection.scalar(sa.select(sa.func.count()).select_from(table))
        for table in (tables.source, tables.receipts, tables.chunks)
    )
    return _TableCounts(rows, synced, chunks, exact=True)


def _problems(connection: sa.Connection, known: Sequence[Generation]) -> dict[int, list[Problem]]:
    """Returns the problems of each generation: those on record, and keys that were altered."""
    recorded = problems.read(connection)
    of = {generation.id: generation for generation in known}
    for one in (one for one in key_changes.altered_keys(connection) if one.generation_id in of):
        known_problems = recorded.setdefault(one.generation_id, [])
        if all(noted.kind != "key" for noted in known_problems):
            said = key_changes.advice(of[one.generation_id], one)
            known_problems.append(Problem("key", said, 0, 0.0, 0.0))
    return recorded


def _index_status(
    connection: sa.Connection, generation: Generation, known: _SeenGeneration, *, exact: bool
) -> IndexStatus:
    spec, tables, row = generation.spec, generation.stored, known.row
    counts = _counts(connection, generation, row, exact=exact)
    vector_index = create_index_concurrently.state(connection, tables.vector_index)
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
        exact=counts.exact,
        rows=counts.rows,
        synced=counts.synced,
        chunks=counts.chunks,
        pending=row.pending,
        processing=row.processing,
        failed=row.failed,
        truncated=row.truncated,
        backfill_rows=row.backfill_rows,
        oldest_seconds=row.oldest_pending_seconds,
        eta_seconds=None,
        uncaptured=row.uncaptured,
        capture_problem=row.capture_problem or None,
        stale_since=row.stale_since,
        stale_reason=row.stale_reason,
        reconciled=row.reconciled,
        vector_index=vector_index,
        built=_built(connection, generation, known.build, chunks=counts.chunks) if vector_index == "ready" else None,
        lexical_index=create_index_concurrently.state(connection, tables.lexical_index) if spec.lexical else None,
        recall=known.recall,
        failures=jobqueue.failures(connection, generation.id, limit=_FAILURES_SHOWN),
        problems=known.problems,
    )


def _built(
    connection: sa.Connection, generation: Generation, known: BuildRecord | None, *, chunks: int | None
) -> BuiltIndex:
    name = database.qualified_name(generation.spec.schema, str(generation.stored.vector_index.name))
    size = None
    with transaction.unless_busy(), connection.begin_nested():
        size = connection.scalar(sql.statement("vector_index", "index_size"), {"name": name})
    return BuiltIndex(
        built_at=known.built_at if known else None,
        age_seconds=known.age_seconds if known else None,
        bytes=size,
        forecast_bytes=None if chunks is None else hnsw_size.index_bytes(chunks, HnswShape.of(generation.spec)),
        drift=known.drift if known else None,
        prefix_bytes=None if chunks is None else chunks * hnsw_size.prefix_bytes(generation.spec),
    )
