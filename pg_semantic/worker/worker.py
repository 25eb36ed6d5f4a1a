"""The worker: signs in, beats, runs the pipeline, and comes back when it had lost the database.

A thread of its own keeps the leases of claims that are being worked on, another answers the queries of plain SQL, and a
third follows the rights of the sources, which may take long where there are many indexes.
Vector indexes are built on a thread apart.
"""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import sqlalchemy as sa
import tenacity
from sqlalchemy import exc

from pg_semantic import database, encoders, errors, jobqueue, sql
from pg_semantic.database import transaction
from pg_semantic.encoders import Encoder
from pg_semantic.settings import Settings
from pg_semantic.worker import catalog_watcher, privileges
from pg_semantic.worker.claims import HeldClaims
from pg_semantic.worker.index_builder import IndexBuilder
from pg_semantic.worker.pipeline import Pipeline, Progress
from pg_semantic.worker.query_requests import QueryResponder
from pg_semantic.worker.served_indexes import ServedIndexes

log = logging.getLogger("pg_semantic.worker")

_BEAT_SECONDS = 20.0
_RIGHTS_SECONDS = 60.0
_SOON_SECONDS = 1.0
_RESOURCES_SECONDS = 5.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 30.0


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
        self._engine = engine
        self._settings = settings
        self._id: int | None = None
        self._rights_pause, self._busy_tries = _RIGHTS_SECONDS, 0
        self._unbuilt: dict[int, errors.DatabaseError] = {}
        self._roster = ServedIndexes(engine, settings, load=load)
        self._in_hand = HeldClaims(engine, settings)
        self._answers = QueryResponder(engine, settings, roster=self._roster)
        self._pipeline = Pipeline(engine, settings, roster=self._roster, in_hand=self._in_hand, on_progress=on_progress)

    @property
    def progress(self) -> Progress:
        """What it has done since it started."""
        return self._pipeline.progress

    def run(self, stop: threading.Event, *, once: bool = False) -> Progress:
        """Works until ``stop`` is set, or with ``once`` until no job waits; what is in hand is finished first.

        Trouble with one index (its encoder can not be loaded, its tables are not as they were) is logged and leaves
        the others alone; with ``once`` it is raised at the end, and so are an index that could not be built and
        triggers or foreign keys that could not be put back. When the database goes away it is waited for, with
        back-off, and so it is when the server is short of disk, memory or connections; with ``once``
        `errors.DatabaseError` is raised.
        """
        with database.translated():
            while not self._worked_to_the_end(stop, once=once):
                self._wait_for_server(stop)
        unfinished = [*self._roster.unfinished, *self._unbuilt.values()]
        if once and unfinished:
            raise unfinished[0]
        return self.progress

    def abandon(self) -> None:
        """Gives back what is in hand without finishing it: what `run` still writes after this has no effect."""
        with database.translated():
            self._in_hand.close()
            self._sign_out()

    def _worked_to_the_end(self, stop: threading.Event, *, once: bool) -> bool:
        """Whether the work is at its end, and not only the database gone or its disk full for now."""
        try:
            self._work(stop, once=once)
        except (exc.DBAPIError, errors.DatabaseError) as error:
            cause = error if isinstance(error, exc.DBAPIError) else error.__cause__
            if not isinstance(cause, exc.DBAPIError) or not _may_pass(cause):
                raise
            if once:
                self._give_back_on_a_new_connection()
                raise
            self._engine.dispose()
            said = database.reason(cause)
            if database.is_connection_lost(cause):
                log.warning("the database is gone: %s", said, extra={"event": "disconnected"})
            else:
                log.warning("the server is short of resources: %s", said, extra={"event": "out_of_resources"})
                stop.wait(_RESOURCES_SECONDS)
            return stop.is_set()
        return True

    def _give_back_on_a_new_connection(self) -> None:
        """Releases what is in hand if the server can be reached again; otherwise the leases end by themselves."""
        self._engine.dispose()
        with contextlib.suppress(exc.DBAPIError):
            self._in_hand.give_back_all()

    def _work(self, stop: threading.Event, *, once: bool) -> None:
        done = threading.Event()
        builder = IndexBuilder(self._engine, self._settings)
        self._unbuilt = builder.failed
        with self._signed_in(), ThreadPoolExecutor(3) as threads:
            beside = [threads.submit(self._beat, done), threads.submit(self._keep_rights, done)]
            if not once:
                beside.append(threads.submit(self._answers.run, done))
            try:
                self._pipeline.run(stop, builder=builder, once=once, check=lambda: _raise_from(beside))
                self._in_hand.give_back_all()
            finally:
                done.set()
                builder.close()
                self._roster.close()
            for thread in beside:
                thread.result()

    def _wait_for_server(self, stop: threading.Event) -> None:
        """Tries to connect until it works or ``stop`` is set, at growing intervals with jitter."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(exc.DBAPIError),
            wait=tenacity.wait_random_exponential(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS),
            stop=tenacity.stop_when_event_set(stop),
            sleep=tenacity.sleep_using_event(stop),
            retry_error_callback=lambda _: None,
        )
        stop.wait(_FIRST_WAIT_SECONDS)
        attempts(self._probe)

    def _probe(self) -> None:
        with self._engine.connect():
            log.info("the database is back", extra={"event": "reconnected"})

    def _beat(self, done: threading.Event) -> None:
        seconds = min(self._settings.lease_seconds / 3, _BEAT_SECONDS)
        rows, at = self.progress.rows, time.monotonic()
        while not done.wait(seconds):
            now, count = time.monotonic(), self.progress.rows
            binds = {"id": self._id, "rows": count, "rate": (count - rows) / (now - at)}
            rows, at = count, now
            with transaction.unless_busy():
                with transaction.begin(self._engine) as connection:
                    database.require_installed(connection)  # it may have been upgraded meanwhile
                    connection.execute(sql.statement("registry", "worker_heartbeat"), binds)
                self._in_hand.beat()
                self._in_hand.reap()
                jobqueue.sweep(self._engine)

    def _keep_rights(self, done: threading.Event) -> None:
        while not done.wait(self._rights_pause):
            with transaction.unless_busy():
                self._follow_rights(done.is_set)

    def _follow_rights(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Brings rights up to date. While a table is in use, its readers may be shut out: so tries again soon."""
        is_busy = any(one.is_busy for one in privileges.follow(self._engine, leave=True, stopped=stopped))
        self._busy_tries = self._busy_tries + 1 if is_busy else 0
        pause = _SOON_SECONDS * 2 ** min(self._busy_tries - 1, 6) if is_busy else _RIGHTS_SECONDS
        self._rights_pause = min(pause, _RIGHTS_SECONDS)

    @contextlib.contextmanager
    def _signed_in(self) -> Iterator[None]:
        with transaction.begin(self._engine) as connection:
            database.require_installed(connection)
            catalog_watcher.settle(connection)
            self._id = self._sign_in(connection)
        try:
            with transaction.unless_busy():
                self._follow_rights()
            self._in_hand.give_back_all()  # of before the database was lost
            self._in_hand.reap()
            yield
        finally:
            with contextlib.suppress(exc.DBAPIError):
                self._sign_out()

    def _sign_in(self, connection: sa.Connection) -> int:
        """The number of this worker from now on; one that it could not sign out by ends too."""
        if self._id is not None:
            connection.execute(sql.statement("registry", "stop_worker"), {"id": self._id})
        who = {"host": socket.gethostname(), "pid": os.getpid()}
        number: int = connection.execute(sql.statement("registry", "start_worker"), who).scalar_one()
        return number

    def _sign_out(self) -> None:
        if self._id is not None:
            with transaction.begin(self._engine) as connection:
                connection.execute(sql.statement("registry", "stop_worker"), {"id": self._id})


def _may_pass(error: exc.DBAPIError) -> bool:
    """Whether all work is to be begun again a while after this error, whatever was asked of the server."""
    return database.is_connection_lost(error) or database.is_short_of_resources(error)


def _raise_from(threads: Sequence[Future[None]]) -> None:
    for thread in threads:
        if thread.done():
            thread.result()
