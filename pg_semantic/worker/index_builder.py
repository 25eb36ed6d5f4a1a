"""Decides when to build late indexes and BM25 statistics: alongside the sync, one semantic index at a time."""

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, jobqueue, sql
from pg_semantic.database import transaction
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.registry import Generation
from pg_semantic.settings import Settings
from pg_semantic.worker import (
    build_errors,
    build_forecast,
    build_progress,
    build_records,
    create_index_concurrently,
    prefixes,
    problems,
    term_statistics,
)

log = logging.getLogger("pg_semantic.worker")

_AGAIN_SECONDS = 5.0  # after the first failure; doubles each time
_LONGEST_WAIT_SECONDS = 3600.0
_LONGEST_WAIT_BEHIND_OTHERS_SECONDS = 60.0  # after builds that were canceled for another session
_MOST_GIVEN_WAY = 3  # builds of a draining worker that may be canceled for another session
_GIVE_WAY_SECONDS = 1.0  # until a draining worker tries again after such a build
_PATIENCE_SECONDS = 300.0  # after the backfill, to wait for a moment with few waiting rows
_STATISTICS_SECONDS = 30.0  # between checks of their age
_LEARN_SECONDS = 2.0  # between checks whether there are enough vectors for a basis
_STATISTICS = "BM25 statistics"
_NO_SESSION = 0  # no process has this ID
_BASIS = "the basis of prefixes"


class IndexBuilder:
    """Builds what a generation lacks: BM25 statistics, and indexes once few jobs are waiting.

    Args:
        engine: The worker's engine.
        settings: What an operator can change.
        idle: Whether another process builds, and this one leaves everything to it.

    Attributes:
        failed: The last error of each generation with a failed build.
    """

    def __init__(self, engine: sa.Engine, settings: Settings, *, idle: bool = False) -> None:
        self._engine = engine
        self._settings = settings
        self._idle = idle
        self._threads = ThreadPoolExecutor(3)
        self._building: Future[None] | None = None
        self._watching: Future[None] | None = None
        self._learning: Future[bool] | None = None
        self.failed: dict[int, errors.DatabaseError] = {}
        self._again_at: dict[int, float] = {}
        self._closing = False
        self._session: int | None = _NO_SESSION
        self._ready: set[Generation] = set()
        self._look_at: dict[int, float] = {}
        self._learn_at: dict[int, float] = {}
        self._uncounted: set[int] = set()  # generations whose statistics this worker failed to count
        self._given_way: Counter[int] = Counter()
        self._others_until: dict[int, float] = {}

    def tend(self, generation: Generation, *, draining: bool = False) -> bool:
        """Starts a build if one is due. Failed builds are retried at growing intervals.

        Args:
            generation: The generation to build for.
            draining: Whether no job is waiting. Then brings statistics up to date with the rows, retries once what
                failed before this worker started, and three times what was canceled for another session.

        Returns:
            Whether there is nothing left to build for now.
        """
        return self._idle or self._tend(generation, draining=draining)

    def _tend(self, generation: Generation, *, draining: bool) -> bool:
        self.tend_basis(generation)
        if self._is_building() or (draining and time.monotonic() < self._others_until.get(generation.id, 0.0)):
            return False
        put_off = self._is_put_off(generation.id, draining=draining)
        look = self._is_time_to_look(generation.id, draining=draining)
        if not look and (put_off or generation in self._ready):
            return True
        stored = generation.stored
        with transaction.begin(self._engine) as connection:
            outdated = look and self._is_outdated(connection, generation, draining=draining)
            missing = self._missing(connection, generation, stored)
            if missing:
                self._learn_of_failures(connection, generation.id)
                put_off = self._is_put_off(generation.id, draining=draining)
            wanted = [] if put_off else self._wanted(connection, generation.id, missing)
            if not missing and not outdated and not put_off:
                self._settle(connection, generation)
        if not outdated and not wanted:
            return put_off or not missing
        self._building = self._threads.submit(self._build, generation, wanted, count=outdated)
        self._watching = self._threads.submit(
            create_index_concurrently.cancel_for_others,
            self._engine,
            self._building,
            stored,
            is_closing=lambda: self._closing,
            session=lambda: self._session,
            look=build_progress.ProgressLog(self._engine, stored, generation.title),
        )
        return False

    def _is_building(self) -> bool:
        """Whether a build is running. If it ended with an error, raises that once."""
        if self._building is None:
            return False
        if not self._building.done():
            return True
        building, self._building = self._building, None
        building.result()
        return False

    def _is_put_off(self, generation_id: int, *, draining: bool) -> bool:
        """Whether a build failed and it is too early to try again, as far as this worker knows."""
        if draining:
            return generation_id in self.failed
        return time.monotonic() < self._again_at.get(generation_id, 0.0)

    def _learn_of_failures(self, connection: sa.Connection, generation_id: int) -> None:
        """Makes this worker wait as long as the worker whose build failed last."""
        again_at = time.monotonic() + problems.put_off(connection, generation_id, "build")
        self._again_at[generation_id] = max(again_at, self._again_at.get(generation_id, 0.0))

    def wait(self, seconds: float) -> bool:
        """Waits up to ``seconds`` for the running build. Returns whether there was one."""
        building = self._building
        if building is None or building.done():
            return False
        wait([building], seconds)
        return True

    def close(self) -> None:
        """Cancels the running build. The next build drops what it leaves behind."""
        self._closing = True
        self._threads.shutdown()

    def _is_outdated(self, connection: sa.Connection, generation: Generation, *, draining: bool) -> bool:
        if generation.spec.lexical is None:
            return False
        self._look_at[generation.id] = time.monotonic() + _STATISTICS_SECONDS
        known = term_statistics.statistics(connection, generation)
        return known.is_due(self._settings, draining=draining)

    def _is_time_to_look(self, generation_id: int, *, draining: bool) -> bool:
        at_once = draining and generation_id not in self._uncounted
        return at_once or time.monotonic() >= self._look_at.get(generation_id, 0.0)

    def _missing(
        self, connection: sa.Connection, generation: Generation, tables: Tables
    ) -> dict[sa.Index, create_index_concurrently.State]:
        """Returns the indexes that could be built but aren't ready, including those being built."""
        if generation in self._ready or not create_index_concurrently.has_vectors(connection, tables):
            return {}
        states = {index: create_index_concurrently.state(connection, index) for index in tables.late_indexes}
        return {index: state for index, state in states.items() if state != "ready"}

    def _wanted(
        self, connection: sa.Connection, generation_id: int, missing: dict[sa.Index, create_index_concurrently.State]
    ) -> list[sa.Index]:
        """Returns the missing indexes to build now: those that no worker is building, once few jobs are waiting."""
        wanted = [index for index, state in missing.items() if state != "building"]
        return wanted if wanted and self._few_wait(connection, generation_id) else []

    def tend_basis(self, generation: Generation) -> None:
        """Starts to compute the basis of prefixes once it is possible, so that chunks are written with them.

        This waits neither for the backfill nor for builds, which may take hours. It looks now and then.
        """
        now = time.monotonic()
        if self._idle or generation.spec.prefix is None or generation in self._ready:
            return
        if now < max(self._learn_at.get(generation.id, 0.0), self._again_at.get(generation.id, 0.0)):
            return
        self._learn_at[generation.id] = now + _LEARN_SECONDS
        if self._learning is not None:
            if not self._learning.done():
                return
            learning, self._learning = self._learning, None
            learning.result()
        with transaction.begin(self._engine) as connection:
            is_learnable = prefixes.is_learnable(connection, generation)
        if is_learnable:
            learn = functools.partial(prefixes.learn, self._engine, generation)
            self._learning = self._threads.submit(self._is_done, generation, _BASIS, learn)

    def _few_wait(self, connection: sa.Connection, generation_id: int) -> bool:
        """Whether few rows are waiting. Minutes after the backfill, ignores edits, which may never stop coming."""
        backlog = self._settings.vector_index_backlog
        count = functools.partial(jobqueue.waiting, connection, generation_id, limit=backlog + 1)
        if count() <= backlog:
            return True
        long_backfilled = connection.scalar(sql.statement("registry", "backfilled_seconds"), {"id": generation_id})
        return (long_backfilled or 0) > _PATIENCE_SECONDS and count(priority=jobqueue.BACKFILL) <= backlog

    def _settle(self, connection: sa.Connection, generation: Generation) -> None:
        """Records that a generation's problems are over, if all its indexes are ready, whichever worker built them."""
        if generation not in self._ready and all(
            create_index_concurrently.state(connection, index) == "ready" for index in generation.stored.late_indexes
        ):
            problems.forget(connection, [generation.id], "build")
            self.failed.pop(generation.id, None)
            self._given_way.pop(generation.id, None)
            self._ready.add(generation)

    def _build(self, generation: Generation, wanted: list[sa.Index], *, count: bool) -> None:
        """Takes each step; one that fails doesn't stop the others."""
        steps: list[tuple[str, Callable[[], None]]] = [
            (str(index.name), functools.partial(self._build_index, generation, index)) for index in wanted
        ]
        if wanted:
            self.failed.pop(generation.id, None)
        if count:
            self._uncounted.discard(generation.id)
            steps.insert(0, (_STATISTICS, functools.partial(term_statistics.refresh, self._engine, generation)))
        done = [self._is_done(generation, what, step) for what, step in steps]
        if all(done):
            with transaction.unless_busy(), transaction.begin(self._engine) as connection:
                self._settle(connection, generation)

    def _build_index(self, generation: Generation, index: sa.Index) -> None:
        """Builds an index. Before and after a vector index, says what it takes and records what it took.

        A vector index on prefixes waits until each chunk has one.
        """
        is_vector_index = index.name == generation.stored.vector_index.name
        if is_vector_index and not prefixes.fill(self._engine, generation, is_closing=lambda: self._closing):
            return
        if is_vector_index:
            self._log_forecast(generation)
        memory = self._settings.maintenance_work_mem
        try:
            built = create_index_concurrently.build(
                self._engine, index, title=generation.title, memory=memory, on_session=self._build_in
            )
        finally:
            self._build_in(_NO_SESSION)
        if is_vector_index and built is not None:
            build_records.record(self._engine, generation.id, built=built)

    def _build_in(self, session: int | None) -> None:
        self._session = session

    def _log_forecast(self, generation: Generation) -> None:
        """Logs what a build will take, with a warning if the server is short of it, unless a table is locked."""
        memory = self._settings.maintenance_work_mem
        with transaction.unless_busy(), transaction.begin(self._engine) as connection:
            found = build_forecast.of_generation(connection, generation, memory=memory)
            fields = {"event": "index_forecast", "index": generation.title, "chunks": found.chunks}
            log.info("%s: %s", generation.title, build_forecast.summary(found), extra=fields)
            for problem in found.problems:
                log.warning("%s: %s.", generation.title, problem, extra={**fields, "event": "index_short_of_resources"})

    def _is_done(self, generation: Generation, what: str, step: Callable[[], None]) -> bool:
        """Takes a step and returns whether it succeeded. If not, the sync continues and `tend` tries again later."""
        log.info("%s: building %s", generation.title, what, extra={"event": "index_begun", "index": generation.title})
        try:
            step()
        except exc.DBAPIError as error:
            seconds = self._put_off(generation, what, error)
            self._again_at[generation.id] = time.monotonic() + seconds
            if what == _STATISTICS:
                self._look_at[generation.id] = self._again_at[generation.id]
            return False
        return True

    def _put_off(self, generation: Generation, what: str, error: exc.DBAPIError) -> float:
        """Logs why a step failed, unless this worker canceled it. Returns the seconds until the next attempt."""
        if self._closing or database.is_connection_lost(error):
            return _AGAIN_SECONDS
        gave_way = database.is_busy_or_slow(error)
        said = f"{what} could not be built: {build_errors.reason(error)}"
        seconds = problems.note(
            self._engine,
            generation.id,
            "build",
            reason=said,
            first_seconds=_AGAIN_SECONDS,
            most_seconds=_LONGEST_WAIT_BEHIND_OTHERS_SECONDS if gave_way else _LONGEST_WAIT_SECONDS,
        )
        self._ready.discard(generation)  # until it is settled again
        if what == _STATISTICS:
            self._uncounted.add(generation.id)
        self._given_way[generation.id] += gave_way
        if gave_way and self._given_way[generation.id] <= _MOST_GIVEN_WAY:
            self._others_until[generation.id] = time.monotonic() + _GIVE_WAY_SECONDS
        else:
            self.failed[generation.id] = errors.DatabaseError(f"{generation.title}: {said}.")
        fields = {"event": "index_failed", "index": generation.title, "retry_seconds": round(seconds)}
        log.warning("%s: %s. Retrying in %.0f s.", generation.title, said, seconds, extra=fields)
        return seconds
