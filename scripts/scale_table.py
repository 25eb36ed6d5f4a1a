"""Computes the tables of docs/how-to/scale.md: bytes, memory, WAL and time of indexes of a million rows and more.

What was measured is in `Measured`, each figure with its benchmark. Everything else follows from these figures and from
the formulas in `pg_semantic.index.hnsw_size`. `generate_reference` writes the tables into the page, and
tests/unit/test_reference.py compares them with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pg_semantic.index import hnsw_size
from pg_semantic.index.hnsw_size import HnswShape
from pg_semantic.worker import build_records
from scripts.markdown_text import table

DIMENSIONS, PREFIX = 384, 192
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_CHECKPOINT_SECONDS = 15 * _MINUTE
_MOST_PROCESSES = 32  # that build an index together; whether more would help wasn't measured
_GPU_TEXTS_PER_S = 5_000  # a round number to multiply: see `pg-semantic encoder show` for that of a machine


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, on 2 cores: see benchmarks/RESULTS.md. Bytes are those of a row.

    Attributes:
        chunks: The chunk table, without its indexes, of pieces of up to 500 characters (``bench-row-size``).
        receipts: The same of the receipt table, which has the lexemes.
        keys: The indexes of both that keep keys unique or find equal chunks.
        gin: The lexical index.
        wal_backfill: WAL until all rows are synced, with BM25.
        wal_build: WAL of the builds of the vector index and of the lexical index.
        texts_per_s: How many chunks a worker encoded and wrote per second with MiniLM (``bench-sync``).
        written_per_s: How many rows a worker writes per second with BM25 if encoding costs nothing (``bench-feed``).
        build_s: How long both indexes of ``build_rows`` rows took (``bench-million``).
        build_rows: Their number.
        build_cores: On how many cores.
    """

    chunks: float = 1_386.5
    receipts: float = 1_817.4
    keys: float = 160.5
    gin: float = 285.6
    wal_backfill: float = 3_510.3
    wal_build: float = 1_984.9
    texts_per_s: float = 188.7
    written_per_s: float = 4_697
    build_s: float = 45.5
    build_rows: int = 100_000
    build_cores: int = 2


MEASURED = Measured()


@dataclass(frozen=True, slots=True)
class Plan:
    """A number of rows, with the partitions and the machine that the page proposes for them.

    Attributes:
        rows: How many rows, with one chunk each.
        partitions: How many partitions the chunk table has.
        cores: Cores of the database server.
        workers: Workers that fill the index at first.
    """

    rows: int
    partitions: int
    cores: int
    workers: int

    @property
    def title(self) -> str:
        """The number of rows, for the head of a table."""
        return f"{self.rows // 10**6:,} M rows" if self.rows < 10**9 else f"{self.rows // 10**9:,} B rows"

    @property
    def processes(self) -> int:
        """Processes that build an index together."""
        return min(self.cores, _MOST_PROCESSES)

    @property
    def part(self) -> int:
        """Rows of a partition."""
        return math.ceil(self.rows / self.partitions)


PLANS = (
    Plan(10**6, partitions=1, cores=4, workers=1),
    Plan(10**7, partitions=1, cores=8, workers=2),
    Plan(10**8, partitions=16, cores=32, workers=4),
    Plan(10**9, partitions=64, cores=96, workers=8),
)


def index_bytes(plan: Plan, dimensions: int) -> int:
    """Returns the size of the vector index of all partitions, in bytes."""
    return plan.partitions * hnsw_size.index_bytes(plan.part, HnswShape(dimensions))


def build_memory(plan: Plan, dimensions: int, *, partitions: int | None = None) -> int:
    """Returns the `maintenance_work_mem` of a parallel build of one partition, in bytes."""
    part = math.ceil(plan.rows / (partitions or plan.partitions))
    return hnsw_size.required_memory(part, HnswShape(dimensions), parallel=True)


def build_seconds(plan: Plan) -> float:
    """Returns how long the builds take if each process helps as much, and the time grows with n log n."""
    per_work = MEASURED.build_s * MEASURED.build_cores / build_records.work(MEASURED.build_rows)
    return plan.partitions * build_records.work(plan.part) * per_work / plan.processes


def disk_table() -> str:
    """Returns the table of bytes on disk, and of what a search should find in memory."""
    tables = MEASURED.chunks + MEASURED.receipts + MEASURED.keys + MEASURED.gin
    return _table(
        ("chunks", "measured per row", lambda plan: size(plan.rows * MEASURED.chunks)),
        ("receipts", "measured per row", lambda plan: size(plan.rows * MEASURED.receipts)),
        ("indexes of keys and of equal chunks", "measured per row", lambda plan: size(plan.rows * MEASURED.keys)),
        ("lexical index (GIN)", "measured per row", lambda plan: size(plan.rows * MEASURED.gin)),
        (f"vector index, `halfvec({DIMENSIONS})`", "computed", lambda plan: size(index_bytes(plan, DIMENSIONS))),
        (
            f"or `storage=Compressed(prefix={PREFIX})`",
            "computed",
            lambda plan: size(index_bytes(plan, PREFIX)),
        ),
        (
            f"**together**, `halfvec({DIMENSIONS})`",
            "computed",
            lambda plan: size(plan.rows * tables + index_bytes(plan, DIMENSIONS)),
        ),
    )


def build_table() -> str:
    """Returns the table of what builds take."""
    return _table(
        ("partitions", "proposed", lambda plan: str(plan.partitions)),
        (
            "memory of a build without partitions",
            "computed",
            lambda plan: size(build_memory(plan, DIMENSIONS, partitions=1)),
        ),
        (
            f"memory of the build of one partition, `halfvec({DIMENSIONS})`",
            "computed",
            lambda plan: size(build_memory(plan, DIMENSIONS)),
        ),
        (f"the same with `prefix={PREFIX}`", "computed", lambda plan: size(build_memory(plan, PREFIX))),
        ("cores of the server", "proposed", lambda plan: str(plan.cores)),
        (
            "builds of all partitions by at most 32 processes, at least",
            "computed",
            lambda plan: duration(build_seconds(plan)),
        ),
    )


def fill_table() -> str:
    """Returns the table of what the first backfill takes."""
    return _table(
        (
            f"encoding on {MEASURED.build_cores} CPU cores, {MEASURED.texts_per_s:.0f} texts/s (measured)",
            "computed",
            lambda plan: duration(plan.rows / MEASURED.texts_per_s),
        ),
        (
            f"encoding at {_GPU_TEXTS_PER_S:,} texts/s",
            "computed",
            lambda plan: duration(plan.rows / _GPU_TEXTS_PER_S),
        ),
        (
            f"writing by one worker, {MEASURED.written_per_s:,.0f} rows/s (measured)",
            "computed",
            lambda plan: duration(plan.rows / MEASURED.written_per_s),
        ),
        ("WAL of the backfill", "measured per row", lambda plan: size(plan.rows * MEASURED.wal_backfill)),
        ("WAL of the builds", "measured per row", lambda plan: size(plan.rows * MEASURED.wal_build)),
    )


def settings_table() -> str:
    """Returns the table of settings."""
    return _table(
        ("`partitions` of the index", "proposed", lambda plan: str(plan.partitions)),
        (
            "`PG_SEMANTIC_MAINTENANCE_WORK_MEM`",
            "computed",
            lambda plan: f"`{hnsw_size.as_setting(build_memory(plan, DIMENSIONS))}`",
        ),
        (
            "`/dev/shm`, at least",
            "computed",
            lambda plan: f"`{hnsw_size.as_setting(hnsw_size.shared_bytes(build_memory(plan, DIMENSIONS)))}`",
        ),
        ("`max_parallel_maintenance_workers`", "proposed", lambda plan: f"`{plan.processes - 1}`"),
        (
            "`max_locks_per_transaction`: five for each partition",
            "computed",
            lambda plan: f"`{max(64, 5 * plan.partitions)}`",
        ),
        ("memory that holds the vector index", "computed", lambda plan: size(index_bytes(plan, DIMENSIONS))),
        ("workers during the backfill", "proposed", lambda plan: str(plan.workers)),
        (
            f"`max_wal_size`: WAL of {_CHECKPOINT_SECONDS // _MINUTE} minutes of these workers",
            "computed",
            lambda plan: f"`{hnsw_size.as_setting(_wal_between_checkpoints(plan))}`",
        ),
    )


def _wal_between_checkpoints(plan: Plan) -> int:
    """Returns the WAL between two checkpoints, of workers that write as fast as they can, in bytes."""
    most = plan.workers * MEASURED.written_per_s * MEASURED.wal_backfill * _CHECKPOINT_SECONDS
    return math.ceil(min(most, plan.rows * MEASURED.wal_backfill))


def size(count: float) -> str:
    """Returns a number of bytes in GB or TB with two digits or more; these are powers of 1,024."""
    for unit in ("MB", "GB", "TB"):
        count /= 2**20 if unit == "MB" else 1024
        if count < 1000:  # noqa: PLR2004 - of each unit to the next one
            return f"{count:.1f} {unit}" if count < 10 else f"{count:.0f} {unit}"  # noqa: PLR2004 - two digits
    return f"{count:.0f} TB"


def duration(seconds: float) -> str:
    """Returns a duration with two digits or so: ``3.5 min``, ``15 h``, ``61 days``."""
    for limit, unit, length in ((_HOUR, "min", _MINUTE), (2 * _DAY, "h", _HOUR), (math.inf, "days", _DAY)):
        if seconds < limit:
            count = seconds / length
            return f"{count:.1f} {unit}" if count < 10 else f"{count:.0f} {unit}"  # noqa: PLR2004 - two digits
    raise AssertionError("every duration is finite")


def _table(*rows: tuple[str, str, Callable[[Plan], str]]) -> str:
    head = ("", *(plan.title for plan in PLANS), "how it is known")
    return table(head, [(name, *map(value, PLANS), known) for name, known, value in rows])


GENERATED = {
    "scale-disk": disk_table,
    "scale-build": build_table,
    "scale-fill": fill_table,
    "scale-settings": settings_table,
}
