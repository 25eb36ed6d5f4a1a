"""Keeps the recall objectives of semantic indexes: measures a few stored vectors now and then, and adjusts ef_search.

A measurement takes about as long as twenty exact searches. So a worker rests for ninety-nine times as long afterwards,
which leaves it at most one percent of its time. Workers take turns.
"""

import contextlib
import datetime as dt
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, registry, sql
from pg_semantic.database import transaction
from pg_semantic.recall import curve, objective, store
from pg_semantic.recall.objective import RecallEstimate
from pg_semantic.registry import Generation
from pg_semantic.worker import create_index_concurrently

log = logging.getLogger("pg_semantic.worker")

_SAMPLE = 20  # vectors per measurement
_LIMIT = 10  # chunks that each query looks for
_MEASURE_SECONDS = 5.0  # afterwards, no further query begins
_TIMEOUT = "10s"  # of one statement
_LEASE_SECONDS = 600.0
_REST_FACTOR = 99
_CANCEL_SECONDS, _CANCEL_TIMEOUT_SECONDS = 0.1, 5.0  # between attempts, and of one
_SLOW = f"an exact search, which it is compared with, takes longer than {_TIMEOUT}"
_UNREADABLE = "the database refused to compare stored vectors"


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A generation whose recall this worker measures now, and the ``ef_search`` that its searches use."""

    generation: Generation
    ef_search: int
    leased_until: dt.datetime

    @property
    def lease(self) -> dict[str, Any]:
        """The parameters of statements that end the lease."""
        return {"generation": self.generation.id, "leased_until": self.leased_until}


class RecallWatcher:
    """Measures the recall of indexes with an objective, whichever worker is due, and keeps it.

    Args:
        engine: The worker's engine.
        seconds: How long to wait between two measurements of an index, at least.
        clock: Returns the time in seconds, from any moment on.
    """

    def __init__(self, engine: sa.Engine, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._seconds = seconds
        self._clock = clock
        self._stopping = False
        self._ended = threading.Condition()
        self._measuring: Any = None  # the driver's connection; change it with the condition held
        self._said = ""  # the last error that was logged
        self._refused: dict[int, str] = {}  # by generation, why it could not be measured
        self._unreachable: set[int] = set()  # generations whose objective was said to be out of reach

    def run(self, done: threading.Event) -> None:
        """Measures until ``done`` is set. If the database refuses, logs why once and tries again later."""
        pause = self._seconds
        while not done.wait(pause):
            began, pause = self._clock(), self._seconds
            try:
                if self.step():  # another index may be due
                    pause = _REST_FACTOR * (self._clock() - began)
                self._said = ""
            except (exc.SQLAlchemyError, errors.PgSemanticError) as error:
                self._say(error)
                pause += _REST_FACTOR * (self._clock() - began)

    def close(self) -> None:
        """Cancels a measurement that is running, and waits until it has ended. No other begins."""
        self._stopping = True
        with self._ended:
            while self._measuring is not None:  # again, because a cancellation between two statements has no effect
                with contextlib.suppress(psycopg.Error):
                    self._measuring.cancel_safe(timeout=_CANCEL_TIMEOUT_SECONDS)
                self._ended.wait(_CANCEL_SECONDS)

    def _say(self, error: Exception) -> None:
        """Logs what keeps the recall from being measured, unless it is a lock, or was the last thing to be logged."""
        cause = error.__cause__ if isinstance(error, errors.PgSemanticError) else error
        known = cause if isinstance(cause, exc.DBAPIError) else None
        said = str(error) if known is None else database.reason(known)
        if said != self._said and not (known is not None and transaction.is_busy(known)):
            self._said = said
            log.warning("the recall of indexes is not measured: %s", said, extra={"event": "recall_not_measured"})

    def _say_refused(self, generation: Generation, said: str) -> None:
        if self._refused.get(generation.id) != said:
            self._refused[generation.id] = said
            fields = {"event": "recall_not_measured", "index": generation.title}
            log.warning("%s: its recall is not measured: %s", generation.title, said, extra=fields)

    def step(self) -> bool:
        """Measures one index, if one is due, and changes its ``ef_search`` if that is off. Returns whether one was due.

        Raises:
            sqlalchemy.exc.DBAPIError: The connection was lost, or something is locked.
        """
        claimed = self._claim()
        if claimed is None:
            return False
        began = self._clock()
        measured = problem = None
        try:
            measured = self._measure(claimed)
        except exc.DBAPIError as error:
            if database.is_connection_lost(error) or transaction.is_busy(error):
                raise
            if not self._stopping:
                problem = _SLOW if database.is_canceled(error) else _UNREADABLE
                self._say_refused(claimed.generation, database.reason(error))
        if measured is None and self._stopping:
            with transaction.begin(self._engine) as connection:
                connection.execute(sql.statement("recall", "release"), claimed.lease)
            return False
        seconds = max(self._seconds, _REST_FACTOR * (self._clock() - began))
        with transaction.begin(self._engine) as connection:
            if measured is not None:
                self._decide(connection, claimed, measured)
            ended = claimed.lease | {"seconds": seconds, "problem": problem}
            connection.execute(sql.statement("recall", "finish"), ended)
        return True

    def _claim(self) -> _Claimed | None:
        with transaction.begin(self._engine) as connection:
            connection.execute(sql.statement("recall", "begin"))
            row = connection.execute(sql.statement("recall", "claim"), {"lease": _LEASE_SECONDS}).one_or_none()
            known = registry.generations(connection) if row else []
        for generation in known:
            if row is not None and generation.id == row.generation_id:
                return _Claimed(generation, row.ef_search or objective.DEFAULT_EF_SEARCH, row.leased_until)
        return None

    def _measure(self, claimed: _Claimed) -> RecallEstimate | None:
        """Compares scans with exact searches. Returns None without a built index, with few chunks, or after `close`.

        All in one snapshot, so that no change counts as a miss, and in one process of the server.
        """
        tables = claimed.generation.tables
        engine = self._engine.execution_options(isolation_level="REPEATABLE READ")
        with transaction.begin(engine, statement_timeout=_TIMEOUT) as connection, self._cancelable(connection):
            index = claimed.generation.stored.vector_index
            if self._stopping or create_index_concurrently.state(connection, index) != "ready":
                return None
            connection.execute(sql.statement("registry", "find_pgvector"))
            connection.execute(curve.settings(max_parallel_workers_per_gather="0"))
            began = time.monotonic()
            true = curve.nearest_of_sample(
                connection,
                tables,
                sample=_SAMPLE,
                limit=_LIMIT,
                seed=secrets.randbits(31),
                seconds=_MEASURE_SECONDS,
            )
            # So few chunks need no vector index, and the number of queries would tell how many there are.
            all_asked = len(true) == _SAMPLE or time.monotonic() - began > _MEASURE_SECONDS
            if not true or not all_asked or any(len(one.distances) < _LIMIT for one in true):
                return None
            found = curve.scanned(connection, tables, true, ef_search=claimed.ef_search)
        return RecallEstimate(len(found), sum(count for count, _ in found), len(found) * _LIMIT)

    @contextlib.contextmanager
    def _cancelable(self, connection: sa.Connection) -> Iterator[None]:
        with self._ended:
            self._measuring = connection.connection.driver_connection
        try:
            yield
        finally:
            with self._ended:
                self._measuring = None
                self._ended.notify_all()

    def _decide(self, connection: sa.Connection, claimed: _Claimed, measured: RecallEstimate) -> None:
        generation, now = claimed.generation, claimed.ef_search
        wanted = generation.spec.recall_objective
        if wanted is None:
            return
        newest = objective.queries_kept(wanted)
        estimates = store.record(connection, generation.id, ef_search=now, measured=measured, newest=newest)
        if now not in estimates:  # dropped meanwhile
            return
        chosen, estimate = objective.next_ef_search(wanted, now=now, estimates=estimates), estimates[now]
        fields = {"index": generation.title, "recall": round(estimate.recall, 4), "objective": wanted}
        if chosen != now:
            binds = {"generation": generation.id, "ef_search": chosen, "before": now, "objective": wanted}
            connection.execute(sql.statement("recall", "change"), binds | {"default": objective.DEFAULT_EF_SEARCH})
            log.info(
                "%s: recall is %.3f (%.3f to %.3f), the objective %g: searches use ef_search = %d instead of %d",
                generation.title,
                estimate.recall,
                estimate.low,
                estimate.high,
                wanted,
                chosen,
                now,
                extra=fields | {"event": "ef_search_changed", "ef_search": chosen},
            )
        if estimate.state(wanted, ef_search=now) != "unreachable":
            self._unreachable.discard(generation.id)
        elif generation.id not in self._unreachable:
            self._unreachable.add(generation.id)
            log.warning(
                "%s: recall is %.3f with the highest ef_search, the objective %g: %s",
                generation.title,
                estimate.recall,
                wanted,
                objective.UNREACHABLE_ADVICE,
                extra=fields | {"event": "recall_unreachable"},
            )
