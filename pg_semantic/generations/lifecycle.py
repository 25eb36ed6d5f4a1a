"""The steps of a generation's life, each one short transaction: begin, switch, rollback, drop."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.schema import CreateTable

from pg_semantic import database, errors, jobqueue, registry, sql
from pg_semantic.database import transaction
from pg_semantic.generations.readiness import coverage
from pg_semantic.index import ddl
from pg_semantic.index.chunk_tables import Role
from pg_semantic.index.spec import IndexSpec
from pg_semantic.operations import repair
from pg_semantic.operations.verify import CheckedPage
from pg_semantic.registry import Generation

# Searchers may ask a generation for so long after it was live: longer than `search.generation_tracker.FRESH_SECONDS`.
_GRACE_SECONDS = 5.0
_BYTES = {"halfvec": 2, "vector": 4}


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of the live generation, with all of its indexes, and of another as they will be, about."""

    live: int
    other: int


def disk(engine: sa.Engine, live: Generation, target: IndexSpec) -> Disk:
    """How much room another copy will take, if it has as many chunks as the live one; its vectors lie there twice."""
    with database.translated(), transaction.begin(engine) as connection:
        taken = size(connection, live)
        chunks = connection.scalar(sa.select(sa.func.count()).select_from(live.tables.chunks)) or 0
    sizes = [2 * spec.encoder.dimensions * _BYTES[spec.storage] for spec in (live.spec, target)]
    return Disk(taken, max(0, taken + chunks * (sizes[1] - sizes[0])))


def size(connection: sa.Connection, generation: Generation) -> int:
    """Bytes that a generation takes, with its indexes."""
    found: int = connection.execute(sql.statement("registry", "size"), {"generation": generation.id}).scalar_one()
    return found


def begin(engine: sa.Engine, live: Generation, target: IndexSpec) -> Generation:
    """Begins to build a copy of a semantic index as ``target`` says; workers fill it, and keep both true from now on.

    Vectors of the live copy are used again where the encoder is the same. Raises `errors.DeclarationError` when the
    target is what is live, or another index altogether, and `errors.GenerationError` when a copy is there already, or a
    column is not there or not text.
    """
    if target == live.spec:
        raise errors.DeclarationError(f"Semantic index {live.name!r} is just as asked for: there is nothing to change.")
    with database.translated():
        return _begin(engine, live, target)


@transaction.retried
def _begin(engine: sa.Engine, live: Generation, target: IndexSpec) -> Generation:
    with _step(engine) as connection:
        database.require_installed(connection)
        same = registry.copies(connection, live.qualified_name)
        if any(one.role == "next" for one in same):
            raise errors.GenerationError(
                f"Semantic index {live.qualified_name!r} has a next generation already: switch to it, or drop it "
                f"(`pg-semantic generation drop {live.qualified_name} next`)."
            )
        for statement in ddl.begin(target, live.spec):
            _execute(connection, statement)
        return _of_role(connection, live, "next")


def _execute(connection: sa.Connection, statement: sa.Executable) -> None:
    """Runs a statement; only one that creates a table finds the types of pgvector, and what else is in its schema."""
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
    """Makes the copy that was built live; the one that was stays, as ``previous``, and is kept true.

    Raises `errors.GenerationError` when there is none, or when it is not ready: unless ``least`` of the rows are
    current (1 is all, and none may have failed) and its indexes are built. ``force`` switches nevertheless.
    """
    chosen = find(engine, name, "next")
    if not force and (missing := coverage(engine, chosen, on_page=on_page).missing(least)):
        raise errors.GenerationError(
            f"{chosen.title} is not ready: {'; '.join(missing)}. Run a worker, or switch with --force."
        )
    with database.translated():
        _exchange(engine, chosen)


def rollback(engine: sa.Engine, name: str, *, drop_next: bool = False) -> None:
    """Makes the copy that was live before live again; the other one stays, as ``next``, and is kept true.

    ``drop_next`` drops a copy ``next`` that is being built, in the same transaction: there is room for one. Raises
    `errors.GenerationError` when there is such a copy otherwise, or when the one before was dropped.
    """
    chosen = find(engine, name, "previous")
    with database.translated():
        _exchange(engine, chosen, drop_next=drop_next)


def drop(engine: sa.Engine, name: str, role: Role) -> None:
    """Drops a copy that is not live, with its vectors, or what is known of one whose tables were dropped by hand.

    After a switch it waits for some seconds, for searchers that do not know of it yet. Raises `errors.GenerationError`
    when there is no such copy.
    """
    if role in clear(engine, name):
        return
    chosen = find(engine, name, role)
    if chosen.role == "live":
        raise errors.GenerationError(f"{chosen.title} is live: `pg-semantic index drop` drops the index itself.")
    with database.translated(), transaction.begin(engine) as connection:
        since = connection.execute(sql.statement("registry", "role_seconds"), {"generation": chosen.id}).scalar() or 0
    threading.Event().wait(max(0.0, _GRACE_SECONDS - since + 0.1))
    with database.translated():
        _drop(engine, chosen)
        jobqueue.sweep(engine)


def clear(engine: sa.Engine, name: str) -> list[str]:
    """Forgets copies of a semantic index whose tables were dropped by hand; gives the roles that they had."""
    live = find(engine, name, "live")
    with database.translated():
        return _cleared(engine, live)


def find(engine: sa.Engine, name: str, role: Role) -> Generation:
    """The generation of this role; raises `errors.GenerationError` when there is none."""
    with database.translated(), transaction.begin(engine) as connection:
        database.require_installed(connection)
        return _of_role(connection, registry.find(connection, name), role)


def _of_role(connection: sa.Connection, live: Generation, role: Role) -> Generation:
    same = registry.copies(connection, live.qualified_name)
    for one in same:
        if one.role == role:
            return one
    there = ", ".join(one.role for one in same)
    raise errors.GenerationError(f"Semantic index {live.qualified_name!r} has no {role} generation; it has: {there}.")


@transaction.retried
def _exchange(engine: sa.Engine, chosen: Generation, *, drop_next: bool = False) -> None:
    with _step(engine) as connection:
        if drop_next:
            connection.execute(sql.statement("registry", "lock_index"), {"generation": chosen.id})
            connection.execute(sql.statement("registry", "forget_next"), {"generation": chosen.id})
        binds = {"generation": chosen.id, "role": chosen.role}
        connection.execute(sql.statement("registry", "switch"), binds)


@transaction.retried
def _drop(engine: sa.Engine, chosen: Generation) -> None:
    with _step(engine) as connection:
        binds = {"generation": chosen.id, "role": chosen.role, "seconds": _GRACE_SECONDS}
        connection.execute(sql.statement("registry", "drop"), binds)
        live = registry.find(connection, chosen.qualified_name)
        for statement in ddl.create_triggers(live.spec):
            connection.execute(statement)


@transaction.retried
def _cleared(engine: sa.Engine, live: Generation) -> list[str]:
    return repair.clear(engine, live)


@contextlib.contextmanager
def _step(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction in which the database's refusals are ours; `semantic.lock_v1` says how it waits for tables."""
    try:
        with transaction.begin(engine) as connection:
            yield connection
    except exc.DBAPIError as error:
        refused = database.refusal(error)
        if refused is None:
            raise
        raise errors.GenerationError(refused) from error
