"""The pipeline of a worker: claims jobs of each generation in turn, and overlaps reading, encoding and writing.

One thread reads the next batch, one encodes, and one writes the previous batch. Meanwhile, another one looks for edits
that should go first. Each stage passes its result on through a future, so an error in any stage reaches the
caller of `run`, and no stage is more than a batch ahead.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import sqlalchemy as sa

from pg_semantic import jobqueue
from pg_semantic.database import transaction
from pg_semantic.jobqueue import Claimable
from pg_semantic.settings import Settings
from pg_semantic.worker.backfill import Backfill
from pg_semantic.worker.batch import Batch
from pg_semantic.worker.batch_log import Progress, ProgressReporter
from pg_semantic.worker.fast_lane import LOOK_SECONDS, FastLane, ReadAhead, let_all_pass, turn_of
from pg_semantic.worker.held_claims import HeldClaims
from pg_semantic.worker.index_builder import IndexBuilder
from pg_semantic.worker.key_changes import KeyAdapter
from pg_semantic.worker.queue_vacuum import QueueVacuum
from pg_semantic.worker.read_changed_texts import ReadLimits
from pg_semantic.worker.scheduling import Scheduler
from pg_semantic.worker.served_indexes import ServedGeneration, ServedIndexes
from pg_semantic.worker.stages import Stages
from pg_semantic.worker.throttle import Throttle
from pg_semantic.worker.token_usage import TokenUsage

_QUIET_SECONDS = 10.0  # without work; after that, a worker polls less often
_QUIET_FACTOR = 10
_TOKENS_PER_CHARACTER_READ = 4  # of the budget of the day: twice as many as a character has, because of two batches


class Pipeline:
    """The overlapping stages of one worker. Run it again after the connection to the database was lost."""

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        *,
        served: ServedIndexes,
        held: HeldClaims,
        usage: TokenUsage,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._served = served
        self._held = held
        self._usage = usage
        self._stages = Stages(engine, settings, served=served, held=held, usage=usage, on_progress=on_progress)
        self._scheduler = Scheduler()
        self._adapter = KeyAdapter(engine)
        self._backfill = Backfill(engine)
        self._vacuum = QueueVacuum(engine)
        self._throttle = Throttle(settings)
        self._worked_at = time.monotonic()

    @property
    def progress(self) -> Progress:
        """What was done in all runs."""
        return self._stages.reporter.progress

    @property
    def reporter(self) -> ProgressReporter:
        """The same in more detail."""
        return self._stages.reporter

    @property
    def paused(self) -> str | None:
        """Why backfill is paused; None if it isn't."""
        return self._throttle.reason

    def run(self, stop: threading.Event, *, builder: IndexBuilder, once: bool, check: Callable[[], None]) -> None:
        """Works until ``stop`` is set.

        Args:
            stop: Checked between batches and while idle.
            builder: Builds indexes alongside.
            once: Whether to return as soon as no job is waiting and all indexes are built.
            check: Called between batches and while a stage is busy; may raise to end the run.

        Raises:
            sqlalchemy.exc.DBAPIError: The database is unreachable, or a statement on the queue failed.
        """
        self._stages.forget_bases()
        with self._lanes(builder, check) as (threads, ahead, lane):
            writing: Future[None] | None = None
            ahead.start()
            while not stop.is_set():
                check()
                batch = lane.wait_for(ahead.batch)
                if stop.is_set():  # set while edits were processed: the batch is given back
                    break
                if batch is None:
                    lane.wait_for(writing)
                    lane.finish()
                    writing = None
                    if once and self._is_drained(builder):
                        return
                    if not (once and builder.wait(LOOK_SECONDS)):
                        stop.wait(self._pause())
                    ahead.start()
                    continue
                ahead.start()
                encoded = self._encode(batch, lane, threads)
                lane.wait_for(writing)
                writing = threads.submit(self._stages.write, batch, self._held.locks) if encoded else None
            if writing is not None:
                writing.result()
            lane.finish()
            ahead.batch.result()

    @contextlib.contextmanager
    def _lanes(
        self, builder: IndexBuilder, check: Callable[[], None]
    ) -> Iterator[tuple[ThreadPoolExecutor, ReadAhead, FastLane]]:
        """Opens a connection for each lane and keeps it open, so that a poll costs next to nothing."""
        engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as polling, engine.connect() as overtaking, ThreadPoolExecutor(4) as threads:
            ahead = ReadAhead(threads, lambda ahead: self._read(ahead, polling, builder))
            lane = FastLane(
                self._stages,
                check,
                scheduler=self._scheduler,
                held=self._held,
                connection=overtaking,
                ahead=ahead,
            )
            yield threads, ahead, lane

    def _read(self, ahead: ReadAhead, connection: sa.Connection, builder: IndexBuilder) -> Batch | None:
        """Reads the next batch, of the generation whose turn it is, after some housekeeping."""
        self._look_at_limits(connection)
        self._keep_house(builder)
        waiting = [
            one
            for one in self._stages.ready(connection)
            if one.priority == jobqueue.EDIT or self._may_fill(one.generation_id)
        ]
        self._served.settle({one.generation_id for one in waiting})
        allowed = self._held.allowed(waiting)
        if not allowed:
            return None
        ahead.turn = turn = self._scheduler.pick(allowed)
        limits = ReadLimits(self._characters(turn), self._settings.batch_bytes)

        def long_row_ahead() -> None:
            ahead.turn = let_all_pass(turn)

        return self._stages.read(turn, limits, on_long=long_row_ahead)

    def _look_at_limits(self, connection: sa.Connection) -> None:
        with transaction.unless_busy():
            self._usage.write()
        self._throttle.look(connection, sent=self._usage.billed)

    def _may_fill(self, generation_id: int) -> bool:
        """Returns whether a generation's backfill isn't paused."""
        return not self._throttle.pauses(is_remote=self._served.is_remote(generation_id))

    def _characters(self, turn: Claimable) -> int:
        """Returns how much text to read: less of a backfill towards the end of the budget of the day.

        As many characters as a quarter of the tokens that are left. A character has two tokens at most, counting those
        that are added to a short text, and a worker sends one batch while it reads the next one. So what it has already
        read when the budget is spent is hardly more than a row.
        """
        wanted, left = self._stages.batch_sizes[turn.generation_id].characters, self._throttle.tokens_left
        if left is None or turn.priority == jobqueue.EDIT or not self._served.is_remote(turn.generation_id):
            return wanted
        return max(1, min(wanted, left // _TOKENS_PER_CHARACTER_READ))

    def _keep_house(self, builder: IndexBuilder) -> None:
        """Looks after the queue, follows the registry, and compares a page of each late backfill that isn't paused.

        May take seconds, to load an encoder.
        """
        with transaction.unless_busy():
            self._held.give_back_left()
        self._vacuum.tend(self.progress.rows)
        refreshed = self._served.refresh(at_once=self._adapter.look())
        for number, served in self._served.served.items():
            with self._served.isolating_failures(number):
                if not served.generation.backfilled:
                    builder.tend_basis(served.generation)
                    if self._may_fill(number):
                        self._backfill.advance(served.tables, number)
                elif refreshed:
                    builder.tend(served.generation)

    def _encode(self, batch: Batch, lane: FastLane, threads: ThreadPoolExecutor) -> bool:
        """Encodes a batch, and edits that overtake it. Returns whether the batch can be written."""
        if batch.claim.priority == jobqueue.EDIT:
            lane.finish()  # may be encoding the same texts, for another generation
        lane.current = let_all_pass(turn_of(batch)) if batch.is_long else turn_of(batch)
        self._stages.reuse_vectors(batch)
        characters = sum(len(text) for text in batch.missing().values())
        started = time.monotonic()
        encoded = self._stages.encode(batch, lambda encode: lane.wait_for(threads.submit(encode)))
        self._worked_at = time.monotonic()
        if encoded:
            size = self._stages.batch_sizes[batch.claim.generation_id]
            size.learn_speed(characters, self._worked_at - started)
        return encoded

    def _pause(self) -> float:
        """Returns the seconds until the next poll."""
        quiet = time.monotonic() - self._worked_at > _QUIET_SECONDS
        return self._settings.poll_seconds * (_QUIET_FACTOR if quiet else 1)

    def _is_drained(self, builder: IndexBuilder) -> bool:
        """Whether nothing is left to do: no job is waiting, and every late index that can be built is built."""
        if not self._served.refresh(at_once=True):  # to forget what was dropped meanwhile
            return False
        if not all(self._is_done(served, builder) for served in list(self._served.served.values())):
            return False
        self._served.settle((), at_once=True)
        return not self._served.is_validating

    def _is_done(self, served: ServedGeneration, builder: IndexBuilder) -> bool:
        generation = served.generation
        with self._served.isolating_failures(generation.id):
            with transaction.begin(self._engine) as connection:
                waiting = jobqueue.waiting(connection, generation.id, limit=1)
            if generation.backfilled and not waiting and builder.tend(generation, draining=True):
                return True
        return False
