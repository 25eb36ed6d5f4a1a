"""Connects to a database, checks that it is ready for pg_semantic, and translates driver errors."""

import codecs
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import make_url

from pg_semantic import errors, sql
from pg_semantic.database import embedded, revisions, session_settings, sqlstates
from pg_semantic.database.sqlstates import Fault

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

_CODECS = re.compile(r"^WIN(\d+)$")  # Python has another name for these, and for KOI8R

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
_NO_SCHEMA = "The schema `semantic` is not in this database: run `pg-semantic db upgrade`."
_OLD_SCHEMA = "The schema `semantic` is older than this version of pg_semantic ({said}): run `pg-semantic db upgrade`."

# SQLSTATEs with advice beyond the server's message: undefined table, invalid schema name, and those below.
_NOT_THERE = {"42P01", "3F000"}
_NOT_FOUND = {*_NOT_THERE, "42883", "42704"}
_CLASS = re.compile(r"^<class '[\w.]+'>: ")  # SQLAlchemy 2.0 puts it before asyncpg's messages
_FUNCTION = re.compile(r"function ((?:[^\s(]|\"[^\"]*\")+)\(")
_OF_OTHERS = (
    "{said}, in function {function}, which does not belong to pg_semantic. If the function runs inside pg_semantic's "
    "statements, as an event trigger does, it has their search_path: qualify the names in it with schemas, or run "
    "ALTER FUNCTION {function} SET search_path = public."
)
_OF_OURS = re.compile(r"(?<!\w)semantic\.")
_OF_GENERATION = re.compile(r"semantic\.(chunks|receipts)_\d+")
_VIEW_OF_GENERATION = re.compile(r"view (chunks|receipts)_\d+")
_NO_READER = (
    "The role lacks privileges: {said}. A semantic index can be read by the roles that can read the key and the text "
    "columns of its table: grant SELECT on these, then run `pg-semantic privileges`, or wait a minute for a worker."
)
_OUR_REFUSAL = "55000"  # object not in prerequisite state: functions of the schema `semantic` raise it
_DEPENDED_ON = "2BP01"
_LOCKED = "55P03"
_QUERY_CANCELED = "57014"
_INSUFFICIENT_RESOURCES = "53"
_NO_FUNCTION = "42883"
# How to recognize, in any language, an undefined object or operator that belongs to pgvector.
_OF_PGVECTOR = {
    "42704": re.compile(r"\b(?:(?:vector|halfvec|sparsevec|bit)_\w+_ops|vector|halfvec|sparsevec|hnsw)\b"),
    "42883": re.compile(r"<[-=#+~%]>"),
}
_NO_PGVECTOR = (
    "This role cannot find pgvector: {said}. If `\\dx vector` in psql shows the extension, its schema is not on the "
    'search_path: run ALTER ROLE CURRENT_USER SET search_path = "$user", public, and that schema; then reconnect. '
    "Otherwise run `pg-semantic db upgrade`."
)
_NO_CONFIGURATION = (
    "The server does not know this text search configuration: {said}. Check the name, and qualify it with its schema "
    "unless that is pg_catalog (`\\dF` in psql lists the configurations)."
)
_ADVICE = {
    "42501": "The role lacks privileges: {said}. Grant them (if row-level security is the cause: "
    "ALTER ROLE ... BYPASSRLS), or connect as the owner.",
    "42703": "The table has changed since its semantic index was created: {said}. Rename the column back, or drop "
    "what reads it: the semantic index (`pg-semantic index drop`), or a generation that is not live (`pg-semantic "
    "generation drop`).",
    "55P03": "The table is in use by another transaction ({said}): try again in a moment.",
}


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
    with translated(), engine.connect() as connection:
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
    with translated():
        row = connection.execute(sql.statement("registry", "installed")).one()
    require_pgvector(row.pgvector)
    if not row.schema_installed:
        raise errors.NotInstalled(_NO_SCHEMA)
    with translated():
        revision = connection.scalar(sql.statement("registry", "revision"))
    if revision is None:
        raise errors.NotInstalled(NO_REVISION)
    revisions.require_newest(revision)


def require_pgvector_found(connection: sa.Connection) -> None:
    """Checks that this session finds pgvector's types by their unqualified names, as DDL requires.

    Raises:
        errors.NotInstalled: pgvector's schema is not on the search_path.
    """
    with translated():
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


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translates driver errors that are raised inside the block.

    Raises:
        errors.PgSemanticError: The translated error, with advice on what to do next.
    """
    try:
        yield
    except exc.DBAPIError as error:
        raise translate(error) from error


def qualified_name(schema: str | None, name: str) -> str:
    """Returns a relation's qualified name as text, quoted if necessary, for functions such as ``to_regclass``."""
    return _PREPARER.format_table(sa.table(name, schema=schema))


def storable(text: str, driver: psycopg.Connection[Any]) -> str:
    """Returns a text of any origin as the server can store it.

    NUL characters, and those that the client's or the server's encoding lacks, are escaped with backslashes.
    """
    of_server = _codec(driver.info.parameter_status("server_encoding")) or "ascii"  # a subset of every encoding
    for encoding in (driver.info.encoding, of_server):
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text.replace("\0", "\\x00")


def searchable(text: str, connection: sa.Connection) -> str:
    """Returns a text with question marks for characters that the server's encoding, and so any stored word, lacks."""
    if text.isascii():
        return text
    for codec in _codecs(connection.connection.driver_connection):
        text = text.encode(codec, "replace").decode(codec)
    return text


def _codecs(driver: Any) -> list[str]:  # noqa: ANN401 - psycopg, asyncpg, psycopg2 or another
    """Returns Python's names of the client's and the server's encoding, as far as the driver tells them."""
    if info := getattr(driver, "info", None):
        known = [getattr(info, "encoding", None), _codec(info.parameter_status("server_encoding"))]
    elif hasattr(driver, "get_settings"):
        known = [_codec(getattr(driver.get_settings(), "server_encoding", None))]
    else:
        known = []
    return [codec for codec in known if codec]


def sqlstate(error: exc.DBAPIError) -> str | None:
    """Returns the SQLSTATE from the server, or None if it did not respond."""
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def fault(error: exc.DBAPIError) -> Fault:
    """Returns what caused a driver error; see `sqlstates.Fault`.

    An error without an SQLSTATE comes from the driver. A value that it cannot convert is the row's fault. Other
    operational and interface errors mean that the server did not respond.
    """
    state = sqlstate(error)
    if state is not None:
        return sqlstates.fault(state)
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        return "lost"
    return "row" if isinstance(error.orig, psycopg.DataError) else "later"


def is_connection_lost(error: exc.DBAPIError) -> bool:
    """Returns whether the connection or the server as a whole failed, and not the statement."""
    return fault(error) == "lost"


def is_short_of_resources(error: exc.DBAPIError) -> bool:
    """Returns whether the server ran out of disk, memory or connections, whatever the statement."""
    return (sqlstate(error) or "").startswith(_INSUFFICIENT_RESOURCES)


def is_busy_or_slow(error: exc.DBAPIError) -> bool:
    """Returns whether the statement met another transaction's lock or took too long: try again later."""
    return fault(error) == "busy" or sqlstate(error) == _QUERY_CANCELED


def reason(error: exc.DBAPIError) -> str:
    """Returns an error as text for the operator: its name, the server's message and the SQLSTATE."""
    said = _said(error)
    state = sqlstate(error)
    return f"{type(error.orig).__name__}: {said}{f' (SQLSTATE {state})' if state else ''}"


def translate(error: exc.DBAPIError) -> errors.PgSemanticError:
    """Returns the package's exception for a driver error, with advice on what to do next."""
    said = _said(error)
    state = sqlstate(error)
    if is_connection_lost(error):
        return errors.DatabaseError(f"The database does not answer: {said}. Check the DSN and that the server is up.")
    if missing := _missing(error, state, said):
        return missing
    if state is None:
        return errors.DatabaseError(f"The database driver cannot handle a value: {said}.")
    if refused := refusal(error) or lock_refusal(error) or _dependents(error):
        return errors.DatabaseError(refused)
    if state == "42501" and _VIEW_OF_GENERATION.search(said):
        return errors.DatabaseError(_NO_READER.format(said=said))
    advice = _ADVICE.get(state, f"The database rejected the statement: {{said}} (SQLSTATE {state}).")
    return errors.DatabaseError(advice.format(said=said))


def refusal(error: exc.DBAPIError) -> str | None:
    """Returns the message and hint of a refusal by a function of the schema `semantic`; None for other errors."""
    return _with_hint(error) if sqlstate(error) == _OUR_REFUSAL else None


def lock_refusal(error: exc.DBAPIError) -> str | None:
    """Returns what `semantic.lock_tables_v1` says when it could not lock tables; None for other errors."""
    return _with_hint(error) if sqlstate(error) == _LOCKED and _hint(error) else None


def _said(error: exc.DBAPIError) -> str:
    """Returns the first line of the server's message."""
    return _CLASS.sub("", str(error.orig)).strip().partition("\n")[0]


def _with_hint(error: exc.DBAPIError) -> str:
    said, hint = _said(error), _hint(error)
    return f"{said[:1].upper()}{said[1:]}.{f' {hint}' if hint else ''}"


def _dependents(error: exc.DBAPIError) -> str | None:
    """Returns which objects keep another from being dropped, without the server's hint to use CASCADE."""
    if sqlstate(error) != _DEPENDED_ON:
        return None
    said = str(error.orig).strip().partition("\n")[0]
    detail = getattr(getattr(error.orig, "diag", None), "message_detail", None) or "see the server's log"
    return f"{said}: {'; '.join(detail.splitlines())}. Drop or change what depends on it first."


def _hint(error: exc.DBAPIError) -> str | None:
    hint: str | None = getattr(getattr(error.orig, "diag", None), "message_hint", None)
    return hint


def refusal_of_others(error: exc.DBAPIError) -> str | None:
    """Returns advice for an application's function that fails under our search_path; None for other errors."""
    context = getattr(getattr(error.orig, "diag", None), "context", None) or ""
    innermost = _FUNCTION.search(context)
    said = _said(error)
    if sqlstate(error) not in _NOT_FOUND or innermost is None:
        return None
    if innermost[1].startswith("semantic.") or _OF_OURS.search(said):
        return None
    return _OF_OTHERS.format(said=said, function=innermost[1])


def _missing(error: exc.DBAPIError, state: str | None, said: str) -> errors.PgSemanticError | None:
    """Returns the exception for an object that does not exist, or that this role's search_path lacks."""
    if others := refusal_of_others(error):
        return errors.DatabaseError(others)
    if state in _NOT_THERE:
        return _of_what_is_not_there(said)
    if state == _NO_FUNCTION and "function semantic." in said:
        return errors.NotInstalled(_OLD_SCHEMA.format(said=said))
    if state == "42704" and "text search configuration" in said:
        return errors.DatabaseError(_NO_CONFIGURATION.format(said=said))
    if state in _OF_PGVECTOR and _OF_PGVECTOR[state].search(said):
        return errors.NotInstalled(_NO_PGVECTOR.format(said=said))
    return None


def _of_what_is_not_there(said: str) -> errors.PgSemanticError:
    if _OF_GENERATION.search(said):
        return errors.IndexNotFound("The generation that this statement reads was dropped a moment ago: try again.")
    if _OF_OURS.search(said):
        return errors.NotInstalled(_NO_SCHEMA)
    return errors.IndexNotFound(
        f"{said[:1].upper()}{said[1:]}: create the tables first (metadata.create_all, or `pg-semantic index create`)."
    )


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


def _codec(server_encoding: str | None) -> str | None:
    """Returns Python's name of a server encoding, or None if Python doesn't know it."""
    name = _CODECS.sub(r"cp\1", server_encoding or "").replace("KOI8", "KOI8-")
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None
