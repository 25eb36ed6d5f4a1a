"""Our own schema in the database, ``semantic``, brought up by Alembic from ``migrations/``."""

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA = "semantic"
_LOCK = 7_236_281_954  # of our own choosing; an advisory lock is a number


def upgrade(engine: sa.Engine) -> str:
    """Brings the schema to the newest revision, installing pgvector when the role may; returns that revision."""
    from alembic import command

    with database.translated(), engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))  # one at a time
        _ensure_pgvector(connection)
        connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
        command.upgrade(_config(connection), "head")
        return _current(connection) or ""


def current(engine: sa.Engine) -> str | None:
    """The revision that the database is at, or None when the schema is not there."""
    with database.translated(), engine.connect() as connection:
        return _current(connection)


def _current(connection: sa.Connection) -> str | None:
    from alembic.migration import MigrationContext

    options = {"version_table": "history", "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


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
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    return config


def _folder() -> Path:
    package = Path(__file__).parent
    shipped = package / "migrations"  # in a wheel; an editable install has them beside the package
    return shipped if shipped.is_dir() else package.parent / "migrations"
