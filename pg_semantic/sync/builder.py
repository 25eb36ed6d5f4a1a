"""Building vector indexes beside the sync: on a thread of its own, one at a time, ended when the worker ends."""

import contextlib
import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, jobqueue, sql
from pg_semantic.schema import Tables
from pg_semantic.sync import vectorindex

log = logging.getLogger("pg_semantic.worker")

_CANCEL_SECONDS = 0.2
_ADVICE = {
    "57014": "it was cancelled, by the worker's end or by statement_timeout: ALTER ROLE ... SET statement_timeout = 0"
}


class Builder:
    """Builds the vector index of a generation once few jobs wait and there is something to index."""

    def __init__(self, engine: sa.Engine, *, backlog: int) -> None:
        self._engine = engine
        self._backlog = backlog
        self._thread = ThreadPoolExecutor(1)
        self._building: Future[None] | None = None
        self._chunks = ""
        self._ready: set[int] = set()

    def tend(self, generation_id: int, tables: Tables) -> bool:
        """Starts building when it is time to; returns whether nothing is left to be built at this time."""
        if generation_id in self._ready:
            return True
        if self._building is not None and not self._building.done():
            return False
        with self._engine.connect() as connection:
            if not vectorindex.has_vectors(connection, tables):
                return True
            if vectorindex.state(connection, tables) == "ready":
                self._ready.add(generation_id)
                return True
            waiting = jobqueue.waiting(connection, generation_id, limit=self._backlog + 1)
        if waiting <= self._backlog:
            self._chunks = database.qualified_name(tables.chunks.schema, tables.chunks.name)
            self._building = self._thread.submit(self._build, tables)
        return False

    def close(self) -> None:
        """Ends a build that is running; what it leaves is dropped when the next is begun."""
        while self._building is not None and not wait([self._building], _CANCEL_SECONDS).done:
            with contextlib.suppress(exc.DBAPIError), self._engine.begin() as connection:
                connection.execute(sql.statement("registry", "cancel_build"), {"chunks": self._chunks})
        self._thread.shutdown()

    def _build(self, tables: Tables) -> None:
        name = tables.spec.name
        log.info("%s: building the vector index", name, extra={"event": "vector_index_begun", "index": name})
        try:
            with contextlib.closing(self._engine.connect()) as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                vectorindex.ensure(connection, tables)
        except exc.DBAPIError as error:  # the sync goes on without; the next tend tries again
            said = _ADVICE.get(database.sqlstate(error) or "", type(error.orig).__name__)
            log.warning("%s: the vector index was not built: %s", name, said, extra={"event": "vector_index_failed"})
