"""Watches an index being filled, in our own tables: how far it is, when its workers may stop, and when to give up."""

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, registry
from pg_semantic.database import transaction
from pg_semantic.fleet import index_state
from pg_semantic.fleet.index_state import IndexState
from pg_semantic.settings import Settings
from pg_semantic.worker import build_progress
from pg_semantic.worker.build_progress import BuildProgress
from pg_semantic.worker.index_builder import IndexBuilder

log = logging.getLogger("pg_semantic.fleet")

_LOG_SECONDS = 60.0
_PACE_SECONDS = 60.0  # over which the speed is measured


@dataclass(frozen=True, slots=True)
class FillProgress:
    """How far a backfill is.

    Attributes:
        done: About how many rows were synced since it was first looked at, by whichever worker.
        total: These rows and those that wait; None while it is unknown how many wait.
        rows_per_second: The speed over the last minute, of all workers; 0 until it is known.
        workers: How many workers of this database are alive.
        build: How far the build of the vector index is; None if none is being built.
        paused: Why workers pause backfill.
        problems: Why the index isn't kept in sync.
    """

    done: int
    total: int | None
    rows_per_second: float
    workers: int
    build: BuildProgress | None = None
    paused: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def eta_seconds(self) -> float | None:
        """How long the rows that wait will take at this speed; None if that is unknown."""
        if self.total is None or not self.rows_per_second:
            return None
        return (self.total - self.done) / self.rows_per_second


@dataclass(frozen=True, slots=True)
class Patience:
    """When to give up.

    Attributes:
        seconds: How long to wait while no row is synced, and a problem is on record or workers ended and none is alive.
        failure: Returns how the last worker that ended did; None if none ended.
    """

    seconds: float
    failure: Callable[[], str | None]


class Watch:
    """Watches one semantic index. Builds what it lacks once its rows are synced, next to the caller.

    Args:
        engine: Connects to the database.
        settings: What an operator can change; for builds.
        name: The name of the index.
        patience: When to give up.
        on_progress: Called each time the tables were read.

    Attributes:
        error: Why it gave up; None if it didn't.
        progress: How far the backfill is.
    """

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        name: str,
        *,
        patience: Patience,
        on_progress: Callable[[FillProgress], None],
    ) -> None:
        self.error: errors.PgSemanticError | None = None
        self.progress = FillProgress(0, None, 0.0, 0)
        self._engine = engine
        self._name = name
        self._patience = patience
        self._on_progress = on_progress
        self._builder = IndexBuilder(engine, settings)
        self._synced = False
        self._away = False
        self._waiting: int | None = None
        self._furthest: tuple[int, ...] = ()
        self._moved_at = time.monotonic()
        self._log_at = self._moved_at + _LOG_SECONDS
        self._pace: deque[tuple[float, int]] = deque()
        self._said: set[str] = set()

    def is_synced(self) -> bool:
        """Looks at the tables. Returns whether the workers may stop: all rows are synced, or it gave up.

        An unreachable or busy server is looked at again next time.
        """
        if not (self._synced or self.error):
            self._look(self._follow)
        return self._synced or self.error is not None

    def is_built(self) -> bool:
        """Starts the builds that are due. Returns whether none is left: all are built, one failed, or it gave up."""
        if self.error is not None:
            return True
        built = self._look(self._build)
        return built is True or self.error is not None

    def close(self) -> None:
        """Cancels a running build."""
        self._builder.close()

    def _look(self, step: Callable[[], bool]) -> bool | None:
        """Takes a step. Returns None, after saying so once, if the server is away or busy."""
        try:
            done = step()
        except errors.PgSemanticError as error:
            cause = database.cause(error)
            if cause is None or not _may_pass(cause):
                self.error = error
                return None
            self._say_away(cause)
        except exc.DBAPIError as error:
            if not _may_pass(error):
                self.error = database.translate(error)
                return None
            self._say_away(error)
        else:
            self._away = False
            return done
        return None

    def _say_away(self, error: exc.DBAPIError) -> None:
        if database.is_connection_lost(error):
            self._engine.dispose()
            if not self._away:
                said = database.reason(error)
                log.warning("cannot see how far the backfill is: %s", said, extra={"event": "disconnected"})
            self._away = True
        self._moved_at = time.monotonic()

    def _follow(self) -> bool:
        found = index_state.read(self._engine, self._name)
        self._count(found)
        self._synced = found.is_synced
        if not self._synced:
            self._give_up_if_stuck(found)
        return self._synced

    def _count(self, found: IndexState) -> None:
        """Counts rows that were synced since the last time, and reports."""
        now = time.monotonic()
        done, waiting = self.progress.done, found.waiting
        if waiting is not None:
            done += max(0, (self._waiting or 0) - waiting)
            self._waiting = waiting
        self._pace.append((now, done))
        while now - self._pace[0][0] > _PACE_SECONDS:
            self._pace.popleft()
        since, before = self._pace[0]
        self._report(
            FillProgress(
                done=done,
                total=None if self._waiting is None else done + self._waiting,
                rows_per_second=(done - before) / (now - since) if now > since else 0.0,
                workers=found.workers,
                paused=found.paused,
                problems=found.problems,
            )
        )

    def _report(self, progress: FillProgress) -> None:
        self.progress = progress
        self._on_progress(progress)
        self._log(progress)

    def _log(self, progress: FillProgress) -> None:
        """Logs each problem once, and how far the backfill is once a minute."""
        for reason in set(progress.problems) - self._said:
            self._said.add(reason)
            log.warning("%s: not kept in sync: %s", self._name, reason, extra={"event": "not_synced"})
        if time.monotonic() < self._log_at:
            return
        self._log_at = time.monotonic() + _LOG_SECONDS
        eta = "" if progress.eta_seconds is None else f", {progress.eta_seconds:.0f} s left"
        fields = {"event": "backfill_progress", "index": self._name, "rows": progress.done, "total": progress.total}
        total = "" if progress.total is None else f" of {progress.total}"
        said = f"{progress.done}{total} rows, {progress.rows_per_second:.0f} rows/s{eta}"
        log.info("%s: %s", self._name, said, extra=fields)

    def _give_up_if_stuck(self, found: IndexState) -> None:
        """Gives up if nothing has moved for too long, and a problem is on record or workers ended and none is alive."""
        now = time.monotonic()
        reached = (found.synced, found.failed, found.looked_at, self.progress.done)
        if not self._furthest or any(map(int.__gt__, reached, self._furthest)):
            self._furthest = reached if not self._furthest else tuple(map(max, reached, self._furthest))
            self._moved_at = now
        if found.paused or now - self._moved_at < self._patience.seconds:
            return
        seconds = f"{self._patience.seconds:.0f} s"
        if found.problems:
            self.error = errors.GenerationError(f"No row was synced for {seconds}: {found.problems[0]}")
        elif not found.workers and (ended := self._patience.failure()):
            self.error = errors.GenerationError(f"No row was synced for {seconds}, and no worker is alive: {ended}")

    def _build(self) -> bool:
        with transaction.begin(self._engine) as connection:
            known = registry.copies(connection, self._name)
            progress = build_progress.read(connection, known[0].stored)
        self._report(dataclasses.replace(self.progress, rows_per_second=0.0, build=progress))
        if not all(self._builder.tend(one, draining=True) for one in known):
            return False
        if self._builder.failed:
            self.error = next(iter(self._builder.failed.values()))
        return True


def _may_pass(error: exc.DBAPIError) -> bool:
    """Whether to look again later after this error."""
    return (
        database.is_connection_lost(error) or database.is_short_of_resources(error) or database.is_busy_or_slow(error)
    )
