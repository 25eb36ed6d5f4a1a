"""Rebuilds a vector index while searches and writes continue, and drops what an interrupted rebuild left behind."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from pg_semantic import database, errors, sql
from pg_semantic.database import transaction
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.registry import Generation
from pg_semantic.worker import build_errors, build_progress, build_records, create_index_concurrently
from pg_semantic.worker.build_progress import BuildProgress
from pg_semantic.worker.create_index_concurrently import Built, State

log = logging.getLogger("pg_semantic.operations")

_LOCK_SECONDS = 5  # to drop what a rebuild left behind
_POOLED = (
    "A rebuild needs a session of its own, and this connection goes through a transaction pooler: connect to the "
    "server itself."
)
_ADVICE: dict[State, str] = {
    "missing": "has no vector index yet. A worker builds it: run `pg-semantic worker --once`",
    "broken": "has a vector index whose build was interrupted. A worker builds it again: run "
    "`pg-semantic worker --once`",
    "building": "has a vector index that is being built: see `pg-semantic status`",
}


@dataclass(frozen=True, slots=True)
class Reindexed:
    """A vector index that was rebuilt.

    Attributes:
        bytes_before: The size of the old index, in bytes.
        bytes_after: The size of the new one.
        seconds: How long it took.
        in_memory: Whether the graph fit into `maintenance_work_mem`.
        dropped: What earlier rebuilds had left behind, and was dropped first.
    """

    bytes_before: int
    bytes_after: int
    seconds: float
    in_memory: bool
    dropped: tuple[str, ...]


def reindex(
    engine: sa.Engine,
    generation: Generation,
    *,
    memory: str | None = None,
    on_progress: Callable[[BuildProgress], None] = lambda _: None,
) -> Reindexed:
    """Runs REINDEX INDEX CONCURRENTLY on the vector index of a generation. Searches use the old index until it ends.

    Workers can keep running: they leave the table's indexes alone meanwhile. If another session has to wait for the
    chunk table, as for ALTER TABLE, the rebuild is canceled. The new index needs disk space next to the old one.

    Args:
        engine: Connects to the database, not through a transaction pooler, as the owner of the chunk table.
        generation: The generation.
        memory: A value for `maintenance_work_mem`, such as ``9GB``; None keeps the server's.
        on_progress: Called some times a second.

    Returns:
        What was done. If the old index could not be dropped, that is logged, and the next call drops it.

    Raises:
        errors.DatabaseError: The index could not be rebuilt, and the old one is still in use.
        errors.GenerationError: There is no complete vector index, or another session builds or rebuilds it.
    """
    stored = generation.stored
    with database.translated(), create_index_concurrently.own_session(engine, memory=memory) as (connection, is_alone):
        if not is_alone:
            raise errors.DatabaseError(_POOLED)
        require_ready(connection, generation)
        with create_index_concurrently.claimed(connection, stored.vector_index) as is_ours:
            if not is_ours or _is_busy(connection, stored):
                raise errors.GenerationError(f"{generation.title} {_ADVICE['building']}.")
            dropped, before = tuple(_drop_leftovers(connection, stored)), _size(connection, stored)
            session = create_index_concurrently.process_id(connection)
            with _watched(engine, stored, on_progress, session=session) as submit:
                built = submit(lambda: _rebuild(connection, generation, stored))
            after = _size(connection, stored)
    build_records.record(engine, generation.id, built=built)
    return Reindexed(before, after, built.seconds, built.in_memory, dropped)


def leftovers(connection: sa.Connection, tables: Tables) -> list[str]:
    """Returns the names of invalid indexes that interrupted rebuilds of the vector index left behind."""
    chunks = database.qualified_name(tables.chunks.schema, tables.chunks.name)
    return list(connection.scalars(sql.statement("vector_index", "leftovers"), {"chunks": chunks}))


def require_ready(connection: sa.Connection, generation: Generation) -> None:
    """Raises `errors.GenerationError` unless the vector index of a generation is complete."""
    found = create_index_concurrently.state(connection, generation.stored.vector_index)
    if found != "ready":
        raise errors.GenerationError(f"{generation.title} {_ADVICE[found]}.")


def _is_busy(connection: sa.Connection, stored: Tables) -> bool:
    """Whether another session builds an index of the table, such as one that runs REINDEX by hand."""
    chunks = database.qualified_name(stored.chunks.schema, stored.chunks.name)
    return bool(connection.scalar(sql.statement("vector_index", "is_being_built"), {"chunks": chunks}))


def _drop_leftovers(connection: sa.Connection, stored: Tables) -> Iterator[str]:
    """Drops what interrupted rebuilds left behind, which every write has to maintain; yields the names that it dropped.

    Gives up after five seconds: dropping waits for every transaction that uses the table, and keeps others from
    altering it meanwhile.
    """
    connection.execute(sa.text(f"SET lock_timeout = '{_LOCK_SECONDS}s'"))
    with contextlib.suppress(exc.DBAPIError):
        for name in leftovers(connection, stored):
            connection.execute(_DropConcurrently(stored.chunks, name))
            yield name
    connection.execute(sa.text("SET lock_timeout = 0"))


def _rebuild(connection: sa.Connection, generation: Generation, stored: Tables) -> Built:
    started, before = time.monotonic(), _file(connection, stored)
    with create_index_concurrently.logging_notices(connection, generation.title) as notices:
        try:
            connection.execute(_ReindexConcurrently(stored.chunks, str(stored.vector_index.name)))
        except exc.DBAPIError as error:
            if database.is_connection_lost(error):  # or this is a standby
                raise
            kept = _clean_up(connection, stored)
            if _file(connection, stored) == before:
                raise errors.DatabaseError(
                    f"{generation.title}: the vector index could not be rebuilt, and the old one is still in use: "
                    f"{build_errors.reason(error)}.{kept}"
                ) from error
            if kept:
                log.warning("%s:%s", generation.title, kept, extra={"event": "index_left", "index": generation.title})
    return Built(time.monotonic() - started, in_memory=not notices)


def _clean_up(connection: sa.Connection, stored: Tables) -> str:
    """Drops what is left of the rebuild that failed. Returns a sentence about what could not be dropped."""
    list(_drop_leftovers(connection, stored))
    left = ", ".join(leftovers(connection, stored))
    return f" An incomplete index is left over, which the next `pg-semantic reindex` drops: {left}." if left else ""


@contextlib.contextmanager
def _watched(
    engine: sa.Engine, stored: Tables, on_progress: Callable[[BuildProgress], None], *, session: int
) -> Iterator[Callable[[Callable[[], Built]], Built]]:
    """Yields a function that runs a build on another thread, watches it, and returns its result.

    The build is canceled if another session waits for the table, or if the block ends early, as at Ctrl-C.
    """
    stopped = threading.Event()

    def look() -> None:
        with contextlib.suppress(exc.DBAPIError), transaction.begin(engine) as connection:
            found = build_progress.read(connection, stored)
            if found is not None:
                on_progress(found)

    def submit(build: Callable[[], Built]) -> Built:
        building = threads.submit(build)
        watch = create_index_concurrently.cancel_for_others
        watching = threads.submit(
            watch, engine, building, stored, is_closing=stopped.is_set, session=lambda: session, look=look
        )
        built = building.result()
        watching.result()
        return built

    with ThreadPoolExecutor(2) as threads:
        try:
            yield submit
        finally:
            stopped.set()


def _size(connection: sa.Connection, stored: Tables) -> int:
    name = database.qualified_name(stored.chunks.schema, str(stored.vector_index.name))
    return int(connection.scalar(sql.statement("vector_index", "index_size"), {"name": name}) or 0)


def _file(connection: sa.Connection, stored: Tables) -> int | None:
    """Returns the file of the vector index, which is another one after a rebuild."""
    name = database.qualified_name(stored.chunks.schema, str(stored.vector_index.name))
    file: int | None = connection.scalar(sql.statement("vector_index", "index_file"), {"name": name})
    return file


class _OfIndex(ExecutableDDLElement):
    """A statement about an index, which may have no counterpart in the metadata."""

    def __init__(self, table: sa.Table, name: str) -> None:
        self.table = table
        self.name = name

    def quoted(self, compiler: DDLCompiler) -> str:
        """Returns the index with its schema, quoted."""
        schema = self.table.schema
        prefix = f"{compiler.preparer.quote_schema(schema)}." if schema else ""
        return f"{prefix}{compiler.preparer.quote(self.name)}"


class _ReindexConcurrently(_OfIndex):
    """REINDEX INDEX CONCURRENTLY."""


class _DropConcurrently(_OfIndex):
    """DROP INDEX CONCURRENTLY."""


@compiles(_ReindexConcurrently, "postgresql")
def _reindex(statement: _ReindexConcurrently, compiler: DDLCompiler, **_: object) -> str:
    return f"REINDEX INDEX CONCURRENTLY {statement.quoted(compiler)}"


@compiles(_DropConcurrently, "postgresql")
def _drop(statement: _DropConcurrently, compiler: DDLCompiler, **_: object) -> str:
    return f"DROP INDEX CONCURRENTLY IF EXISTS {statement.quoted(compiler)}"
