"""Read, encode, write: claims jobs of each generation in turn and overlaps the three stages.

One thread reads the next batch, one encodes, and one writes the previous batch. Meanwhile, the calling thread looks for
edits that should go first. Each stage passes its result on through a future, so an error in any stage reaches the
caller of `run`, and no stage is more than a batch ahead.
"""

import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, jobqueue
from pg_semantic.database import transaction
from pg_semantic.encoders import Encoder
from pg_semantic.jobqueue import Claim, Claimable, Job
from pg_semantic.settings import Settings
from pg_semantic.worker import encode_chunks, read_rows, write_chunks
from pg_semantic.worker.backfill import Backfill
from pg_semantic.worker.batch import LONG_CHARACTERS, Batch
from pg_semantic.worker.batch_size import BatchSizer
from pg_semantic.worker.held_claims import HeldClaims
from pg_semantic.worker.index_build_thread import IndexBuilder
from pg_semantic.worker.key_changes import KeyAdapter
from pg_semantic.worker.read_changed_texts import ReadLimits
from pg_semantic.worker.scheduling import Scheduler
from pg_semantic.worker.served_indexes import ServedGeneration, ServedIndexes
from pg_semantic.worker.vector_cache import VectorCache

R = TypeVar("R")

log = logging.getLogger("pg_semantic.worker")

_QUIET_SECONDS = 10.0  # without work; after that, a worker polls less often
_QUIET_FACTOR = 10
_LOOK_SECONDS = 0.1  # between polls for edits while a batch is encoded, or for jobs while the last index is built
_FEWEST_BESIDE = 16  # rows to claim alongside a batch: the first may be too long, and others may be waiting behind them
_QUERY_CANCELED = "57014"
_HOUSEKEEPING = Claimable(0, jobqueue.BACKFILL)  # in progress before a turn is picked: any edit goes first


@dataclass(slots=True)
class Progress:
    """What a worker has done since it started."""

    rows: int = 0
    chunks_encoded: int = 0
    rows_failed: int = 0


class Pipeline:
    """The stages of one worker. Run it again after the connection to the database was lost."""

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        *,
        roster: ServedIndexes,
        in_hand: HeldClaims,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.progress = Progress()
        self._engine = engine
        self._settings = settings
        self._served = roster
        self._in_hand = in_hand
        self._on_progress = on_progress
        self._reporting = threading.Lock()
        self._threads: ThreadPoolExecutor  # one reads, one encodes, one writes
        self._reading: Future[Batch | None]
        self._read_on: Callable[[], Future[Batch | None]]
        self._turn: Claimable | None = None  # what is being read
        self._current: Claimable | None = None  # what is being encoded, or was encoded last
        self._watch: sa.Connection  # for the reading thread
        self._lookout: sa.Connection  # for the thread that waits for the encoder
        self._worked_at = time.monotonic()
        self._adapting = KeyAdapter(engine)
        self._scheduler = Scheduler()
        self._vectors = VectorCache()
        self._backfill = Backfill(engine)
        self._moved: Counter[tuple[int, Job]] = Counter()  # how often a row could not be written because of its key
        self._batch_sizes: dict[int, BatchSizer] = defaultdict(lambda: BatchSizer(settings.batch_seconds))

    def run(self, stop: threading.Event, *, builder: IndexBuilder, once: bool, check: Callable[[], None]) -> None:
        """Works until ``stop`` is set.

        Args:
            stop: Checked between batches and while idle.
            builder: Builds indexes alongside.
            once: Whether to return as soon as no job is waiting and all indexes are built.
            check: Called between batches; may raise to end the run.

        Raises:
            sqlalchemy.exc.DBAPIError: The database is unreachable, or a statement on the queue failed.
        """
        with self._watching(), ThreadPoolExecutor(3) as self._threads:
            threads = self._threads
            writing: Future[None] | None = None
            self._read_on = lambda: threads.submit(self._read, builder)
            self._reading = self._read_on()
            while not stop.is_set():
                check()
                batch = self._seeing_to_edits(self._reading)
                if stop.is_set():  # set while edits were processed: the batch is given back
                    break
                if batch is None:
                    self._seeing_to_edits(writing)
                    writing = None
                    if once and self._drained(builder):
                        return
                    if not (once and builder.wait(_LOOK_SECONDS)):
                        stop.wait(self._pause())
                    self._reading = self._read_on()
                    continue
                self._reading = self._read_on()
                encoded = self._encode(batch)
                self._seeing_to_edits(writing)
                writing = threads.submit(self._write, batch, self._in_hand.locks) if encoded else None
            _finished(writing)
            self._reading.result()

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Keeps connections open for polling, so that a poll costs next to nothing."""
        engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as self._watch, engine.connect() as self._lookout:
            yield

    def _read(self, builder: IndexBuilder) -> Batch | None:
        """Reads the next batch, of the generation whose turn it is.

        Before that, it may load an encoder or compare a page of rows, which takes seconds.
        """
        self._turn = _HOUSEKEEPING
        with transaction.unless_busy():
            self._in_hand.give_back_left()
        refreshed = self._served.refresh(at_once=self._adapting.look())
        for number, served in self._served.served.items():
            if not served.generation.backfilled:
                self._isolating_failures(number, functools.partial(self._backfill.advance, served.tables, number))
            elif refreshed:
                self._isolating_failures(number, functools.partial(builder.tend, served.generation))
        waiting = self._ready(self._watch)
        self._served.settle({one.generation_id for one in waiting})
        if not waiting:
            return None
        self._turn = turn = self._scheduler.pick(waiting)
        return self._claim_and_read(
            turn, ReadLimits(self._batch_sizes[turn.generation_id].characters, self._settings.batch_bytes)
        )

    def _ready(self, connection: sa.Connection) -> list[Claimable]:
        """Returns what can be claimed, or nothing if the server is too busy."""
        try:
            return jobqueue.ready(connection, list(self._served.served))
        except exc.DBAPIError as error:
            if database.sqlstate(error) != _QUERY_CANCELED and not transaction.is_busy(error):
                raise
            return []

    def _claim_and_read(self, turn: Claimable, room: ReadLimits) -> Batch | None:
        return self._isolating_failures(turn.generation_id, functools.partial(self._claimed_batch, turn, room))

    def _claimed_batch(self, turn: Claimable, room: ReadLimits) -> Batch | None:
        served, pace = self._served.served.get(turn.generation_id), self._batch_sizes[turn.generation_id]
        if served is None:  # dropped, or refused by the other thread, meanwhile
            return None
        fewest = 1 if room.longest is None else min(_FEWEST_BESIDE, self._settings.batch_rows)
        claim = self._in_hand.take(turn, max(fewest, pace.rows(room.characters, most=self._settings.batch_rows)))
        if claim is None:
            return None
        try:
            batch, rows = read_rows.look(self._engine, served.tables, claim, room=room)
            self._leave(batch, claim)
            if not batch.claim.jobs:
                return None
            if room.longest is None and any(row.characters > LONG_CHARACTERS for row in rows):
                self._turn = _let_all_pass(turn)
            read_rows.cut(self._engine, batch, rows, ruler=served.encoder, sisters=self._served.sisters(served))
        except exc.DBAPIError as error:
            if not database.is_connection_lost(error):
                with transaction.unless_busy():
                    self._in_hand.give_back(claim)
            raise
        pace.learn_length(len(batch.claim.jobs), batch.characters)
        return batch

    def _leave(self, batch: Batch, claim: Claim) -> None:
        """Gives back the rows that a batch has no room for; those that are too long for it, after a short delay."""
        self._in_hand.leave(claim, batch.later, at_once=True)
        self._in_hand.leave(claim, batch.long)
        if not batch.claim.jobs:
            self._in_hand.finish(claim)

    def _pause(self) -> float:
        """Returns the seconds until the next poll."""
        quiet = time.monotonic() - self._worked_at > _QUIET_SECONDS
        return self._settings.poll_seconds * (_QUIET_FACTOR if quiet else 1)

    def _encode(self, batch: Batch) -> bool:
        """Encodes a batch, and edits that arrive meanwhile. Returns whether the encoder was available."""
        current = Claimable(batch.claim.generation_id, batch.claim.priority)
        self._current = _let_all_pass(current) if batch.is_long else current
        self._vectors.fill(batch)
        characters = sum(len(text) for text in batch.missing().values())
        started = time.monotonic()

        def beside() -> None:
            encoding = self._threads.submit(encode_chunks.encode, batch, self._encoder(batch))
            self._seeing_to_edits(encoding)

        encoded = self._encoded_or_returned(batch, beside)
        self._worked_at = time.monotonic()
        self._batch_sizes[batch.claim.generation_id].learn_speed(characters, self._worked_at - started)
        return encoded

    def _encoded_or_returned(self, batch: Batch, fill: Callable[[], None]) -> bool:
        """Calls ``fill`` and returns whether the encoder was available. If not, gives the batch back.

        No attempt is counted, and the vectors that were computed until then are kept.
        """
        if not self._served.is_left_alone(batch.claim.generation_id):
            try:
                fill()
            except (errors.EncoderUnavailable, errors.EncoderMismatch) as error:
                self._served.refuse_encoder(batch.tables.spec.encoder.id, error)
            else:
                return True
            finally:
                self._vectors.store(batch)
        with transaction.unless_busy():
            self._in_hand.give_back(batch.claim)
        return False

    def _seeing_to_edits(self, stage: Future[R] | None) -> R | None:
        """Waits for a stage and returns its result. Meanwhile, processes edits that are more urgent."""
        while stage is not None and not wait([stage], _LOOK_SECONDS).done:
            in_hand = self._turn if stage is self._reading else self._current
            if in_hand is not None:
                self._encode_urgent_edits(in_hand, stage)
        return stage.result() if stage else None

    def _encode_urgent_edits(self, in_hand: Claimable, stage: Future[Any]) -> None:
        """Processes edits that arrived while a stage is busy, whether or not they were read ahead."""
        edits = self._reading.result() if stage is not self._reading and self._reading.done() else None
        ahead = edits and not edits.is_long and Claimable(edits.claim.generation_id, edits.claim.priority)
        if ahead and _is_urgent(ahead, in_hand):
            self._reading = self._read_on()
        else:
            edits = self._claim_urgent_edits(in_hand)
        if edits is not None:
            self._vectors.fill(edits)
            if self._encoded_or_returned(edits, functools.partial(encode_chunks.encode, edits, self._encoder(edits))):
                self._write(edits, self._in_hand.edit_locks)

    def _encoder(self, batch: Batch) -> Encoder:
        return self._served.encoder(batch.tables.spec.encoder.id)

    def _claim_urgent_edits(self, in_hand: Claimable) -> Batch | None:
        """Reads some edits that are more urgent than the work in progress."""
        urgent = [one for one in self._ready(self._lookout) if _is_urgent(one, in_hand)]
        if not urgent:
            return None
        turn = self._scheduler.pick(urgent)
        pace = self._batch_sizes[turn.generation_id]
        return self._claim_and_read(turn, ReadLimits(pace.edit_characters, self._settings.batch_bytes, LONG_CHARACTERS))

    def _write(self, batch: Batch, locks: threading.Lock) -> None:
        write = functools.partial(write_chunks.write, self._engine, batch, settings=self._settings)
        number = batch.claim.generation_id
        looks = {job.key: self._moved.pop((number, job), 0) for job in batch.claim.jobs}
        batch.stubborn = {key for key, count in looks.items() if count >= self._settings.max_attempts}
        try:
            with locks:
                self._isolating_failures(number, write)
            moved = [job for job in batch.claim.jobs if job.key in batch.moved]
            self._moved.update({(number, job): looks[job.key] + 1 for job in moved})
            self._end(batch)
        finally:
            if batch.written or batch.recorded or batch.moved:  # not if the connection was lost before that
                self._report(batch)

    def _end(self, batch: Batch) -> None:
        """Gives back the jobs of a batch that could not be finished."""
        if batch.written < len(batch.claim.jobs):
            with transaction.unless_busy():
                self._in_hand.give_back(batch.claim)
        else:
            self._in_hand.finish(batch.claim)

    def _report(self, batch: Batch) -> None:
        with self._reporting:
            self._count(batch)
            self._on_progress(self.progress)

    def _count(self, batch: Batch) -> None:
        name = batch.tables.spec.name
        self.progress.rows += batch.written
        self.progress.chunks_encoded += batch.encoded
        for job, error in batch.recorded:  # the message, which may quote the text, stays in the job
            self.progress.rows_failed += 1
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

    def _isolating_failures(self, generation_id: int, step: Callable[[], R]) -> R | None:
        """Takes a step. If the database refuses it, skips the index for a while so that the others continue."""
        try:
            return step()
        except exc.DBAPIError as error:
            if database.is_connection_lost(error):
                raise
            if not transaction.is_busy(error):
                self._served.refuse(generation_id, database.translate(error))
            return None

    def _drained(self, builder: IndexBuilder) -> bool:
        """Whether nothing is left to do: no job is waiting, and every late index that can be built is built."""
        self._served.refresh(at_once=True)  # to forget what was dropped meanwhile
        served = list(self._served.served.items())
        done = all(
            self._isolating_failures(number, functools.partial(self._is_done, one, builder)) for number, one in served
        )
        if done:
            self._served.settle((), at_once=True)
        return done and not self._served.is_validating

    def _is_done(self, served: ServedGeneration, builder: IndexBuilder) -> bool:
        generation = served.generation
        with transaction.begin(self._engine) as connection:
            waiting = jobqueue.waiting(connection, generation.id, limit=1)
        return generation.backfilled and not waiting and builder.tend(generation, draining=True)


def _let_all_pass(in_hand: Claimable) -> Claimable:
    """Returns the turn with the priority of backfill, so that edits of the same index overtake a long row too."""
    return dataclasses.replace(in_hand, priority=jobqueue.BACKFILL)


def _is_urgent(one: Claimable, in_hand: Claimable) -> bool:
    """Whether a turn overtakes the work in progress: edits overtake backfill and edits of another index."""
    before = in_hand.priority != jobqueue.EDIT or one.generation_id != in_hand.generation_id
    return one.priority == jobqueue.EDIT and before


def _finished(stage: Future[None] | None) -> None:
    if stage is not None:
        stage.result()
