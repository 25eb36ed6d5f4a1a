"""Our own schema in the database, ``semantic``, brought up and down by Alembic from ``migrations/``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, sql
from pg_semantic.database import revisions

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA = "semantic"
BASE = "base"  # before the first revision
_LOCK = 7_236_281_954  # of our own choosing; an advisory lock is a number

State = Literal["missing", "older", "current", "newer"]
Kind = Literal["missing", "additional", "altered"]


@dataclass(frozen=True, slots=True)
class Difference:
    """An object of our schema that is not as the history makes it."""

    kind: Kind
    object: str


@dataclass(frozen=True, slots=True)
class SchemaCheck:
    """How the schema in a database compares with the package's history.

    ``differences`` are from what the history makes of the revision that the database is at; of a newer revision this
    package knows nothing, so there are none.
    """

    revision: str | None
    newest: str
    state: State
    differences: tuple[Difference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the package can work with the schema, and all of it is as the history makes it."""
        return self.state == "current" and not self.differences


def upgrade(engine: sa.Engine, *, to: str = "head") -> str:
    """Brings the schema to the newest revision, installing pgvector when the role may; returns that revision."""
    with database.translated(), engine.begin() as connection:
        _lock(connection)
        _ensure_pgvector(connection)
        _require_whole(connection)
        _bring_up(connection, to)
        _require_functions(connection)
        return _current(connection) or ""


def downgrade(engine: sa.Engine, *, to: str) -> str | None:
    """Brings the schema back to an earlier revision, or to `BASE`, which removes it; returns the revision.

    Loses nothing: raises `errors.DatabaseError` and leaves all as it is when a semantic index needs what would go.
    Stop the workers first: they do not work with an earlier revision.
    """
    from alembic import command

    with database.translated(), engine.begin() as connection:
        _lock(connection)
        _require_earlier(_current(connection), to)
        if to == BASE:
            _require_no_index(connection)
        command.downgrade(_config(connection), to)
        if to == BASE:
            connection.execute(sql.statement("history", "remove"))
            return None
        _require_captures(connection, to)
        return _current(connection)


def current(engine: sa.Engine) -> str | None:
    """The revision that the database is at, or None when the schema is not there."""
    with database.translated(), engine.connect() as connection:
        return _current(connection)


def check(engine: sa.Engine) -> SchemaCheck:
    """Compares the schema with what the history makes, in a transaction that is rolled back; needs its owner's rights.

    The schema is set aside and made anew there, unseen by anybody else.
    """
    with database.translated(), engine.connect() as connection:
        _lock(connection)
        newest, found = revisions.known()[-1], _current(connection)
        if found is None:
            return SchemaCheck(None, newest, "missing")
        if found not in revisions.known():
            return SchemaCheck(found, newest, "newer")
        here = snapshot(connection)
        connection.execute(sql.statement("history", "set_aside"))
        _bring_up(connection, found)
        made = snapshot(connection)
        connection.rollback()
        return SchemaCheck(found, newest, "current" if found == newest else "older", _differences(here, made))


def snapshot(connection: sa.Connection) -> dict[str, str]:
    """Every object of our schema, by its kind and name, with its definition as the server writes it."""
    return {row.object: row.definition for row in connection.execute(sql.statement("history", "snapshot"))}


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


def _lock(connection: sa.Connection) -> None:
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))  # one at a time


def _bring_up(connection: sa.Connection, to: str) -> None:
    from alembic import command

    connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
    command.upgrade(_config(connection), to)
    connection.execute(sql.statement("history", "readable"))


def _current(connection: sa.Connection) -> str | None:
    from alembic.migration import MigrationContext

    options = {"version_table": "history", "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _require_whole(connection: sa.Connection) -> None:
    found = _current(connection)
    if found is not None:
        revisions.require_known(found)
    elif connection.scalar(sa.select(sa.func.to_regclass("semantic.semantic_index"))) is not None:
        raise errors.NotInstalled(database.NO_REVISION)


def _require_functions(connection: sa.Connection) -> None:
    lost = connection.scalar(sql.statement("history", "lost_functions"))
    if lost:
        raise errors.NotInstalled(
            f"The schema `semantic` lacks functions of its revision ({lost}), as after DROP EXTENSION vector CASCADE, "
            "which drops all vectors too: run DROP SCHEMA semantic CASCADE, then `pg-semantic db upgrade`, and create "
            "the semantic indexes again."
        )


def _require_earlier(found: str | None, to: str) -> None:
    known = (BASE, *revisions.known())
    if to not in known:
        raise errors.SettingsError(f"There is no revision {to!r}. There are: {', '.join(known)}.")
    if found is None:
        raise errors.SettingsError("The schema `semantic` is not in this database: there is nothing to take back.")
    revisions.require_known(found)
    if known.index(to) >= known.index(found):
        raise errors.SettingsError(f"The schema `semantic` is at revision {found}, and {to} is not an earlier one.")


def _require_no_index(connection: sa.Connection) -> None:
    names = list(connection.scalars(sql.statement("history", "registered")))
    if names:
        raise errors.DatabaseError(
            f"There are semantic indexes in this database ({', '.join(names)}): drop them first with "
            "`pg-semantic index drop`. Nothing was changed."
        )


def _require_captures(connection: sa.Connection, to: str) -> None:
    names = list(connection.scalars(sql.statement("history", "bereft")))
    if names:
        raise errors.DatabaseError(
            f"The triggers of semantic indexes ({', '.join(names)}) call functions that revision {to} does not have: "
            "drop these indexes first with `pg-semantic index drop`, or stay. Nothing was changed."
        )


def _ensure_pgvector(connection: sa.Connection) -> None:
    version = sa.text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if connection.scalar(version) is None:
        try:
            with connection.begin_nested():
                connection.execute(sa.text("CREATE EXTENSION vector"))
        except exc.DBAPIError as error:
            said = str(error.orig).partition("\n")[0]
            raise errors.NotInstalled(
                f"pgvector is not in this database and could not be installed ({said}): install the server's pgvector "
                "package, 0.8 or later, and have a superuser run CREATE EXTENSION vector."
            ) from error
    database.require_pgvector(connection.scalar(version))


def _config(connection: sa.Connection) -> "Config":
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(revisions.folder()).replace("%", "%%"))
    return config
