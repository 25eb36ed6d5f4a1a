"""The worker: claims jobs of every generation in turn and overlaps reading, encoding and writing.

Three threads: one reads the next batch and one writes the last while the caller's encodes. A stage hands on through a
future, so a failure in any of them reaches the caller of `run`, and no stage is ever more than a batch ahead.
A fourth beats: it keeps the leases of claims that are being worked on.
"""

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import chunking, database, encoders, errors, jobqueue, registry, schema, sql
from pg_semantic.encoders import Encoder
from pg_semantic.jobqueue import Claim
from pg_semantic.registry import Generation
from pg_semantic.settings import Settings
from pg_semantic.sync import backfill, encode, source, store, vectorindex
from pg_semantic.sync.batch import Batch

R = TypeVar("R")

log = logging.getLogger("pg_semantic.worker")

_ENCODER_RETRY_SECONDS = 30.0
_UNDEFINED_TABLE = "42P01"


@dataclass(slots=True)
class Progress:
    """What a worker has done since it started."""

    rows: int = 0
    chunks_encoded: int = 0
    rows_failed: int = 0


@dataclass(frozen=True, slots=True)
class _Served:
    """A generation with what is needed to work on it."""

    generation: Generation
    tables: schema.Tables
    encoder: Encoder


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
        self._load = load
        self._on_progress = on_progress
        self._served: dict[Generation, _Served] = {}
        self._encoders: dict[int, Encoder] = {}
        self._refused: dict[int, errors.PgSemanticError] = {}
        self._retry_at: dict[int, float] = {}
        self._indexed: set[int] = set()
        self._turn = 0
        self._claims: set[uuid.UUID] = set()

    def run(self, stop: threading.Event, *, once: bool = False) -> Progress:
        """Works until ``stop`` is set, or with ``once`` until no job waits; what is in hand is finished first.

        Raises `errors.EncoderError` with ``once`` when an encoder can not be loaded (other indexes are served first),
        and `errors.DatabaseError` when the database goes away.
        """
        done = threading.Event()
        with database.translated(), self._signed_in() as worker_id, ThreadPoolExecutor(3) as threads:
            beating = threads.submit(self._beat, worker_id, done)
            try:
                self._loop(threads, beating, stop, once=once)
            finally:
                done.set()
            beating.result()
        if once and self._refused:
            raise next(iter(self._refused.values()))
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
                    self._tend_vector_indexes()
                    return
                stop.wait(self._settings.poll_seconds)
                reading = threads.submit(self._read)
                continue
            reading = threads.submit(self._read)
            for earlier in recent:
                batch.borrow(earlier)
            encode.encode(batch, self._encoders[batch.tables.spec.encoder.id])
            recent.append(batch)
            _finished(writing)
            writing = threads.submit(self._write, batch)
        _finished(writing)
        self._give_back(reading.result())

    def _read(self) -> Batch | None:
        """The next batch, of the generation whose turn it is or the first after it that has jobs."""
        self._refresh()
        rota = list(self._served.values())
        for _ in rota:
            self._turn += 1
            batch = self._read_from(rota[self._turn % len(rota)])
            if batch is not None:
                return batch
        return None

    def _read_from(self, served: _Served) -> Batch | None:
        generation = served.generation
        if not generation.backfilled:
            _unless_dropped(served, lambda: backfill.advance(self._engine, served.tables, generation.id))
        elif generation.id not in self._indexed:
            self._tend_vector_index(served)
        settings = self._settings
        with self._engine.begin() as connection:
            claim = jobqueue.claim(
                connection, generation.id, rows=settings.batch_rows, lease_seconds=settings.lease_seconds
            )
        if not claim.jobs:
            return None
        self._claims.add(claim.token)
        return _unless_dropped(served, lambda: self._read_rows(served, claim))

    def _read_rows(self, served: _Served, claim: Claim) -> Batch:
        with self._engine.begin() as connection:
            return source.read(connection, served.tables, claim, ruler=served.encoder)

    def _write(self, batch: Batch) -> None:
        rows = _unless_dropped(batch, lambda: store.write(self._engine, batch, settings=self._settings)) or 0
        self._claims.discard(batch.claim.token)
        self.progress.rows += rows
        self.progress.chunks_encoded += batch.encoded
        for row in batch.rows:
            if error := batch.failure(row):  # the job keeps the message, which may quote the text
                self.progress.rows_failed += 1
                log.warning("%s: row %s failed: %s", batch.tables.spec.name, row.job.key, error.partition(":")[0])
        log.info("%s: %d rows, %d chunks encoded", batch.tables.spec.name, rows, batch.encoded)
        self._on_progress(self.progress)

    def _give_back(self, batch: Batch | None) -> None:
        if batch is not None:
            with self._engine.begin() as connection:
                jobqueue.release(connection, batch.claim, [job.key for job in batch.claim.jobs], delay_seconds=0)
            self._claims.discard(batch.claim.token)

    def _refresh(self) -> None:
        """Reads the registry again, so that new and dropped indexes are noticed, and loads encoders."""
        with self._engine.connect() as connection:
            known = registry.generations(connection)
        served = {generation: self._served.get(generation) or self._serve(generation) for generation in known}
        self._served = {generation: ready for generation, ready in served.items() if ready is not None}

    def _serve(self, generation: Generation) -> _Served | None:
        """Makes ready to serve a generation; one whose encoder will not do is logged and tried again later."""
        if self._retry_at.get(generation.id, 0) > time.monotonic():
            return None
        try:
            encoder = self._encoder_for(generation)
            chunking.require_room(generation.spec.chunking, encoder)
        except (errors.EncoderError, errors.MissingExtra, errors.DeclarationError) as error:
            log.error("%s is not kept in sync: %s", generation.qualified_name, error)  # noqa: TRY400 - it says all
            self._refused[generation.id] = error
            self._retry_at[generation.id] = time.monotonic() + _ENCODER_RETRY_SECONDS
            return None
        self._refused.pop(generation.id, None)
        return _Served(generation, schema.build(generation.spec), encoder)

    def _encoder_for(self, generation: Generation) -> Encoder:
        spec = generation.spec.encoder
        if spec.id not in self._encoders:
            encoder = self._load(spec.reference, dimensions=spec.dimensions, settings=self._settings)
            with self._engine.begin() as connection:
                registry.pin_encoder(
                    connection, spec.id, fingerprint=encoder.fingerprint, max_tokens=encoder.max_tokens
                )
            self._encoders[spec.id] = encoder
        return self._encoders[spec.id]

    def _tend_vector_index(self, served: _Served) -> None:
        generation = served.generation
        limit = self._settings.vector_index_backlog
        with self._engine.connect() as connection:
            waiting = jobqueue.waiting(connection, generation.id, limit=limit + 1)
        if waiting <= limit and _unless_dropped(served, lambda: vectorindex.ensure(self._engine, served.tables)):
            self._indexed.add(generation.id)

    def _tend_vector_indexes(self) -> None:
        for generation, served in self._served.items():
            if generation.id not in self._indexed:
                self._tend_vector_index(served)

    def _drained(self) -> bool:
        with self._engine.connect() as connection:
            return all(
                generation.backfilled and not jobqueue.waiting(connection, generation.id, limit=1)
                for generation in self._served
            )

    def _beat(self, worker_id: int, done: threading.Event) -> None:
        settings = self._settings
        while not done.wait(settings.lease_seconds / 3):
            with self._engine.begin() as connection:
                connection.execute(sql.statement("registry", "worker_heartbeat"), {"id": worker_id})
                jobqueue.heartbeat(connection, list(self._claims), lease_seconds=settings.lease_seconds)
                jobqueue.reap(connection, max_attempts=settings.max_attempts)

    @contextlib.contextmanager
    def _signed_in(self) -> Iterator[int]:
        with self._engine.begin() as connection:
            database.require_installed(connection)
            who = {"host": socket.gethostname(), "pid": os.getpid()}
            worker_id = connection.execute(sql.statement("registry", "start_worker"), who).scalar_one()
            jobqueue.reap(connection, max_attempts=self._settings.max_attempts)
        try:
            yield worker_id
        finally:
            with self._engine.begin() as connection:
                connection.execute(sql.statement("registry", "stop_worker"), {"id": worker_id})


def _unless_dropped(of: _Served | Batch, step: Callable[[], R]) -> R | None:
    """Takes a step, or does nothing when a table has gone; the next look at the registry shows that the index has."""
    try:
        return step()
    except exc.DBAPIError as error:
        if database.sqlstate(error) != _UNDEFINED_TABLE:
            raise
        log.info("%s was dropped while it was being worked on", of.tables.spec.name)
        return None


def _finished(stage: Future[None] | None) -> None:
    if stage is not None:
        stage.result()
