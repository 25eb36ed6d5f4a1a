"""Upgrades and downgrades the schema ``semantic`` with Alembic, from ``migrations/``."""

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, sql
from pg_semantic.database import revisions

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA = "semantic"
BASE = "base"  # before the first revision
_LOCK = 7_236_281_954  # an arbitrary number for the advisory lock


def upgrade(engine: sa.Engine, *, to: str = "head") -> str:
    """Upgrades the schema, and installs pgvector if it is missing and the role has the privileges.

    Args:
        engine: The database.
        to: The revision to upgrade to.

    Returns:
        The revision that the schema is at now.

    Raises:
        errors.NotInstalled: pgvector is missing or too old, the schema lost its data or functions, or its revision is
            newer than this package.
    """
    with database.translated(), engine.begin() as connection:
        lock(connection)
        _ensure_pgvector(connection)
        bind_to_the_servers_own(connection)
        _require_whole(connection)
        bring_up(connection, to)
        _require_functions(connection)
        return current_revision(connection) or ""


def downgrade(engine: sa.Engine, *, to: str) -> str | None:
    """Downgrades the schema to an earlier revision, or removes it.

    Stop the workers first: they don't work with an earlier revision. No data is lost: if a semantic index needs
    something that the downgrade would remove, an error is raised and nothing changes.

    Args:
        engine: The database.
        to: The earlier revision, or `BASE` to remove the schema.

    Returns:
        The revision that the schema is at now, or None if it was removed.

    Raises:
        errors.ConfigurationError: ``to`` is not an earlier revision, or the schema does not exist.
        errors.DatabaseError: A semantic index needs what would be removed.
        errors.NotInstalled: The schema's revision is newer than this package.
    """
    from alembic import command

    with database.translated(), engine.begin() as connection:
        bind_to_the_servers_own(connection)
        lock(connection)
        _require_earlier(current_revision(connection), to)
        if to == BASE:
            _require_no_index(connection)
        command.downgrade(_config(connection), to)
        if to == BASE:
            connection.execute(sql.statement("schema_check", "remove"))
            return None
        _require_captures(connection, to)
        return current_revision(connection)


def current(engine: sa.Engine) -> str | None:
    """Returns the revision that the database is at, or None if the schema does not exist."""
    with database.translated(), engine.connect() as connection:
        return current_revision(connection)


def lock(connection: sa.Connection) -> None:
    """Waits until no other transaction migrates or checks the schema, and keeps others from doing so."""
    connection.execute(sa.select(sa.func.pg_catalog.pg_advisory_xact_lock(_LOCK)))


def bring_up(connection: sa.Connection, to: str) -> None:
    """Runs the revisions up to one, in the connection's transaction."""
    from alembic import command

    connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
    command.upgrade(_config(connection), to)
    connection.execute(sql.statement("schema_check", "readable"))


def bind_to_the_servers_own(connection: sa.Connection) -> None:
    """Binds names without a schema to the server's own functions and operators until the transaction ends.

    Views, and functions with a body in standard SQL, are bound when they are created, with the search_path of the
    session. A role that can create functions in a schema on that path could put its own in their place.
    """
    connection.execute(sa.text("SET LOCAL search_path = pg_catalog, pg_temp"))


def current_revision(connection: sa.Connection) -> str | None:
    """Returns the revision that the schema is at, or None if the schema does not exist."""
    from alembic.migration import MigrationContext

    options = {"version_table": "history", "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _require_whole(connection: sa.Connection) -> None:
    found = current_revision(connection)
    if found is not None:
        revisions.require_known(found)
    elif connection.scalar(sa.select(sa.func.to_regclass("semantic.semantic_index"))) is not None:
        raise errors.NotInstalled(database.NO_REVISION)


def _require_functions(connection: sa.Connection) -> None:
    lost = connection.scalar(sql.statement("schema_check", "lost_functions"))
    if lost:
        raise errors.NotInstalled(
            f"The schema `semantic` lacks functions of its revision ({lost}), as after DROP EXTENSION vector CASCADE, "
            "which also drops all vectors: run DROP SCHEMA semantic CASCADE, then `pg-semantic db upgrade`, and create "
            "the semantic indexes again."
        )


def _require_earlier(found: str | None, to: str) -> None:
    known = (BASE, *revisions.known())
    if to not in known:
        raise errors.ConfigurationError(f"Unknown revision {to!r}: use one of {', '.join(known)}.")
    if found is None:
        raise errors.ConfigurationError("The schema `semantic` is not in this database: there is nothing to downgrade.")
    revisions.require_known(found)
    if known.index(to) >= known.index(found):
        raise errors.ConfigurationError(f"The schema `semantic` is at revision {found}, and {to} is not earlier.")


def _require_no_index(connection: sa.Connection) -> None:
    names = list(connection.scalars(sql.statement("schema_check", "registered")))
    if names:
        raise errors.DatabaseError(
            f"This database still has semantic indexes ({', '.join(names)}): drop them first with "
            "`pg-semantic index drop`. Nothing was changed."
        )


def _require_captures(connection: sa.Connection, to: str) -> None:
    names = list(connection.scalars(sql.statement("schema_check", "bereft")))
    if names:
        raise errors.DatabaseError(
            f"The triggers of semantic indexes ({', '.join(names)}) call functions that revision {to} does not have: "
            "drop these indexes first with `pg-semantic index drop`, or keep the revision. Nothing was changed."
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
                f"pgvector is not in this database and could not be installed ({said}): install the pgvector package, "
                "0.8 or later, on the server, and ask a superuser to run CREATE EXTENSION vector."
            ) from error
    database.require_pgvector(connection.scalar(version))


def _config(connection: sa.Connection) -> "Config":
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(revisions.folder()).replace("%", "%%"))
    return config
