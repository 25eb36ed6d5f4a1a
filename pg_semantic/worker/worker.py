"""The worker: signs in, sends heartbeats, runs the pipeline, and reconnects if it loses the database.

One more thread extends the leases of claims, one answers queries from plain SQL, and one follows the privileges of the
sources, which may take long with many indexes. Another measures the recall of indexes, and one analyzes partitioned
tables. Vector indexes are built on separate threads.
"""

import contextlib
import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import sqlalchemy as sa
import tenacity
from sqlalchemy import exc

from pg_semantic import database, encoders, errors, jobqueue, registry, sql
from pg_semantic.database import transaction
from pg_semantic.encoders import Encoder
from pg_semantic.settings import Settings
from pg_semantic.worker import assignment, catalog_watcher, index_drift, partition_statistics, privileges
from pg_semantic.worker.assignment import Assignment
from pg_semantic.worker.batch_log import Progress, WorkerActivity
from pg_semantic.worker.held_claims import HeldClaims
from pg_semantic.worker.index_builder import IndexBuilder
from pg_semantic.worker.index_drift import IndexDrift
from pg_semantic.worker.intervals import Intervals
from pg_semantic.worker.pipeline import Pipeline
from pg_semantic.worker.query_requests import QueryResponder
from pg_semantic.worker.recall_watcher import RecallWatcher
from pg_semantic.worker.served_indexes import ServedIndexes
from pg_semantic.worker.token_usage import TokenUsage

log = logging.getLogger("pg_semantic.worker")

_BEAT_SECONDS = 20.0
_SOON_SECONDS = 1.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 30.0


class Worker:
    """Keeps every semantic index of a database in sync with its text, or one of them.

    Args:
        engine: Connects to the database.
        settings: What an operator can change.
        load: Loads an encoder, as `encoders.load` does.
        on_progress: Called after each batch.
        intervals: How long to wait between tries.
        assigned: What to work on.
    """

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        *,
        load: Callable[..., Encoder] = encoders.load,
        on_progress: Callable[[Progress], None] = lambda _: None,
        intervals: Intervals = Intervals(),  # noqa: B008 - frozen
        assigned: Assignment = assignment.EVERYTHING,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._id: int | None = None
        self._beat_at: float | None = None
        self._intervals = intervals
        self._assigned = assigned
        self._privileges_pause, self._busy_tries = intervals.privileges, 0
        self._built: Mapping[tuple[str, str], IndexDrift] = {}
        self._unbuilt: dict[int, errors.DatabaseError] = {}
        self._usage = TokenUsage(engine, settings)
        self._served = ServedIndexes(engine, settings, usage=self._usage, load=load, retry_seconds=intervals.refused)
        self._held = HeldClaims(engine, settings)
        self._answers = QueryResponder(engine, settings, served=self._served)
        self._pipeline = Pipeline(
            engine, settings, served=self._served, held=self._held, usage=self._usage, on_progress=on_progress
        )

    @property
    def progress(self) -> Progress:
        """What the worker has done since it started."""
        return self._pipeline.progress

    @property
    def activity(self) -> WorkerActivity:
        """The worker at this moment, for metrics. Needs no database, and may be read on any thread."""
        reporter = self._pipeline.reporter
        return WorkerActivity(
            by_index=dict(reporter.by_index),
            stage_seconds=dict(reporter.seconds),
            jobs_claimed=self._held.claimed_jobs,
            jobs_held=self._held.held_jobs,
            jobs_reaped=self._held.reaped_jobs,
            served=len(self._served.served),
            refused=len(self._served.refused),
            heartbeat_at=self._beat_at,
            is_paused=self._pipeline.paused is not None,
            tokens_billed=self._usage.billed,
            built=self._built,
        )

    def run(self, stop: threading.Event, *, once: bool = False) -> Progress:
        """Works until ``stop`` is set, then finishes the work in progress.

        A problem with one index (its encoder cannot be loaded, its tables were altered) is logged and doesn't affect
        the others. If the server is unreachable, or short of disk, memory or connections, waits for it with back-off.

        Args:
            stop: Ends the run; may be set from any thread.
            once: Whether to return as soon as no job is waiting, and to raise errors instead of waiting.

        Returns:
            What was done.

        Raises:
            errors.IndexNotFound: The database does not have the only index that this worker should serve.
            errors.PgSemanticError: With ``once``, after all other work: an index could not be synced or built, or its
                triggers or foreign keys could not be restored.
            errors.DatabaseError: With ``once``, at once: the server is unreachable or short of resources.
        """
        with database.translated():
            while not self._worked_to_the_end(stop, once=once):
                self._wait_for_server(stop)
        unfinished = [*self._served.unfinished, *self._unbuilt.values()]
        if once and unfinished:
            raise unfinished[0]
        return self.progress

    def abandon(self) -> None:
        """Gives back all claims without finishing them. What `run` still writes after that has no effect."""
        with database.translated():
            self._held.close()
            self._sign_out()

    def _worked_to_the_end(self, stop: threading.Event, *, once: bool) -> bool:
        """Returns whether the work is done; if not, the server is unreachable or short of resources for now."""
        try:
            self._work(stop, once=once)
        except (exc.DBAPIError, errors.DatabaseError) as error:
            cause = database.cause(error)
            if cause is None or not _may_pass(cause):
                raise
            if once:
                self._give_back_on_a_new_connection()
                raise
            self._engine.dispose()
            said = database.reason(cause)
            if database.is_connection_lost(cause):
                log.warning("lost the connection to the database: %s", said, extra={"event": "disconnected"})
            else:
                log.warning("the server is short of resources: %s", said, extra={"event": "out_of_resources"})
                stop.wait(self._intervals.resources)
            return stop.is_set()
        return True

    def _give_back_on_a_new_connection(self) -> None:
        """Releases all claims if the server can be reached again; otherwise their leases expire."""
        self._engine.dispose()
        with contextlib.suppress(exc.DBAPIError):
            self._held.give_back_all()

    def _work(self, stop: threading.Event, *, once: bool) -> None:
        done = threading.Event()
        builder = IndexBuilder(self._engine, self._settings, idle=self._assigned.rows_only)
        watcher = RecallWatcher(self._engine, seconds=self._settings.recall_seconds)
        self._unbuilt = builder.failed
        with self._signed_in(), ThreadPoolExecutor(5) as threads:
            beside = [threads.submit(self._beat, done), threads.submit(self._keep_privileges, done)]
            if not (once or self._assigned.rows_only):
                beside += [threads.submit(self._answers.run, done), threads.submit(watcher.run, done)]
                beside += [threads.submit(self._keep_statistics, done)]
            try:
                with self._giving_back():
                    self._pipeline.run(stop, builder=builder, once=once, check=lambda: _raise_from(beside))
            finally:
                done.set()
                self._usage.settle()
                watcher.close()
                builder.close()
                self._served.close()
            for thread in beside:
                thread.result()

    @contextlib.contextmanager
    def _giving_back(self) -> Iterator[None]:
        """Releases all claims at the end, also after an error, unless the connection was lost.

        Otherwise their rows would wait for the leases to end, and would then be suspected of ending the worker.
        """
        try:
            yield
        except Exception as error:
            cause = database.cause(error)
            if cause is None or not database.is_connection_lost(cause):
                with contextlib.suppress(exc.DBAPIError):
                    self._held.give_back_all()
            raise
        self._held.give_back_all()

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
            log.info("reconnected to the database", extra={"event": "reconnected"})

    def _beat(self, done: threading.Event) -> None:
        seconds = pause = min(self._settings.lease_seconds / 3, _BEAT_SECONDS)
        rows, at = self.progress.rows, time.monotonic()
        while not done.wait(pause):
            now, count = time.monotonic(), self.progress.rows
            beat = functools.partial(self._beat_once, rows=count, rate=(count - rows) / (now - at))
            rows, at = count, now
            pause = seconds if _succeeds(beat, "heartbeat") else min(seconds, _SOON_SECONDS)

    def _beat_once(self, *, rows: int, rate: float) -> None:
        with transaction.begin(self._engine) as connection:
            database.require_installed(connection)  # it may have been upgraded meanwhile
            binds = {"id": self._id, "rows": rows, "rate": rate, "paused": self._pipeline.paused}
            if not connection.execute(sql.statement("registry", "worker_heartbeat"), binds).rowcount:
                self._id = self._sign_in(connection)  # it was suspended for a day, and another worker deleted it
        self._held.beat()
        self._beat_at = time.time()
        self._held.reap()
        jobqueue.sweep(self._engine)
        served = [one.generation for one in list(self._served.served.values())]
        with transaction.unless_busy(), transaction.begin(self._engine) as connection:
            self._built = index_drift.read(connection, served)

    def _keep_privileges(self, done: threading.Event) -> None:
        while not done.wait(self._privileges_pause):
            _succeeds(functools.partial(self._follow_privileges, done.is_set), "update of privileges")

    def _keep_statistics(self, done: threading.Event) -> None:
        while not done.wait(self._intervals.statistics):
            _succeeds(lambda: partition_statistics.follow(self._engine), "update of statistics")

    def _follow_privileges(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Brings privileges up to date. Retries soon while a table is in use, because its readers may be shut out."""
        is_busy = any(one.is_busy for one in privileges.follow(self._engine, leave=True, stopped=stopped))
        self._busy_tries = self._busy_tries + 1 if is_busy else 0
        longest = self._intervals.privileges
        self._privileges_pause = min(_SOON_SECONDS * 2 ** min(self._busy_tries - 1, 6), longest) if is_busy else longest

    @contextlib.contextmanager
    def _signed_in(self) -> Iterator[None]:
        with transaction.begin(self._engine) as connection:
            database.require_installed(connection)
            catalog_watcher.settle(connection)
            if self._assigned.index is not None:
                self._served.index_id = registry.find(connection, self._assigned.index).index_id
            self._id = self._sign_in(connection)
        try:
            with transaction.unless_busy():
                self._follow_privileges()
            self._beat_at = time.time()
            self._held.give_back_all()  # claims from before the connection was lost
            self._held.reap()
            yield
        finally:
            with contextlib.suppress(exc.DBAPIError):
                self._sign_out()

    def _sign_in(self, connection: sa.Connection) -> int:
        """Returns a new id for this worker, and signs out the previous one if that failed before."""
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
    """Whether all work should start over a while after this error, whichever statement caused it."""
    return database.is_connection_lost(error) or database.is_short_of_resources(error)


def _succeeds(step: Callable[[], object], name: str) -> bool:
    """Runs a step next to the pipeline. Returns False if the database is too busy, or cannot be reached, for now.

    A single lost connection must not end the work in progress: if the server is away, the pipeline notices.
    """
    try:
        step()
    except (exc.DBAPIError, errors.DatabaseError) as error:
        cause = database.cause(error)
        if cause is None or not (_may_pass(cause) or database.is_busy_or_slow(cause)):
            raise
        if _may_pass(cause):
            said = database.reason(cause)
            log.warning("the %s failed and will be repeated: %s", name, said, extra={"event": "repeated"})
        return False
    return True


def _raise_from(threads: Sequence[Future[None]]) -> None:
    for thread in threads:
        if thread.done():
            thread.result()
