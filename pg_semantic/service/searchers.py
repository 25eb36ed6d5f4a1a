"""The semantic indexes of the service's database, each with its searcher."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from pg_semantic import database, errors, registry
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import IndexSpec
from pg_semantic.registry import Generation
from pg_semantic.search import AsyncSearcher
from pg_semantic.service.loaded_models import LoadedModels


@dataclass(frozen=True, slots=True)
class IndexSearcher:
    """A semantic index, and a searcher that follows it when it switches to another generation."""

    index: BoundIndex[Any]
    searcher: AsyncSearcher


class IndexSearchers:
    """The semantic indexes of a database: looked up on first use, and forgotten when they turn out to be gone.

    Args:
        statement_seconds: The timeout of each statement of a search.
    """

    def __init__(self, engine: sa.Engine, models: LoadedModels, *, statement_seconds: float) -> None:
        self.engine = engine
        self._models = models
        self._known: dict[str, IndexSearcher] = {}
        self._looking_up = asyncio.Lock()
        self.examining = asyncio.Lock()  # one thorough check of the database at a time
        self._sessions = _async_engine(engine, statement_seconds)

    async def get(self, name: str) -> IndexSearcher:
        """Returns a semantic index, and loads its encoder if necessary.

        Raises:
            errors.IndexNotFound: The database has no such index.
            errors.EncoderMismatch: The encoder isn't the one that computed the stored vectors.
            errors.EncoderUnavailable: The encoder cannot be loaded.
        """
        if name not in self._known:
            async with self._looking_up:
                if name not in self._known:
                    self._known[name] = await asyncio.to_thread(self._look_up, name)
        return self._known[name]

    async def require_same(self, known: IndexSearcher) -> None:
        """Checks that an index still exists, and belongs to the same table with the same key and text columns.

        Uses a session of its own, because a search takes no connection before its query is encoded.

        Raises:
            errors.IndexNotFound: The index is gone, or its table, key or columns have changed.
        """
        with database.translated():
            async with self.session() as session:
                live, _ = await session.run_sync(lambda one: registry.live(one.connection(), known.index.tables))
        if _source(live.spec) != _source(known.index.spec):
            raise errors.IndexNotFound(f"{live.qualified_name} has another table, key or text columns now: try again.")

    def forget(self, name: str) -> None:
        """Forgets an index that is gone or belongs to another table now, so that `get` looks it up again."""
        self._known.pop(name, None)

    def generations(self) -> list[Generation]:
        """Returns every generation in the database. Blocks: call it on a thread."""
        with database.translated(), self.engine.connect() as connection:
            return registry.generations(connection)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Opens a read-only session for one request."""
        async with AsyncSession(self._sessions) as session:
            yield session

    async def close(self) -> None:
        """Closes all connections."""
        await self._sessions.dispose()
        self.engine.dispose()

    def _look_up(self, name: str) -> IndexSearcher:
        with database.translated(), self.engine.connect() as connection:
            live = registry.find(connection, name)
        try:
            encoder = self._models.of(live.spec.encoder)
        except errors.EncoderMismatch:
            raise
        except errors.EncoderError as error:  # no text is at fault
            raise errors.EncoderUnavailable(str(error)) from error
        return IndexSearcher(declare.bind(live.spec), AsyncSearcher(encoder, load=self._models.of))


def _source(spec: IndexSpec) -> tuple[object, ...]:
    return spec.schema, spec.table, spec.key, spec.columns


def _async_engine(engine: sa.Engine, statement_seconds: float) -> AsyncEngine:
    """Creates an engine for searches in the same database: read-only, with a timeout for each statement."""
    made = create_async_engine(
        engine.url,
        connect_args={"prepare_threshold": None},
        execution_options={"isolation_level": "READ COMMITTED", "postgresql_readonly": True},
        pool_timeout=5,
        pool_pre_ping=True,
    )
    patience = sa.select(sa.func.set_config("statement_timeout", f"{statement_seconds * 1000:.0f}", True))  # noqa: FBT003

    @sa.event.listens_for(made.sync_engine, "begin")
    def _bound(connection: sa.Connection) -> None:
        connection.execute(patience)  # for the transaction only: a pooler shares the connection with others

    return made
