"""What a worker has done since it started: counted, logged and reported batch by batch."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pg_semantic.worker.batch import Batch

log = logging.getLogger("pg_semantic.worker")


@dataclass(slots=True)
class Progress:
    """What a worker has done since it started."""

    rows: int = 0
    chunks_encoded: int = 0
    rows_failed: int = 0


class ProgressReporter:
    """Adds up written batches, from any thread.

    Attributes:
        progress: The sums so far.
    """

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self.progress = Progress()
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def report(self, batch: Batch) -> None:
        """Logs what was written of a batch, and what was not, and calls ``on_progress`` with the new sums."""
        with self._lock:
            self._log_rows(batch)
            self.progress.rows += batch.written
            self.progress.chunks_encoded += batch.encoded
            self.progress.rows_failed += len(batch.recorded)
            self._on_progress(self.progress)

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
