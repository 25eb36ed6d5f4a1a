"""Lets the roles that can use a source use its semantic index, and no others.

The database does the work (`semantic.apply_privileges_v1`), when an index is created and when a generation is started
or switched to. A worker repeats it, because grants and policies of the source change later.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, sql
from pg_semantic.database import transaction

log = logging.getLogger("pg_semantic.worker")

_SCHEMA = "the schema semantic"


@dataclass(frozen=True, slots=True)
class IndexPrivileges:
    """The privileges on one semantic index, or on the schema ``semantic``.

    Attributes:
        index: The name of the index, or "the schema semantic".
        statements: The statements that were run, or that are due.
        said: A sentence about who can read the index.
        problem: Why the statements could not be run.
        is_busy: Whether the reason is a table in use. If so, try again soon.
    """

    index: str
    statements: tuple[str, ...] = ()
    said: str | None = None
    problem: str | None = None
    is_busy: bool = False


def due(engine: sa.Engine) -> list[IndexPrivileges]:
    """Compares the privileges on every index and on the schema ``semantic`` with those that they should have.

    Returns:
        An entry for each index and one for the schema, with the statements that are due.
    """
    found: list[IndexPrivileges] = []
    with transaction.begin(engine) as connection:
        for row in connection.execute(sql.statement("privileges", "indexes")).all():
            statements = connection.execute(sql.statement("privileges", "due"), {"index": row.id})
            found.append(
                IndexPrivileges(row.name, tuple(one.statement for one in statements), said=_said(connection, row.id)),
            )
        schema = connection.execute(sql.statement("privileges", "schema_due"))
        found.append(IndexPrivileges(_SCHEMA, tuple(one.statement for one in schema)))
    return found


def follow(
    engine: sa.Engine, *, leave: bool = False, stopped: Callable[[], bool] = lambda: False
) -> list[IndexPrivileges]:
    """Gives every index the privileges of its source. A problem with one index doesn't affect the others.

    If a table is in use, revokes excess privileges at once, and grants missing ones the next time.

    Args:
        engine: An engine whose role owns the indexes.
        leave: Whether to skip an index whose privileges are being updated by someone else, such as another worker.
        stopped: Called before each index; returns whether to skip the rest.

    Returns:
        What was done with each index.
    """
    with transaction.begin(engine) as connection:
        known = connection.execute(sql.statement("privileges", "indexes")).all()
    return [_follow(engine, row.id, row.name, leave=leave) for row in known if not stopped()]


def close_schema(engine: sa.Engine) -> IndexPrivileges:
    """Revokes what default privileges, or anyone, granted in the schema ``semantic``."""
    try:
        with transaction.begin(engine) as connection:
            return IndexPrivileges(_SCHEMA, tuple(connection.scalars(sql.statement("privileges", "close_schema"))))
    except exc.DBAPIError as error:
        return IndexPrivileges(_SCHEMA, problem=_problem(error))


def _follow(engine: sa.Engine, number: int, name: str, *, leave: bool) -> IndexPrivileges:
    try:
        with transaction.begin(engine) as connection:
            if leave and not connection.scalar(sql.statement("privileges", "claim"), {"index": number}):
                return IndexPrivileges(name)
            statements = tuple(connection.scalars(sql.statement("privileges", "follow"), {"index": number}))
            found = IndexPrivileges(name, statements, said=_said(connection, number))
    except exc.DBAPIError as error:
        is_busy = transaction.is_busy(error)
        found = IndexPrivileges(name, _closed(engine, number), problem=_problem(error), is_busy=is_busy)
    fields = {"event": "privileges_followed", "index": name, "statements": list(found.statements)}
    if found.problem:
        log.warning("%s: privileges could not be updated: %s", name, found.problem, extra=fields)
    elif found.statements:
        log.info("%s", found.said, extra=fields)
    return found


def _closed(engine: sa.Engine, number: int) -> tuple[str, ...]:
    """Revokes as much as possible of what is open to too many roles."""
    try:
        with transaction.begin(engine) as connection:
            return tuple(connection.scalars(sql.statement("privileges", "close"), {"index": number}))
    except exc.DBAPIError as error:
        _problem(error)
        return ()


def _said(connection: sa.Connection, number: int) -> str | None:
    said: str | None = connection.scalar(sql.statement("privileges", "said"), {"index": number})
    return said


def _problem(error: exc.DBAPIError) -> str:
    """Returns the reason in words. Raises if the connection was lost, which has nothing to do with privileges."""
    if database.is_connection_lost(error):
        raise error
    return str(database.translate(error))
