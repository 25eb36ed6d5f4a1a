"""The worker: claims jobs of every generation in turn and overlaps reading, encoding and writing.

Three threads: one reads the next batch and one writes the last while the caller's encodes. A stage hands on through a
future, so a failure in any of them reaches the caller of `run`, and no stage is ever more than a batch ahead.
A fourth beats: it keeps the leases of claims that are being worked on. Vector indexes are built on a thread apart.
"""

import contextlib
import functools
import logging
import os
import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, encoders, jobqueue, sql
from pg_semantic.encoders import Encoder
from pg_semantic.jobqueue import Claim
from pg_semantic.settings import Settings
from pg_semantic.sync import backfill, encode, source, store
from pg_semantic.sync.batch import Batch
from pg_semantic.sync.builder import Builder
from pg_semantic.sync.roster import Roster, Served

R = TypeVar("R")

log = logging.getLogger("pg_semantic.worker")

_BEAT_SECONDS = 20.0


@dataclass(slots=True)
class Progress:
    """What a worker has done since it started."""

    rows: int = 0
    chunks_encoded: int = 0
    rows_failed: int = 0


class Worker:
    """Keeps every semantic index of a database true to its text; `run` is the whole of its life."""

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        *,
        load: Callable[..., Encoder] = encoders.load,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.progress = Progress()
        self._engine = engine
        self._settings = settings
        self._on_progress = on_progress
        self._roster = Roster(engine, settings, load=load)
        self._builder = Builder(engine, backlog=settings.vector_index_backlog)
        self._turn = 0
        self._in_hand: dict[uuid.UUID, Claim] = {}
        self._left: dict[uuid.UUID, list[str]] = {}
        self._job_locks = threading.Lock()

    def run(self, stop: threading.Event, *, once: bool = False) -> Progress:
        """Works until ``stop`` is set, or with ``once`` until no job waits; what is in hand is finished first.

        Trouble with one index (its encoder can not be loaded, its tables are not as they were) is logged and leaves
        the others alone; with ``once`` it is raised at the end. Raises `errors.DatabaseError` when the database goes
        away.
        """
        done = threading.Event()
        with database.translated(), self._signed_in() as worker_id, ThreadPoolExecutor(3) as threads:
            beating = threads.submit(self._beat, worker_id, done)
            try:
                self._loop(threads, beating, stop, once=once)
            finally:
                done.set()
                self._builder.close()
            beating.result()
        if once and self._roster.refused:
            raise next(iter(self._roster.refused.values()))
        return self.progress

    def _loop(self, threads: ThreadPoolExecutor, beating: Future[None], stop: threading.Event, *, once: bool) -> None:
        writing: Future[None] | None = None
        recent: deque[Batch] = deque(maxlen=2)  # those that a batch may have been read before they were written
        reading = threads.submit(self._read)
        while not stop.is_set():
            if beating.done():
                beating.result()
            batch = reading.result()
            if batch is None:
                _finished(writing)
                writing = None
                if once and self._drained():
                    break
                stop.wait(self._settings.poll_seconds)
                reading = threads.submit(self._read)
                continue
            reading = threads.submit(self._read)
            for earlier in recent:
                batch.borrow(earlier)
            encode.encode(batch, self._roster.encoder(batch.tables.spec.encoder.id))
            recent.append(batch)
            _finished(writing)
            writing = threads.submit(self._write, batch)
        _finished(writing)
        reading.result()
        for token in list(self._in_hand):
            self._give_back(token, at_once=True)

    def _read(self) -> Batch | None:
        """The next batch, of the generation whose turn it is or the first after it that has jobs."""
        for token in list(self._left):
            self._give_back(token)
        self._roster.refresh()
        rota = self._served
        for _ in rota:
            self._turn += 1
            served = rota[self._turn % len(rota)]
            batch = self._guarded(served, functools.partial(self._read_from, served))
            if batch is not None:
                return batch
        return None

    def _read_from(self, served: Served) -> Batch | None:
        generation = served.generation
        if not generation.backfilled:
            backfill.advance(self._engine, served.tables, generation.id)
        else:
            self._builder.tend(generation.id, served.tables)
        settings = self._settings
        with self._engine.begin() as connection:
            claim = jobqueue.claim(
                connection, generation.id, rows=settings.batch_rows, lease_seconds=settings.lease_seconds
            )
        if not claim.jobs:
            return None
        self._in_hand[claim.token] = claim
        try:
            with self._engine.begin() as connection:
                batch = source.read(connection, served.tables, claim, ruler=served.encoder)
        except exc.DBAPIError:
            self._left[claim.token] = [job.key for job in claim.jobs]
            raise
        if batch.later:
            store.give_back(self._engine, claim, batch.later, at_once=True)
        return batch

    def _write(self, batch: Batch) -> None:
        with self._job_locks:
            rows = self._guarded(batch, lambda: store.write(self._engine, batch, settings=self._settings)) or 0
        self._give_back(batch.claim.token)
        self.progress.rows += rows
        self.progress.chunks_encoded += batch.encoded
        for row in batch.rows:
            if error := batch.failure(row):  # the job keeps the message, which may quote the text
                self.progress.rows_failed += 1
                log.warning("%s: row %s failed: %s", batch.tables.spec.name, row.job.key, error.partition(":")[0])
        log.info("%s: %d rows, %d chunks encoded", batch.tables.spec.name, rows, batch.encoded)
        self._on_progress(self.progress)

    def _give_back(self, token: uuid.UUID, *, at_once: bool = False) -> None:
        """Releases what is left of a claim; what a writer has locked is tried again at the next read."""
        claim = self._in_hand[token]
        keys = self._left.pop(token, None) or [job.key for job in claim.jobs]
        if left := store.give_back(self._engine, claim, keys, at_once=at_once):
            self._left[token] = left
        else:
            del self._in_hand[token]

    def _guarded(self, of: Served | Batch, step: Callable[[], R]) -> R | None:
        """Takes a step; when the database refuses it, its index is left alone for a while and the others go on."""
        try:
            return step()
        except exc.DBAPIError as error:
            if database.is_connection_lost(error):
                raise
            generation_id = of.claim.generation_id if isinstance(of, Batch) else of.generation.id
            self._roster.refuse(generation_id, of.tables.spec.name, database.translate(error))
            return None

    def _drained(self) -> bool:
        """Whether nothing is left to do: no job waits, and every vector index that can be built is."""
        self._roster.refresh()  # so that what has been dropped since is forgotten
        return all(self._guarded(served, functools.partial(self._is_done, served)) for served in self._served)

    def _is_done(self, served: Served) -> bool:
        generation = served.generation
        with self._engine.connect() as connection:
            waiting = jobqueue.waiting(connection, generation.id, limit=1)
        return generation.backfilled and not waiting and self._builder.tend(generation.id, served.tables)

    @property
    def _served(self) -> list[Served]:
        return list(self._roster.served.values())

    def _beat(self, worker_id: int, done: threading.Event) -> None:
        settings = self._settings
        while not done.wait(min(settings.lease_seconds / 3, _BEAT_SECONDS)):
            with self._job_locks, self._engine.begin() as connection:  # or a write would find its jobs locked
                connection.execute(sql.statement("registry", "worker_heartbeat"), {"id": worker_id})
                jobqueue.heartbeat(connection, list(self._in_hand), lease_seconds=settings.lease_seconds)
            with self._engine.begin() as connection:
                self._reap(connection)

    def _reap(self, connection: sa.Connection) -> None:
        settings = self._settings
        jobqueue.reap(connection, max_attempts=settings.max_attempts, retry_seconds=settings.retry_seconds)

    @contextlib.contextmanager
    def _signed_in(self) -> Iterator[int]:
        with self._engine.begin() as connection:
            database.require_installed(connection)
            who = {"host": socket.gethostname(), "pid": os.getpid()}
            worker_id = connection.execute(sql.statement("registry", "start_worker"), who).scalar_one()
            self._reap(connection)
        try:
            yield worker_id
        finally:
            with self._engine.begin() as connection:
                connection.execute(sql.statement("registry", "stop_worker"), {"id": worker_id})


def _finished(stage: Future[None] | None) -> None:
    if stage is not None:
        stage.result()
