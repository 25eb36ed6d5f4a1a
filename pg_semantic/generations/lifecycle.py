"""The life cycle of a generation: begin, switch, rollback, drop. Each is one short transaction."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.schema import CreateTable

from pg_semantic import database, errors, jobqueue, registry, sql
from pg_semantic.database import transaction
from pg_semantic.generations import recall_before_switch
from pg_semantic.generations.readiness import coverage
from pg_semantic.index import ddl, hnsw_size
from pg_semantic.index.chunk_tables import Role
from pg_semantic.index.spec import IndexSpec
from pg_semantic.operations import repair
from pg_semantic.operations.verify import CheckedPage
from pg_semantic.registry import Generation
from pg_semantic.worker import build_forecast
from pg_semantic.worker.build_forecast import BuildForecast, ChunkCount

# How long a searcher may still use a generation that was live. Longer than `search.generation_tracker.FRESH_SECONDS`.
GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Disk:
    """Disk space that generations take, with their indexes.

    Attributes:
        live: Bytes of the live generation.
        other: Estimated bytes of the other one.
        build: What the build of the other one's vector index takes.
    """

    live: int
    other: int
    build: BuildForecast


def disk(engine: sa.Engine, live: Generation, target: IndexSpec, *, memory: str | None = None) -> Disk:
    """Estimates the disk space of another copy. Counts the live one's chunks, which scans them.

    Assumes that the copy will have as many chunks as the live one. Each vector is stored twice: in the table and in the
    vector index, whether that of the live one is built or not.

    Args:
        engine: Connects to the database.
        live: The live generation.
        target: The spec of the other copy.
        memory: The `maintenance_work_mem` of the workers, such as ``9GB``; None for that of their role.
    """
    index = live.stored.vector_index
    name = database.qualified_name(live.spec.schema, str(index.name))
    with database.translated(), transaction.begin(engine) as connection:
        taken = size(connection, live)
        built = connection.scalar(sql.statement("vector_index", "index_size"), {"name": name}) or 0
        chunks = connection.scalar(sa.select(sa.func.count()).select_from(live.tables.chunks)) or 0
        table_bytes = build_forecast.count_chunks(connection, live).table_bytes
        counted = ChunkCount(chunks, "counted", table_bytes)
        build = build_forecast.of_spec(connection, target, counted, memory=memory)
    now, then = (hnsw_size.chunk_bytes(spec) for spec in (live.spec, target))
    return Disk(taken, max(0, taken - built + chunks * (then - now) + build.index_bytes), build)


def size(connection: sa.Connection, generation: Generation) -> int:
    """Returns the bytes that a generation takes, with its indexes."""
    found: int = connection.execute(sql.statement("registry", "size"), {"generation": generation.id}).scalar_one()
    return found


def begin(engine: sa.Engine, live: Generation, target: IndexSpec) -> Generation:
    """Starts to build another copy of a semantic index. Workers fill it, and keep both copies up to date from now on.

    Vectors of the live copy are reused if the new encoder has the same document fingerprint.

    Args:
        engine: Connects to the database.
        live: The live generation.
        target: What the new copy should be.

    Returns:
        The new generation, ``next``.

    Raises:
        errors.DeclarationError: The target equals the live copy, or belongs to another index.
        errors.GenerationError: There is a next generation already, or a column doesn't exist or isn't text.
    """
    if target == live.spec:
        raise errors.DeclarationError(
            f"Semantic index {live.name!r} already has these settings: there is nothing to change."
        )
    with database.translated():
        return _begin(engine, live, target)


@transaction.retried
def _begin(engine: sa.Engine, live: Generation, target: IndexSpec) -> Generation:
    with _step(engine) as connection:
        database.require_installed(connection)
        same = registry.copies(connection, live.qualified_name)
        if any(one.role == "next" for one in same):
            raise errors.GenerationError(
                f"Semantic index {live.qualified_name!r} already has a next generation: switch to it, or drop it "
                f"(`pg-semantic generation drop {live.qualified_name} next`)."
            )
        for statement in ddl.begin(target, live.spec):
            _execute(connection, statement)
        return registry.of_role(connection, live.qualified_name, "next")


def _execute(connection: sa.Connection, statement: sa.Executable) -> None:
    """Runs a statement. Only CREATE TABLE, which names pgvector's types, gets their schema on its search path."""
    if not isinstance(statement, CreateTable):
        connection.execute(statement)
        return
    connection.execute(sql.statement("registry", "find_pgvector"))
    connection.execute(statement)
    connection.execute(sql.statement("registry", "own_transaction"), {"local": True})


def switch(
    engine: sa.Engine,
    name: str,
    *,
    least: float = 1.0,
    force: bool = False,
    on_page: Callable[[CheckedPage], None] = lambda _: None,
) -> None:
    """Makes the generation ``next`` live. The live one becomes ``previous``, and workers keep it up to date.

    Args:
        engine: Connects to the database.
        name: The semantic index.
        least: The share of rows that must be current, 0 to 1. With 1, no row may have failed.
        force: Switch even if the copy is not ready.
        on_page: Called after each page of rows that was compared.

    Raises:
        errors.GenerationError: There is no ``next``, or it is not ready: too few rows are current, or its indexes are
            not built, or its vector index is compressed and cannot reach its recall objective.
    """
    chosen = find(engine, name, "next")
    if not force and (missing := coverage(engine, chosen, on_page=on_page).missing(least)):
        raise errors.GenerationError(
            f"{chosen.title} is not ready: {'; '.join(missing)}. Run a worker, or switch with --force."
        )
    if not force:
        with database.translated():
            recall_before_switch.require(engine, chosen)
    with database.translated():
        _exchange(engine, chosen)


def rollback(engine: sa.Engine, name: str, *, drop_next: bool = False) -> None:
    """Makes the generation ``previous`` live again. The live one becomes ``next``, and workers keep it up to date.

    Args:
        engine: Connects to the database.
        name: The semantic index.
        drop_next: Drop a ``next`` that is being built, in the same transaction. An index has at most one ``next``.

    Raises:
        errors.GenerationError: There is no ``previous``; or there is a ``next``, without ``drop_next``.
    """
    chosen = find(engine, name, "previous")
    with database.translated():
        _exchange(engine, chosen, drop_next=drop_next)


def drop(engine: sa.Engine, name: str, role: Role, *, grace_seconds: float = GRACE_SECONDS) -> None:
    """Drops a generation that is not live, with its vectors, or forgets one whose tables were dropped by hand.

    Args:
        engine: Connects to the database.
        name: The semantic index.
        role: ``next`` or ``previous``.
        grace_seconds: How long a generation is left to searchers after a switch, which they notice within two seconds.
            Right after a switch, this call waits for that long. 0 if nothing searches the index.

    Raises:
        errors.GenerationError: The index has no generation of this role, or it is the live one.
    """
    if role in clear(engine, name):
        return
    chosen = find(engine, name, role)
    if chosen.role == "live":
        raise errors.GenerationError(f"{chosen.title} is live. To drop the index itself: `pg-semantic index drop`.")
    with database.translated(), transaction.begin(engine) as connection:
        since = connection.execute(sql.statement("registry", "role_seconds"), {"generation": chosen.id}).scalar() or 0
    threading.Event().wait(max(0.0, grace_seconds - since + 0.1))
    with database.translated():
        _drop(engine, chosen, grace_seconds=grace_seconds)
        jobqueue.sweep(engine)


def clear(engine: sa.Engine, name: str) -> list[str]:
    """Forgets the generations of a semantic index whose tables were dropped by hand.

    Returns:
        The roles that they had.
    """
    live = find(engine, name, "live")
    with database.translated():
        return _cleared(engine, live)


def find(engine: sa.Engine, name: str, role: Role) -> Generation:
    """Returns the generation of a semantic index that has this role.

    Raises:
        errors.IndexNotFound: There is no such index.
        errors.GenerationError: The index has no generation of this role.
    """
    with database.translated(), transaction.begin(engine) as connection:
        database.require_installed(connection)
        return registry.of_role(connection, name, role)


@transaction.retried
def _exchange(engine: sa.Engine, chosen: Generation, *, drop_next: bool = False) -> None:
    with _step(engine) as connection:
        if drop_next:
            connection.execute(sql.statement("registry", "lock_index"), {"generation": chosen.id})
            connection.execute(sql.statement("registry", "forget_next"), {"generation": chosen.id})
        binds = {"generation": chosen.id, "role": chosen.role}
        connection.execute(sql.statement("registry", "switch"), binds)


@transaction.retried
def _drop(engine: sa.Engine, chosen: Generation, *, grace_seconds: float) -> None:
    with _step(engine) as connection:
        binds = {"generation": chosen.id, "role": chosen.role, "seconds": grace_seconds}
        connection.execute(sql.statement("registry", "drop"), binds)
        live = registry.find(connection, chosen.qualified_name)
        for statement in ddl.create_triggers(live.spec):
            connection.execute(statement)


@transaction.retried
def _cleared(engine: sa.Engine, live: Generation) -> list[str]:
    return repair.clear(engine, live)


@contextlib.contextmanager
def _step(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yields a transaction that waits as `semantic.lock_tables_v1` does, and whose refusals are our errors."""
    try:
        with transaction.begin(engine) as connection:
            yield connection
    except exc.DBAPIError as error:
        refused = database.refusal(error)
        if refused is None:
            raise
        raise errors.GenerationError(refused) from error
