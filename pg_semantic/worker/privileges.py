"""Makes what belongs to a semantic index usable by the roles that can use its source, and by no others.

The work is done in the database (`semantic.follow_rights_v1`), when an index is created and when a copy is begun or
switched to. Here it is done again, since grants and policies of the source change later.
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
class Rights:
    """The rights to one semantic index, or to our own schema.

    ``statements`` are those that were run, or that are to be run. ``said`` is a sentence about who can read the index,
    and ``trouble`` what kept the statements from being run: if ``is_busy``, a table that others use, so try again soon.
    """

    index: str
    statements: tuple[str, ...] = ()
    said: str | None = None
    trouble: str | None = None
    is_busy: bool = False


def due(engine: sa.Engine) -> list[Rights]:
    """What differs between the rights to every index, and to our schema, and those that they should have."""
    found: list[Rights] = []
    with transaction.begin(engine) as connection:
        for row in connection.execute(sql.statement("rights", "indexes")).all():
            statements = connection.execute(sql.statement("rights", "due"), {"index": row.id})
            found.append(
                Rights(row.name, tuple(one.statement for one in statements), said=_said(connection, row.id)),
            )
        schema = connection.execute(sql.statement("rights", "schema_due"))
        found.append(Rights(_SCHEMA, tuple(one.statement for one in schema)))
    return found


def follow(engine: sa.Engine, *, leave: bool = False, stopped: Callable[[], bool] = lambda: False) -> list[Rights]:
    """Gives every index the rights of its source; trouble with one leaves the others alone.

    A table that is in use is closed at once, and opened, to the right roles, the next time.

    Args:
        engine: Of the owner of the indexes.
        leave: Whether to leave an index alone that somebody else gives its rights at this moment, as another worker.
        stopped: Asked before each index: whether to leave the rest.

    Returns:
        What was done with each index.
    """
    with transaction.begin(engine) as connection:
        known = connection.execute(sql.statement("rights", "indexes")).all()
    return [_follow(engine, row.id, row.name, leave=leave) for row in known if not stopped()]


def close_schema(engine: sa.Engine) -> Rights:
    """Takes back what default privileges, or anybody, granted in our schema."""
    try:
        with transaction.begin(engine) as connection:
            return Rights(_SCHEMA, tuple(connection.scalars(sql.statement("rights", "close_schema"))))
    except exc.DBAPIError as error:
        return Rights(_SCHEMA, trouble=_trouble(error))


def _follow(engine: sa.Engine, number: int, name: str, *, leave: bool) -> Rights:
    try:
        with transaction.begin(engine) as connection:
            if leave and not connection.scalar(sql.statement("rights", "claim"), {"index": number}):
                return Rights(name)
            statements = tuple(connection.scalars(sql.statement("rights", "follow"), {"index": number}))
            found = Rights(name, statements, said=_said(connection, number))
    except exc.DBAPIError as error:
        is_busy = transaction.is_busy(error)
        found = Rights(name, _closed(engine, number), trouble=_trouble(error), is_busy=is_busy)
    fields = {"event": "rights_followed", "index": name, "statements": list(found.statements)}
    if found.trouble:
        log.warning("%s: rights were not brought up to date: %s", name, found.trouble, extra=fields)
    elif found.statements:
        log.info("%s", found.said, extra=fields)
    return found


def _closed(engine: sa.Engine, number: int) -> tuple[str, ...]:
    """What could be taken away of what is open to too many."""
    try:
        with transaction.begin(engine) as connection:
            return tuple(connection.scalars(sql.statement("rights", "close"), {"index": number}))
    except exc.DBAPIError as error:
        _trouble(error)
        return ()


def _said(connection: sa.Connection, number: int) -> str | None:
    said: str | None = connection.scalar(sql.statement("rights", "said"), {"index": number})
    return said


def _trouble(error: exc.DBAPIError) -> str:
    """The reason in words; a lost connection is raised, as it is nothing about rights."""
    if database.is_connection_lost(error):
        raise error
    return str(database.translate(error))
