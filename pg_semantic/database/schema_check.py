"""Compares the schema ``semantic`` in a database with what this package's revisions create."""

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.database import migrate, revisions

State = Literal["missing", "older", "current", "newer"]
Kind = Literal["missing", "additional", "altered"]


@dataclass(frozen=True, slots=True)
class Difference:
    """An object of the schema `semantic` that differs from what the history creates."""

    kind: Kind
    object: str


@dataclass(frozen=True, slots=True)
class SchemaCheck:
    """How the schema in a database compares with the package's history.

    ``differences`` compares it with what the history creates for the database's revision. It is empty for a revision
    that is newer than this package, because the package cannot tell.
    """

    revision: str | None
    newest: str
    state: State
    differences: tuple[Difference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the schema is current, and just as the history creates it."""
        return self.state == "current" and not self.differences


def check(engine: sa.Engine) -> SchemaCheck:
    """Compares the schema with what the history creates. Must run as the schema's owner.

    A transaction sets the schema aside, creates it again and is rolled back, so no other session sees any of it.
    """
    with database.translated(), engine.connect() as connection:
        migrate.bind_to_the_servers_own(connection)
        migrate.lock(connection)
        newest, found = revisions.known()[-1], migrate.current_revision(connection)
        if found is None:
            return SchemaCheck(None, newest, "missing")
        if found not in revisions.known():
            return SchemaCheck(found, newest, "newer")
        here = snapshot(connection)
        connection.execute(sql.statement("schema_check", "set_aside"))
        migrate.bring_up(connection, found)
        made = snapshot(connection)
        connection.rollback()
        return SchemaCheck(found, newest, "current" if found == newest else "older", _differences(here, made))


def snapshot(connection: sa.Connection) -> dict[str, str]:
    """Returns the definition of every object of the schema as the server writes it, by kind and name."""
    return {row.object: row.definition for row in connection.execute(sql.statement("schema_check", "snapshot"))}


def _differences(here: dict[str, str], made: dict[str, str]) -> tuple[Difference, ...]:
    found: list[Difference] = []
    for name in sorted(here.keys() | made.keys()):
        if name not in here:
            found.append(Difference("missing", name))
        elif name not in made:
            found.append(Difference("additional", name))
        elif here[name] != made[name]:
            found.append(Difference("altered", name))
    return tuple(found)
