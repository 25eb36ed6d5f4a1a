"""Edits that overtake the batch in progress: backfill, a long row, or a slow index never keeps an edit waiting."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import sqlalchemy as sa

from pg_semantic import jobqueue
from pg_semantic.jobqueue import Claimable
from pg_semantic.worker.batch import Batch
from pg_semantic.worker.held_claims import HeldClaims
from pg_semantic.worker.scheduling import Scheduler
from pg_semantic.worker.stages import Stages

R = TypeVar("R")

LOOK_SECONDS = 0.1
"""How often to look for edits while a stage is busy, and for jobs while the last vector index is built."""

_HOUSEKEEPING = Claimable(0, jobqueue.BACKFILL)  # in progress before a turn is picked: any edit goes first


class ReadAhead:
    """Reads the next batch on another thread, while the previous one is encoded.

    Attributes:
        batch: The future of the batch that is being read; its result is None if nothing is waiting.
        turn: What is being read.
        threads: Run the stages.
    """

    batch: Future[Batch | None]

    def __init__(self, threads: ThreadPoolExecutor, read: Callable[["ReadAhead"], Batch | None]) -> None:
        self.turn = _HOUSEKEEPING
        self.threads = threads
        self._read = read

    def start(self) -> None:
        """Starts to read the next batch."""
        self.batch = self.threads.submit(self._read_next)

    def _read_next(self) -> Batch | None:
        self.turn = _HOUSEKEEPING
        return self._read(self)


class FastLane:
    """Processes urgent edits on a thread of its own, while the pipeline waits for a stage.

    An edit is urgent if the work in progress is backfill, a long row, or of another index. The stage that ends
    meanwhile doesn't wait for them.

    Attributes:
        current: What is being encoded, or was encoded last.
    """

    current: Claimable | None = None

    def __init__(
        self,
        stages: Stages,
        check: Callable[[], None],
        *,
        scheduler: Scheduler,
        held: HeldClaims,
        connection: sa.Connection,
        ahead: ReadAhead,
    ) -> None:
        self._stages = stages
        self._check = check
        self._scheduler = scheduler
        self._held = held
        self._connection = connection
        self._ahead = ahead
        self._edits: Future[None] | None = None

    def wait_for(self, stage: Future[R] | None) -> R | None:
        """Waits for a stage and returns its result, or raises its error. Meanwhile, starts to process urgent edits.

        Also raises what the check or the edits raise, even before the stage ends.
        """
        while stage is not None and not wait([stage], LOOK_SECONDS).done:
            self._check()
            in_progress = self._ahead.turn if stage is self._ahead.batch else self.current
            if in_progress is not None and self._is_free():
                edits = None if stage is self._ahead.batch else self._read_ahead(in_progress)
                self._edits = self._ahead.threads.submit(self._process, edits, in_progress)
        return stage.result() if stage else None

    def finish(self) -> None:
        """Waits until no edits are in progress."""
        if self._edits is not None:
            self._edits.result()

    def _is_free(self) -> bool:
        if self._edits is None:
            return True
        return self._edits.done() and self._edits.result() is None

    def _process(self, edits: Batch | None, in_progress: Claimable) -> None:
        edits = edits or self._claimed(in_progress)
        if edits is not None:
            self._stages.reuse_vectors(edits)
            if self._stages.encode(edits):
                self._stages.write(edits, self._held.edit_locks)

    def _read_ahead(self, in_progress: Claimable) -> Batch | None:
        """Returns the batch that was read ahead, if these are urgent edits, and starts to read another."""
        batch = self._ahead.batch.result() if self._ahead.batch.done() else None
        if batch is None or batch.is_long or not _is_urgent(turn_of(batch), in_progress):
            return None
        self._ahead.start()
        return batch

    def _claimed(self, in_progress: Claimable) -> Batch | None:
        """Claims and reads a few urgent edits."""
        allowed = self._held.allowed(self._stages.ready(self._connection))
        urgent = [one for one in allowed if _is_urgent(one, in_progress)]
        if not urgent:
            return None
        return self._stages.read_edits(self._scheduler.pick(urgent))


def turn_of(batch: Batch) -> Claimable:
    """Returns the generation and priority of a batch."""
    return Claimable(batch.claim.generation_id, batch.claim.priority)


def let_all_pass(turn: Claimable) -> Claimable:
    """Returns the turn with the priority of backfill, so that edits of the same index overtake a long row too."""
    return dataclasses.replace(turn, priority=jobqueue.BACKFILL)


def _is_urgent(one: Claimable, in_progress: Claimable) -> bool:
    """Whether a turn overtakes the work in progress: edits overtake backfill and edits of another index."""
    before = in_progress.priority != jobqueue.EDIT or one.generation_id != in_progress.generation_id
    return one.priority == jobqueue.EDIT and before
