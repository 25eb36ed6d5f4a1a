"""Building vector indexes beside the sync: on a thread of its own, one at a time, ended when the worker ends.

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
from pg_semantic.schema import Tables
from pg_semantic.sync import transaction, vectorindex

log = logging.getLogger("pg_semantic.worker")

_WATCH_SECONDS = 0.1
_AGAIN_SECONDS = 5.0  # after a build that was not finished
_ADVICE = {
    "57014": "it gave way to somebody who needed the table, or, behind a pooler, the role has a short "
    "statement_timeout (ALTER ROLE ... SET statement_timeout = 0)",
}


class Builder:
    """Builds the vector index of a generation once few jobs wait and there is something to index."""

    def __init__(self, engine: sa.Engine, *, backlog: int) -> None:
        self._engine = engine
        self._backlog = backlog
        self._threads = ThreadPoolExecutor(2)
        self._building: Future[None] | None = None
        self._watching: Future[None] | None = None
        self._chunks = ""
        self._not_before = 0.0
        self._closing = False
        self._ready: set[int] = set()

    def tend(self, generation_id: int, tables: Tables) -> bool:
        """Starts building when it is time to; returns whether nothing is left to be built at this time."""
        if generation_id in self._ready:
            return True
        if self._building is not None and not self._building.done():
            return False
        if time.monotonic() < self._not_before:
            return True
        with transaction.begin(self._engine) as connection:
            if not vectorindex.has_vectors(connection, tables):
                return True
            if vectorindex.state(connection, tables) == "ready":
                self._ready.add(generation_id)
                return True
            waiting = jobqueue.waiting(connection, generation_id, limit=self._backlog + 1)
        if waiting <= self._backlog:
            self._chunks = database.qualified_name(tables.chunks.schema, tables.chunks.name)
            self._building = self._threads.submit(self._build, tables)
            self._watching = self._threads.submit(self._watch, self._building)
        return False

    def close(self) -> None:
        """Ends a build that is running; what it leaves is dropped when the next is begun."""
        self._closing = True
        self._threads.shutdown()

    def _build(self, tables: Tables) -> None:
        name = tables.spec.name
        log.info("%s: building the vector index", name, extra={"event": "vector_index_begun", "index": name})
        try:
            with contextlib.closing(self._engine.connect()) as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                if _is_ours_alone(connection):
                    connection.detach()  # what is set here ends with it
                    connection.execute(sa.text("SET statement_timeout = 0; SET lock_timeout = 0"))
                vectorindex.ensure(connection, tables)
        except exc.DBAPIError as error:  # the sync goes on without; a later tend tries again
            self._not_before = time.monotonic() + _AGAIN_SECONDS
            said = _ADVICE.get(database.sqlstate(error) or "", type(error.orig).__name__)
            fields = {"event": "vector_index_failed", "index": name}
            log.warning("%s: the vector index was not built: %s", name, said, extra=fields)

    def _watch(self, building: Future[None]) -> None:
        while not wait([building], _WATCH_SECONDS).done:
            ending = (
                sql.statement("registry", "cancel_build") if self._closing else sql.statement("registry", "give_way")
            )
            with contextlib.suppress(exc.DBAPIError), transaction.begin(self._engine) as connection:
                connection.execute(ending, {"chunks": self._chunks})


def _is_ours_alone(connection: sa.Connection) -> bool:
    """Whether the server's end of the connection is the one that greeted us, and not lent by a pooler."""
    driver = connection.connection.driver_connection
    greeted_by = driver.info.backend_pid if isinstance(driver, psycopg.Connection) else None
    return connection.scalar(sa.select(sa.func.pg_backend_pid())) == greeted_by
