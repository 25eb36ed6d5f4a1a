"""The semantic indexes of the service's database, each with what searches it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from pg_semantic import database, errors, registry
from pg_semantic.index import declare
from pg_semantic.index.declare import BoundIndex
from pg_semantic.index.spec import IndexSpec
from pg_semantic.registry import Generation
from pg_semantic.search import AsyncSearcher
from pg_semantic.service.loaded_encoders import LoadedEncoders


@dataclass(frozen=True, slots=True)
class IndexSearcher:
    """A semantic index and the searcher that follows it."""

    index: BoundIndex[Any]
    searcher: AsyncSearcher


class IndexSearchers:
    """What a service knows of a database: looked up when first asked for, forgotten when it turns out to be gone."""

    def __init__(self, engine: sa.Engine, fleet: LoadedEncoders, *, statement_seconds: float) -> None:
        self.engine = engine
        self._fleet = fleet
        self._known: dict[str, IndexSearcher] = {}
        self._looking_up = asyncio.Lock()
        self.examining = asyncio.Lock()  # one deep look at a time, whoever asks for it
        self._sessions = _beside(engine, statement_seconds)

    async def get(self, name: str) -> IndexSearcher:
        """The semantic index of that name. Raises `errors.IndexNotFound`, and what loading its encoder raises."""
        if name not in self._known:
            async with self._looking_up:
                if name not in self._known:
                    self._known[name] = await asyncio.to_thread(self._look_up, name)
        return self._known[name]

    async def require_same(self, known: IndexSearcher) -> None:
        """Raises `errors.IndexNotFound` if the index has gone, or is of another table or key than it was.

        In a session of its own: that of a search takes no connection before its query is encoded.
        """
        with database.translated():
            async with self.session() as session:
                live, _ = await session.run_sync(lambda one: registry.live(one.connection(), known.index.tables))
        if _source(live.spec) != _source(known.index.spec):
            raise errors.IndexNotFound(f"{live.qualified_name} is of another table now: ask again.")

    def forget(self, name: str) -> None:
        """Has it looked up again: it was dropped, or is of another table now."""
        self._known.pop(name, None)

    def generations(self) -> list[Generation]:
        """Every generation in the database; for a thread."""
        with database.translated(), self.engine.connect() as connection:
            return registry.generations(connection)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session of one request, which can not write."""
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
            encoder = self._fleet.of(live.spec.encoder)
        except errors.EncoderMismatch:
            raise
        except errors.EncoderError as error:  # no text is to blame
            raise errors.EncoderUnavailable(str(error)) from error
        return IndexSearcher(declare.bind(live.spec), AsyncSearcher(encoder, load=self._fleet.of))


def _source(spec: IndexSpec) -> tuple[object, ...]:
    return spec.schema, spec.table, spec.key


def _beside(engine: sa.Engine, statement_seconds: float) -> AsyncEngine:
    """An engine for searches, of the same database: read-only, whatever is asked, and no statement for ever."""
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
        connection.execute(patience)  # of the transaction alone: behind a pooler the connection is not ours to set

    return made
