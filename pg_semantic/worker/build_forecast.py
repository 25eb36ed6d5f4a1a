"""A forecast of a vector index before it is built: size, memory, disk, time, and what to change if these are short."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from pg_semantic import settings, sql
from pg_semantic.index import hnsw_size
from pg_semantic.index.hnsw_size import HnswShape
from pg_semantic.index.spec import IndexSpec
from pg_semantic.registry import Generation
from pg_semantic.worker import build_records, server_resources
from pg_semantic.worker.server_resources import ServerResources

Basis = Literal["counted", "estimated", "from rows", "one per row"]

_SETTING = settings.variable("maintenance_work_mem")
_ASSUMED_CHUNK_BYTES = 1_000  # of an empty chunk table: a short text with its vector


@dataclass(frozen=True, slots=True)
class ChunkCount:
    """How many chunks there will be, and how that is known.

    Attributes:
        chunks: Their number.
        basis: ``counted``; ``estimated`` from statistics; ``from rows``: rows times the chunks per row so
            far; or ``one per row``, if no row has been encoded yet.
        table_bytes: The size of the chunk table by then, without TOAST, in bytes.
        parallel_workers: The storage parameter of that name of the chunk table; None if it isn't set.
        largest: The share of the table that its largest partition has, 0 to 1; 0 if it isn't known.
    """

    chunks: int
    basis: Basis
    table_bytes: int
    parallel_workers: int | None = None
    largest: float = 0.0


@dataclass(frozen=True, slots=True)
class BuildForecast:
    """What the build of a vector index takes, and what the server gives it. Sizes are in bytes.

    Attributes:
        chunks: How many chunks are indexed.
        basis: How their number is known; see `ChunkCount`.
        index_bytes: The size of the index once it is built.
        memory_bytes: The `maintenance_work_mem` that keeps the graph in memory.
        maintenance_work_mem: The one that the build has.
        processes: How many processes build it with enough memory, the session's own included.
        shared_memory_bytes: Shared memory that a parallel build reserves when it begins; 0 if one process builds.
        shared_memory: Shared memory of the server; None if unknown.
        disk_free: Free disk space of the server; None if unknown.
        seconds: How long it takes; None if no comparable build is on record. Much longer if the memory doesn't suffice.
        problems: What doesn't suffice, each as a sentence with what to set.
        partitions: How many partitions are built one after the other. Memory and processes are those of one.
        prefix_bytes: The size of the prefixes in the chunk table, if they are what is indexed.
    """

    chunks: int
    basis: Basis
    index_bytes: int
    memory_bytes: int
    maintenance_work_mem: int
    processes: int
    shared_memory_bytes: int
    shared_memory: int | None
    disk_free: int | None
    seconds: float | None
    problems: tuple[str, ...]
    partitions: int = 1
    prefix_bytes: int = 0

    @property
    def fits(self) -> bool:
        """Whether the graph stays in memory."""
        return self.memory_bytes <= self.maintenance_work_mem


def of_generation(
    connection: sa.Connection, generation: Generation, *, rows: int | None = None, memory: str | None = None
) -> BuildForecast:
    """Returns the forecast for a generation's vector index, also before its first row is encoded.

    Estimates the number of chunks without a scan, unless the table was never analyzed: then counts them.

    Args:
        connection: A connection of the role that will build. Transactions with a `lock_timeout` are best.
        generation: The generation.
        rows: How many rows the table will have; None for those that it has.
        memory: The `maintenance_work_mem` of the build, such as ``9GB``; None for that of the session.
    """
    count = count_chunks(connection, generation, rows=rows)
    return of_spec(connection, generation.spec, count, memory=memory)


def of_spec(
    connection: sa.Connection, spec: IndexSpec, count: ChunkCount, *, memory: str | None = None
) -> BuildForecast:
    """Returns the forecast for the vector index of a spec.

    Args:
        connection: A connection of the role that will build.
        spec: The semantic index.
        count: How many chunks it will have.
        memory: The `maintenance_work_mem` of the build; None for that of the session.
    """
    server = server_resources.read(connection, memory=memory)
    shape = HnswShape.of(spec)
    largest = max(hnsw_size.in_largest_partition(count.chunks, shape), math.ceil(count.chunks * count.largest))
    alone = hnsw_size.required_memory(largest, shape, server_version=server.version)
    raised = dataclasses.replace(server, maintenance_work_mem=max(server.maintenance_work_mem, alone))
    processes = raised.processes(count.table_bytes * largest // max(1, count.chunks), wanted=count.parallel_workers)
    needed = alone if processes == 1 else hnsw_size.required_memory(largest, shape, parallel=True)
    shared = 0 if processes == 1 else hnsw_size.shared_bytes(max(needed, server.maintenance_work_mem))
    size = hnsw_size.index_bytes(count.chunks, shape)
    records = list(build_records.read(connection).values())
    return BuildForecast(
        chunks=count.chunks,
        basis=count.basis,
        index_bytes=size,
        memory_bytes=needed,
        maintenance_work_mem=server.maintenance_work_mem,
        processes=processes,
        shared_memory_bytes=shared,
        shared_memory=server.shared_memory,
        disk_free=server.disk_free,
        seconds=build_records.seconds_from(records, count.chunks, spec=spec),
        problems=tuple(_problems(server, needed, size, shared=shared)),
        partitions=spec.partitions,
        prefix_bytes=count.chunks * hnsw_size.prefix_bytes(spec),
    )


def count_chunks(connection: sa.Connection, generation: Generation, *, rows: int | None = None) -> ChunkCount:
    """Returns how many chunks a generation will have once all its rows are encoded.

    Args:
        connection: A connection of a role that can read the tables.
        generation: The generation.
        rows: How many rows the table will have; None for those that it has.
    """
    known = connection.execute(sql.statement("vector_index", "counts"), {"generation": generation.id}).one()
    tables = generation.tables
    chunks = known_or_counted(connection, known.chunks, tables.chunks)
    if rows is None and generation.backfilled and chunks:
        basis: Basis = "counted" if known.chunks is None else "estimated"
        return ChunkCount(chunks, basis, known.bytes, known.parallel_workers, known.largest or 0.0)
    receipts = known_or_counted(connection, known.receipts, tables.receipts) if chunks else 0
    rows = known_or_counted(connection, known.rows, tables.source) if rows is None else rows
    return _projected(known, chunks=chunks, receipts=receipts, rows=rows)


def estimate_chunks(connection: sa.Connection, generation: Generation) -> ChunkCount | None:
    """Returns what `count_chunks` does, from statistics alone; None if a table was never analyzed."""
    known = connection.execute(sql.statement("vector_index", "counts"), {"generation": generation.id}).one()
    if generation.backfilled and known.chunks:
        return ChunkCount(known.chunks, "estimated", known.bytes, known.parallel_workers, known.largest or 0.0)
    if known.rows is None or known.chunks is None or (known.chunks and known.receipts is None):
        return None
    return _projected(known, chunks=known.chunks, receipts=known.receipts or 0, rows=known.rows)


def _projected(known: sa.Row[Any], *, chunks: int, receipts: int, rows: int) -> ChunkCount:
    """Returns how many chunks a number of rows has: as many per row as so far, or one."""
    if not chunks or not receipts:
        return ChunkCount(rows, "one per row", rows * _ASSUMED_CHUNK_BYTES, known.parallel_workers)
    total = round(rows * chunks / receipts)
    table_bytes = round(total * known.bytes / chunks)
    return ChunkCount(total, "from rows", table_bytes, known.parallel_workers, known.largest or 0.0)


def summary(found: BuildForecast) -> str:
    """Returns a forecast in one line, for a log."""
    time = "no comparable build to tell the time" if found.seconds is None else duration(found.seconds)
    processes = "1 process" if found.processes == 1 else f"{found.processes} processes"
    parts = "" if found.partitions == 1 else f" in {found.partitions} partitions"
    prefixes = f" and prefixes of {said(found.prefix_bytes)}" if found.prefix_bytes else ""
    return (
        f"{found.chunks} chunks, an index of {said(found.index_bytes)}{parts}{prefixes}, "
        f"{said(found.memory_bytes)} of memory "
        f"(maintenance_work_mem is {said(found.maintenance_work_mem)}), {processes}, {time}"
    )


def said(size: float) -> str:
    """Returns a size in bytes for people: ``9.3 GB``, in powers of 1,024, as Postgres counts."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1024:  # noqa: PLR2004 - of each unit to the next one
            return f"{size:.0f} {unit}" if unit in {"bytes", "kB"} else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def duration(seconds: float) -> str:
    """Returns a duration for people: ``about 12 minutes``."""
    for limit, unit, length in ((90, "second", 1), (5400, "minute", 60), (129_600, "hour", 3600)):
        if seconds < limit:
            count = max(1, round(seconds / length))
            return f"about {count} {unit}{'' if count == 1 else 's'}"
    return f"about {seconds / 86_400:.1f} days"


def known_or_counted(connection: sa.Connection, known: int | None, table: sa.Table) -> int:
    """Returns a number of rows if it is known, or counts them."""
    if known is not None:
        return known
    return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def _problems(server: ServerResources, needed: int, size: int, *, shared: int) -> Iterator[str]:
    memory = server.maintenance_work_mem
    if needed > memory:
        value = hnsw_size.as_setting(needed)
        yield (
            f"The graph needs {said(needed)} of memory, and maintenance_work_mem is {said(memory)}: the build would "
            f"take many times longer. Set {_SETTING}={value} for the worker, or run ALTER ROLE {server.role} SET "
            f"maintenance_work_mem = '{value}'"
        )
    if server.shared_memory is not None and shared > server.shared_memory:
        yield (
            f"A parallel build reserves {said(shared)} of shared memory at once, and the server has "
            f"{said(server.shared_memory)}: start its container with --shm-size={hnsw_size.as_setting(shared)[:-1]}, "
            f"or run ALTER ROLE {server.role} SET max_parallel_maintenance_workers = 0"
        )
    if server.disk_free is not None and size > server.disk_free:
        yield f"The index needs {said(size)} of disk space, and {said(server.disk_free)} are free: free some"
