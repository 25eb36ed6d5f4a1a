"""Connects to a database, and checks that it is ready for pg_semantic."""

import os
import re
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import make_url

from pg_semantic import errors, sql
from pg_semantic.database import driver_errors, embedded, revisions, session_settings

MINIMUM_PGVECTOR = (0, 8)
MINIMUM_POSTGRES = (15,)

# Defaults of a connection, unless the DSN or a libpq variable overrides them. With libpq's own, a connection waits for
# hours if the network drops packets.
_NETWORK = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds
}
# libpq's syntax for several hosts, separated by commas.
_HOST = r"(?:\[[^\]@]*\]|[^/?@:,\[\]]*)(?::\d*)?"
_SEVERAL_HOSTS = re.compile(
    r"(?P<start>[^/]+://(?:[^:/@]*(?::[^@]*)?@)?+)"  # user and password, parsed as SQLAlchemy does
    rf"(?P<hosts>{_HOST}(?:,{_HOST})+)(?P<database>/[^?]*)?(?:\?(?P<rest>.*))?"
)
_PLACE = re.compile(r"\[?(?P<host>[^\[\]]*?)\]?(?::(?P<port>\d*))?")

_EMBEDDED = "embedded:"
_NO_DSN = (
    "Specify the database with --dsn or PG_SEMANTIC_DSN: postgresql://user@host/name, "
    "or embedded:PATH for an embedded server."
)

# This preparer does not double percent signs: compiled statements need them doubled, but values must not have that.
_PREPARER = postgresql.dialect(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call]

NO_REVISION = (
    "The tables of the schema `semantic` are empty, as after a schema-only restore: restore their data too (pg_dump "
    "--data-only --schema=semantic), or drop the schema and create the semantic indexes again."
)


def connect(dsn: str | None) -> sa.Engine:
    """Creates an engine for a DSN, and connects once to check that the server responds.

    Args:
        dsn: A ``postgresql://`` URL, or ``embedded:PATH``, which starts the embedded server unless it is running.

    Raises:
        errors.ConfigurationError: The DSN is missing or invalid.
        errors.DatabaseError: The server does not respond.
        errors.NotInstalled: The server is older than PostgreSQL 15.
    """
    # No server-side prepared statements: behind a transaction pooler, the next transaction may get another session.
    url = _url(dsn)
    engine = sa.create_engine(
        url,
        isolation_level="READ COMMITTED",  # whatever the default: claims must see what is committed
        connect_args={"prepare_threshold": None, "client_encoding": "utf8"}
        | {name: value for name, value in _NETWORK.items() if name not in url.query and not _is_in_environment(name)},
    )
    # Must run before SQLAlchemy checks the string settings of the first connection.
    sa.event.listen(engine, "connect", session_settings.prepare, insert=True)
    with driver_errors.translated(), engine.connect() as connection:
        if connection.dialect.server_version_info < MINIMUM_POSTGRES:  # type: ignore[operator]
            raise errors.NotInstalled("This server is too old: pg_semantic needs PostgreSQL 15 or later.")
    return engine


def _is_in_environment(name: str) -> bool:
    """Returns whether a libpq environment variable has this connection setting."""
    return name == "connect_timeout" and "PGCONNECT_TIMEOUT" in os.environ


def require_installed(connection: sa.Connection) -> None:
    """Checks that the database has a supported pgvector, and the schema `semantic` at this package's revision.

    It costs two round trips: call it at startup, not for each search.

    Raises:
        errors.NotInstalled: One of them is missing or has another version.
    """
    with driver_errors.translated():
        row = connection.execute(sql.statement("registry", "installed")).one()
    require_pgvector(row.pgvector)
    if not row.schema_installed:
        raise errors.NotInstalled(driver_errors.NO_SCHEMA)
    with driver_errors.translated():
        revision = connection.scalar(sql.statement("registry", "revision"))
    if revision is None:
        raise errors.NotInstalled(NO_REVISION)
    revisions.require_newest(revision)


def require_pgvector_found(connection: sa.Connection) -> None:
    """Checks that this session finds pgvector's types by their unqualified names, as DDL requires.

    Raises:
        errors.NotInstalled: pgvector's schema is not on the search_path.
    """
    with driver_errors.translated():
        schema = connection.scalar(sql.statement("registry", "pgvector_out_of_reach"))
    if schema is not None:
        path = ", ".join(dict.fromkeys(['"$user"', "public", schema]))
        raise errors.NotInstalled(
            f"pgvector is in schema {schema}, which is not on the search_path of this session: add it where the "
            f"application sets its search_path, or run ALTER ROLE CURRENT_USER SET search_path = {path}; "
            "then reconnect."
        )


def require_pgvector(version: str | None) -> None:
    """Checks that this version of pgvector is supported.

    Raises:
        errors.NotInstalled: It is too old, or None for not installed.
    """
    if version is None:
        raise errors.NotInstalled(
            "pgvector is not in this database: run `pg-semantic db upgrade` as a role that can create extensions, or "
            "ask a superuser to run CREATE EXTENSION vector (the server needs the pgvector package, 0.8 or later)."
        )
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_PGVECTOR:
        raise errors.NotInstalled(
            f"pgvector {version} is too old: install 0.8 or later on the server, then ALTER EXTENSION vector UPDATE."
        )


def qualified_name(schema: str | None, name: str) -> str:
    """Returns a relation's qualified name as text, quoted if necessary, for functions such as ``to_regclass``."""
    return _PREPARER.format_table(sa.table(name, schema=schema))


def _url(dsn: str | None) -> sa.URL:
    if not dsn:
        raise errors.ConfigurationError(_NO_DSN)
    if dsn == _EMBEDDED:
        raise errors.ConfigurationError("The DSN names no folder: use embedded:PATH, such as embedded:./data.")
    if dsn.startswith(_EMBEDDED):
        dsn = embedded.start(Path(dsn.removeprefix(_EMBEDDED)).expanduser())
    if several := _SEVERAL_HOSTS.fullmatch(dsn):
        places = [match for place in several["hosts"].split(",") if (match := _PLACE.fullmatch(place))]
        hosts, ports = (",".join(place[name] or "" for place in places) for name in ("host", "port"))
        rest = f"&{several['rest']}" if several["rest"] else ""
        dsn = f"{several['start']}{several['database'] or '/'}?host={hosts}&port={ports}{rest}"
    try:
        url = make_url(dsn)
    except (exc.ArgumentError, ValueError):
        raise errors.ConfigurationError(f"The DSN cannot be read. {_NO_DSN}") from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise errors.ConfigurationError(f"{url.get_backend_name()} is not Postgres. {_NO_DSN}")
    url = url.set(drivername="postgresql+psycopg")
    try:
        url.get_dialect()().create_connect_args(url)
    except (exc.ArgumentError, ValueError) as error:
        raise errors.ConfigurationError(f"The DSN cannot be used: {error}.") from None
    return url
