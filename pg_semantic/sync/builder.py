"""What is built beside the sync: late indexes and statistics, on a thread of its own, one semantic index at a time.

A second thread watches a build and ends it when an application waits for the table, as TRUNCATE and ALTER TABLE do:
the build itself waits for transactions that are older, and these may be waiting for the application.
"""

import contextlib
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, jobqueue, sql
from pg_semantic.registry import Generation
from pg_semantic.schema import Tables
from pg_semantic.settings import Settings
from pg_semantic.sync import indexes, lexicon, transaction

log = logging.getLogger("pg_semantic.worker")

_WATCH_SECONDS = 0.1
_AGAIN_SECONDS = 5.0  # after a build that was not finished
_STATISTICS_SECONDS = 30.0  # between looks at how old they are
_ADVICE = {
    "57014": "it gave way to somebody who needed the table, or, behind a pooler, the role has a short "
    "statement_timeout (ALTER ROLE ... SET statement_timeout = 0)",
}


class Builder:
    """Builds what a generation lacks: statistics of its terms, and its indexes once few jobs wait."""

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._threads = ThreadPoolExecutor(2)
        self._building: Future[None] | None = None
        self._watching: Future[None] | None = None
        self._relations: dict[str, str] = {}
        self._not_before = 0.0
        self._closing = False
        self._ready: set[int] = set()
        self._look_at: dict[int, float] = {}

    def tend(self, generation: Generation, *, draining: bool = False) -> bool:
        """Starts building when it is time to; returns whether nothing is left to be built at this time.

        ``draining`` is when nothing waits any more: then statistics are made to fit what is there.
        """
        if self._building is not None and not self._building.done():
            return False
        if time.monotonic() < self._not_before:
            return True
        if generation.id in self._ready and not self._is_time_to_look(generation.id, draining=draining):
            return True
        stored = generation.stored
        with transaction.begin(self._engine) as connection:
            outdated = self._is_outdated(connection, generation, draining=draining)
            missing = self._missing(connection, generation.id, stored)
            few = not missing or self._few_wait(connection, generation.id)
        if not outdated and (not missing or not few):
            return not missing
        for name, table in (("chunks", stored.chunks), ("receipts", stored.receipts)):
            self._relations[name] = database.qualified_name(table.schema, table.name)
        wanted = missing if few else []
        self._building = self._threads.submit(self._build, generation, wanted, count=outdated)
        self._watching = self._threads.submit(self._watch, self._building)
        return False

    def wait(self, seconds: float) -> bool:
        """Waits for the build that is running, so long at most; whether there is one."""
        if self._building is None or self._building.done():
            return False
        wait([self._building], seconds)
        return True

    def close(self) -> None:
        """Ends a build that is running; what it leaves is dropped when the next is begun."""
        self._closing = True
        self._threads.shutdown()

    def _is_outdated(self, connection: sa.Connection, generation: Generation, *, draining: bool) -> bool:
        if generation.spec.lexical is None or not self._is_time_to_look(generation.id, draining=draining):
            return False
        self._look_at[generation.id] = time.monotonic() + _STATISTICS_SECONDS
        known = lexicon.statistics(connection, generation)
        return known.is_due(self._settings, draining=draining)

    def _is_time_to_look(self, generation_id: int, *, draining: bool) -> bool:
        return draining or time.monotonic() >= self._look_at.get(generation_id, 0.0)

    def _missing(self, connection: sa.Connection, generation_id: int, tables: Tables) -> list[sa.Index]:
        """The indexes that are not there yet and can be built."""
        if generation_id in self._ready or not indexes.has_vectors(connection, tables):
            return []
        missing = [index for index in tables.late_indexes if indexes.state(connection, index) != "ready"]
        if not missing:
            self._ready.add(generation_id)
        return missing

    def _few_wait(self, connection: sa.Connection, generation_id: int) -> bool:
        backlog = self._settings.vector_index_backlog
        return jobqueue.waiting(connection, generation_id, limit=backlog + 1) <= backlog

    def _build(self, generation: Generation, missing: list[sa.Index], *, count: bool) -> None:
        name = generation.title
        try:
            if count:
                log.info("%s: counting terms", name, extra={"event": "statistics_begun", "index": name})
                lexicon.refresh(self._engine, generation)
            for index in missing:
                log.info("%s: building %s", name, index.name, extra={"event": "index_begun", "index": name})
                self._build_index(index)
        except exc.DBAPIError as error:  # the sync goes on without; a later tend tries again
            self._not_before = time.monotonic() + _AGAIN_SECONDS
            said = _ADVICE.get(database.sqlstate(error) or "", type(error.orig).__name__)
            fields = {"event": "index_failed", "index": name}
            log.warning("%s: an index or its statistics were not built: %s", name, said, extra=fields)

    def _build_index(self, index: sa.Index) -> None:
        with contextlib.closing(self._engine.connect()) as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            if _is_ours_alone(connection):
                connection.detach()  # what is set here ends with it
                connection.execute(sa.text("SET statement_timeout = 0; SET lock_timeout = 0"))
            indexes.ensure(connection, index)

    def _watch(self, building: Future[None]) -> None:
        while not wait([building], _WATCH_SECONDS).done:
            ending = (
                sql.statement("registry", "cancel_build") if self._closing else sql.statement("registry", "give_way")
            )
            with contextlib.suppress(exc.DBAPIError), transaction.begin(self._engine) as connection:
                connection.execute(ending, self._relations)


def _is_ours_alone(connection: sa.Connection) -> bool:
    """Whether the server's end of the connection is the one that greeted us, and not lent by a pooler."""
    driver = connection.connection.driver_connection
    greeted_by = driver.info.backend_pid if isinstance(driver, psycopg.Connection) else None
    return connection.scalar(sa.select(sa.func.pg_backend_pid())) == greeted_by
