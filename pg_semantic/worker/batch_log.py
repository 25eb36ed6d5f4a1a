"""What a worker has done since it started: counted, logged and reported batch by batch."""

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pg_semantic.worker.batch import Batch
from pg_semantic.worker.index_drift import IndexDrift

log = logging.getLogger("pg_semantic.worker")

Stage = Literal["read", "encode", "write"]


@dataclass(slots=True)
class Progress:
    """What a worker has done since it started."""

    rows: int = 0
    chunks_encoded: int = 0
    rows_failed: int = 0


@dataclass(slots=True)
class IndexCounts:
    """What a worker has done for one index since it started.

    Attributes:
        batches: Batches that were written, in full or in part.
        rows: Rows that were synced.
        chunks_encoded: Distinct texts that were encoded.
        rows_failed: Failures that were recorded; a row that fails again counts again.
        rows_returned: Claimed rows that weren't finished: they changed, were locked or lost their lease, or the encoder
            was unavailable.
    """

    batches: int = 0
    rows: int = 0
    chunks_encoded: int = 0
    rows_failed: int = 0
    rows_returned: int = 0


@dataclass(frozen=True, slots=True)
class WorkerActivity:
    """A worker at one moment, without a look at the database.

    Attributes:
        by_index: What it has done for each index, by the index's name with its schema.
        stage_seconds: How long each stage was busy. The stages overlap.
        jobs_claimed: How many jobs it has claimed.
        jobs_held: How many jobs its claims in progress had when they were taken.
        jobs_reaped: How many jobs it has put back into the queue because the lease of the worker that held them ended.
        served: How many generations it keeps in sync.
        refused: How many generations it cannot keep in sync for now.
        heartbeat_at: When its last heartbeat succeeded, in seconds since 1970; None before the first.
        is_paused: Whether it pauses backfill, of some indexes at least.
        tokens_billed: How many tokens it has sent to remote encoders, without attempts that the server refused.
        built: The vector indexes at the last heartbeat, by the name of the index with its schema, and the role.
    """

    by_index: Mapping[str, IndexCounts]
    stage_seconds: Mapping[Stage, float]
    jobs_claimed: int
    jobs_held: int
    jobs_reaped: int
    served: int
    refused: int
    heartbeat_at: float | None
    is_paused: bool = False
    tokens_billed: int = 0
    built: Mapping[tuple[str, str], IndexDrift] = field(default_factory=dict)


class ProgressReporter:
    """Adds up written batches, from any thread.

    Attributes:
        progress: The sums so far.
        by_index: The same by the index's name with its schema, in more detail.
        seconds: How long each stage was busy.
    """

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self.progress = Progress()
        self.by_index: dict[str, IndexCounts] = defaultdict(IndexCounts)
        self.seconds: dict[Stage, float] = {"read": 0.0, "encode": 0.0, "write": 0.0}
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def report(self, batch: Batch) -> None:
        """Logs what was written of a batch, and what was not, and calls ``on_progress`` with the new sums."""
        with self._lock:
            self._log_rows(batch)
            self.progress.rows += batch.written
            self.progress.chunks_encoded += batch.encoded
            self.progress.rows_failed += len(batch.recorded)
            counts = self._counts_of(batch)
            counts.batches += 1
            counts.rows += batch.written
            counts.chunks_encoded += batch.encoded
            counts.rows_failed += len(batch.recorded)
            self._on_progress(self.progress)

    def returned(self, batch: Batch) -> None:
        """Counts the rows of a batch that go back to the queue."""
        with self._lock:
            self._counts_of(batch).rows_returned += len(batch.claim.jobs) - batch.written - len(batch.recorded)

    @contextlib.contextmanager
    def timing(self, stage: Stage) -> Iterator[None]:
        """Adds the time that the ``with`` block takes to that of a stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] += time.monotonic() - began

    def _counts_of(self, batch: Batch) -> IndexCounts:
        return self.by_index[f"{batch.tables.spec.schema}.{batch.tables.spec.name}"]

    @staticmethod
    def _log_rows(batch: Batch) -> None:
        name = batch.tables.spec.name
        for job, error in batch.recorded:  # the message, which may quote the text, stays in the job
            kind = error.partition(":")[0]
            fields = {"event": "row_failed", "index": name, "key": job.key, "error": kind}
            log.warning("%s: row %s failed: %s", name, job.key, kind, extra=fields)
        for job in batch.claim.jobs:
            if job.key in batch.moved:
                fields = {"event": "row_moved", "index": name, "key": job.key}
                log.info(
                    "%s: row %s is gone, or its key changed or was taken: reading it again", name, job.key, extra=fields
                )
        counts = {"event": "synced", "index": name, "rows": batch.written, "chunks_encoded": batch.encoded}
        log.info("%s: %d rows, %d chunks encoded", name, batch.written, batch.encoded, extra=counts)
