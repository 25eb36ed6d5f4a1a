"""Connecting to a database, asking whether it is ready for us, and turning driver errors into ours."""

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

# What a connection has unless the DSN or a variable of libpq says otherwise: by itself libpq waits for hours for a
# network that swallows packets.
_NETWORK = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds
}
# libpq's way to write several hosts, with commas between them.
_HOST = r"(?:\[[^\]@]*\]|[^/?@:,\[\]]*)(?::\d*)?"
_SEVERAL_HOSTS = re.compile(
    r"(?P<start>[^/]+://(?:[^:/@]*(?::[^@]*)?@)?+)"  # a user and a password as SQLAlchemy finds them
    rf"(?P<hosts>{_HOST}(?:,{_HOST})+)(?P<database>/[^?]*)?(?:\?(?P<rest>.*))?"
)
_PLACE = re.compile(r"\[?(?P<host>[^\[\]]*?)\]?(?::(?P<port>\d*))?")

_CODECS = re.compile(r"^WIN(\d+)$")  # what Python calls otherwise than the server, and KOI8R

_EMBEDDED = "embedded:"
_NO_DSN = (
    "Which database? Give --dsn or PG_SEMANTIC_DSN: postgresql://user@host/name, "
    "or embedded:PATH for an embedded server."
)

# A preparer that does not double percent signs, which compiled statements need and values must not have.
_PREPARER = postgresql.dialect(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call]

NO_REVISION = (
    "The tables of the schema `semantic` are here and empty, as after a restore of definitions alone: take its data "
    "over too (pg_dump --data-only --schema=semantic), or drop the schema and make the semantic indexes anew."
)
_NO_SCHEMA = "The schema `semantic` is not in this database: run `pg-semantic db upgrade`."
_OLD_SCHEMA = "The schema `semantic` is older than this version of pg_semantic ({said}): run `pg-semantic db upgrade`."

# SQLSTATEs that we can say more about than the server does: undefined table, invalid schema name, and these.
_NOT_THERE = {"42P01", "3F000"}
_NOT_FOUND = {*_NOT_THERE, "42883", "42704"}
_FUNCTION = re.compile(r"function ((?:[^\s(]|\"[^\"]*\")+)\(")
_OF_OTHERS = (
    "{said}, says function {function}, which does not belong to pg_semantic. If it runs inside our statements, as an "
    "event trigger does, it has our search_path: name the schemas in it, or ALTER FUNCTION {function} SET search_path "
    "= public."
)
_OF_OURS = re.compile(r"(?<!\w)semantic\.")
_OF_GENERATION = re.compile(r"semantic\.(chunks|receipts)_\d+")
_VIEW_OF_GENERATION = re.compile(r"view (chunks|receipts)_\d+")
_NO_READER = (
    "The role lacks rights: {said}. A semantic index can be read by the roles that can read the key and the text "
    "columns of its table: grant SELECT on these, then run `pg-semantic grants`, or let a worker do so in a minute."
)
_OUR_REFUSAL = "55000"  # object not in prerequisite state, which our functions raise
_LOCKED = "55P03"
_QUERY_CANCELED = "57014"
_INSUFFICIENT_RESOURCES = "53"
_NO_FUNCTION = "42883"
# What the server names when it does not find pgvector, whatever its language: an undefined object or operator.
_OF_PGVECTOR = {
    "42704": re.compile(r"\b(?:(?:vector|halfvec|sparsevec|bit)_\w+_ops|vector|halfvec|sparsevec|hnsw)\b"),
    "42883": re.compile(r"<[-=#+~%]>"),
}
_NO_PGVECTOR = (
    "This role does not find pgvector: {said}. If `\\dx vector` in psql shows the extension, its schema is not on the "
    'search_path: ALTER ROLE CURRENT_USER SET search_path = "$user", public, and that schema; then connect again. If '
    "it does not, run `pg-semantic db upgrade`."
)
_NO_CONFIGURATION = (
    "The server does not know something that is asked for: {said}. Check the name. A text search configuration that is "
    "not in pg_catalog needs the name of its schema before it (`\\dF` in psql lists them)."
)
_ADVICE = {
    "42501": "The role lacks rights: {said}. Grant them (where row-level security is in the way: "
    "ALTER ROLE ... BYPASSRLS), or connect as the owner.",
    "42703": "The table is not as it was when its semantic index was made: {said}. Rename the column back, or drop "
    "what reads it: the semantic index (`pg-semantic index drop`), or a copy of it that is not live (`pg-semantic "
    "generation drop`).",
    "2BP01": "{said}.",
    "55P03": "The table is in use by another transaction ({said}): try again in a moment.",
}


def connect(dsn: str | None) -> sa.Engine:
    """An engine for a DSN; the server must answer.

    ``embedded:PATH`` starts an embedded server when it does not run. Raises `errors.SettingsError` for a DSN that
    can not be read and `errors.DatabaseError` for a server that does not answer.
    """
    # No server-side prepared statements: behind a transaction pooler the next one may meet another server connection.
    url = _url(dsn)
    engine = sa.create_engine(
        url,
        isolation_level="READ COMMITTED",  # whatever the database's default: claims count on seeing what is committed
        connect_args={"prepare_threshold": None, "client_encoding": "utf8"}
        | {name: value for name, value in _NETWORK.items() if name not in url.query and not _is_in_environment(name)},
    )
    # Before SQLAlchemy asks the first connection how it reads strings.
    sa.event.listen(engine, "connect", session_settings.prepare, insert=True)
    with translated(), engine.connect() as connection:
        if connection.dialect.server_version_info < MINIMUM_POSTGRES:  # type: ignore[operator]
            raise errors.NotInstalled("This server is too old: pg_semantic needs PostgreSQL 15 or later.")
    return engine


def _is_in_environment(name: str) -> bool:
    """Whether libpq takes this setting of a connection from a variable of its own."""
    return name == "connect_timeout" and "PGCONNECT_TIMEOUT" in os.environ


def require_installed(connection: sa.Connection) -> None:
    """Raises `errors.NotInstalled` unless the database has pgvector, new enough, and our schema at our revision.

    Two round trips: for those that start to work, not for each search.
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
    """Raises `errors.NotInstalled` unless this session finds pgvector's types by their names alone, as DDL needs."""
    with translated():
        schema = connection.scalar(sql.statement("registry", "pgvector_out_of_reach"))
    if schema is not None:
        path = ", ".join(dict.fromkeys(['"$user"', "public", schema]))
        raise errors.NotInstalled(
            f"pgvector is in schema {schema}, which is not on the search_path of this session: add it where the "
            f"application sets a path of its own, else ALTER ROLE CURRENT_USER SET search_path = {path}; "
            "then connect again."
        )


def require_pgvector(version: str | None) -> None:
    """Raises `errors.NotInstalled` unless this version of pgvector will do."""
    if version is None:
        raise errors.NotInstalled(
            "pgvector is not in this database: run `pg-semantic db upgrade` as a role that may create extensions, or "
            "have a superuser run CREATE EXTENSION vector (the server needs its pgvector package, 0.8 or later)."
        )
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_PGVECTOR:
        raise errors.NotInstalled(
            f"pgvector {version} is too old: install 0.8 or later on the server, then ALTER EXTENSION vector UPDATE."
        )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Driver errors raised inside come out as ours, with what to do next."""
    try:
        yield
    except exc.DBAPIError as error:
        raise translate(error) from error


def qualified_name(schema: str | None, name: str) -> str:
    """A relation's name as one text, quoted where needed, for ``to_regclass`` and the like."""
    return _PREPARER.format_table(sa.table(name, schema=schema))


def storable(text: str, driver: psycopg.Connection[Any]) -> str:
    """A text of whatever origin as the server can keep it: NUL, and what an encoding on the way lacks, are escaped."""
    of_server = _codec(driver.info.parameter_status("server_encoding")) or "ascii"  # which every encoding has in it
    for encoding in (driver.info.encoding, of_server):
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text.replace("\0", "\\x00")


def searchable(text: str, connection: sa.Connection) -> str:
    """A text with question marks for characters that the server's encoding, and so every word in it, lacks."""
    if text.isascii():
        return text
    for codec in _codecs(connection.connection.driver_connection):
        text = text.encode(codec, "replace").decode(codec)
    return text


def _codecs(driver: Any) -> list[str]:  # noqa: ANN401 - of psycopg, asyncpg or psycopg2, if it says so
    """Python's names of the encodings between a client and what the server stores."""
    if info := getattr(driver, "info", None):
        known = [getattr(info, "encoding", None), _codec(info.parameter_status("server_encoding"))]
    elif hasattr(driver, "get_settings"):
        known = [_codec(getattr(driver.get_settings(), "server_encoding", None))]
    else:
        known = []
    return [codec for codec in known if codec]


def sqlstate(error: exc.DBAPIError) -> str | None:
    """The SQLSTATE that the server gave, or None when it did not answer."""
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def fault(error: exc.DBAPIError) -> Fault:
    """Who caused a driver's error.

    An error without an SQLSTATE comes from the driver: a value that it cannot convert is the row's fault, anything
    else means that the server did not answer.
    """
    state = sqlstate(error)
    if state is not None:
        return sqlstates.fault(state)
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        return "lost"
    return "row" if isinstance(error.orig, psycopg.DataError) else "later"


def is_connection_lost(error: exc.DBAPIError) -> bool:
    """Whether an error is of the connection or the server as a whole, and not of what was asked."""
    return fault(error) == "lost"


def is_short_of_resources(error: exc.DBAPIError) -> bool:
    """Whether the server has no disk, memory or connections left, which has nothing to do with what was asked."""
    return (sqlstate(error) or "").startswith(_INSUFFICIENT_RESOURCES)


def is_busy_or_slow(error: exc.DBAPIError) -> bool:
    """Whether what was asked for is locked by somebody else, or took the server too long: try again later."""
    return fault(error) == "busy" or sqlstate(error) == _QUERY_CANCELED


def reason(error: exc.DBAPIError) -> str:
    """What the server said about a row, for the operator: the name of the error, its message and its SQLSTATE."""
    said = str(error.orig).strip().partition("\n")[0]
    state = sqlstate(error)
    return f"{type(error.orig).__name__}: {said}{f' (SQLSTATE {state})' if state else ''}"


def translate(error: exc.DBAPIError) -> errors.PgSemanticError:
    """Our error for a driver's, with what to do next."""
    said = str(error.orig).strip().partition("\n")[0]
    state = sqlstate(error)
    if is_connection_lost(error):
        return errors.DatabaseError(f"The database does not answer: {said}. Check the DSN and that the server runs.")
    if missing := _missing(error, state, said):
        return missing
    if state is None:
        return errors.DatabaseError(f"The database driver can not handle a value: {said}.")
    if refused := refusal(error) or lock_refusal(error):
        return errors.DatabaseError(refused)
    if state == "42501" and _VIEW_OF_GENERATION.search(said):
        return errors.DatabaseError(_NO_READER.format(said=said))
    advice = _ADVICE.get(state, f"The database refused: {{said}} (SQLSTATE {state}).")
    return errors.DatabaseError(advice.format(said=said))


def refusal(error: exc.DBAPIError) -> str | None:
    """What our own functions in the database say when they refuse a step, and what to do; None for other errors."""
    return _with_hint(error) if sqlstate(error) == _OUR_REFUSAL else None


def lock_refusal(error: exc.DBAPIError) -> str | None:
    """What `semantic.lock_v1` says when it has waited for tables in vain; None for other errors, such as a timeout."""
    return _with_hint(error) if sqlstate(error) == _LOCKED and _hint(error) else None


def _with_hint(error: exc.DBAPIError) -> str:
    said, hint = str(error.orig).strip().partition("\n")[0], _hint(error)
    return f"{said[:1].upper()}{said[1:]}.{f' {hint}' if hint else ''}"


def _hint(error: exc.DBAPIError) -> str | None:
    hint: str | None = getattr(getattr(error.orig, "diag", None), "message_hint", None)
    return hint


def refusal_of_others(error: exc.DBAPIError) -> str | None:
    """What to do about a function that is not ours and does not find what it names; None for other errors."""
    context = getattr(getattr(error.orig, "diag", None), "context", None) or ""
    innermost = _FUNCTION.search(context)
    said = str(error.orig).strip().partition("\n")[0]
    if sqlstate(error) not in _NOT_FOUND or innermost is None:
        return None
    if innermost[1].startswith("semantic.") or _OF_OURS.search(said):
        return None
    return _OF_OTHERS.format(said=said, function=innermost[1])


def _missing(error: exc.DBAPIError, state: str | None, said: str) -> errors.PgSemanticError | None:
    """What is not in the database, or not where this role looks for it."""
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
        return errors.IndexNotFound("The generation that was asked was dropped a moment ago: try again.")
    if _OF_OURS.search(said):
        return errors.NotInstalled(_NO_SCHEMA)
    return errors.IndexNotFound(
        f"{said[:1].upper()}{said[1:]}: create the tables first (metadata.create_all, or `pg-semantic index create`)."
    )


def _url(dsn: str | None) -> sa.URL:
    if not dsn:
        raise errors.SettingsError(_NO_DSN)
    if dsn == _EMBEDDED:
        raise errors.SettingsError("Which folder? Write embedded:PATH, as embedded:./data.")
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
        raise errors.SettingsError(f"The DSN can not be read. {_NO_DSN}") from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise errors.SettingsError(f"{url.get_backend_name()} is not Postgres. {_NO_DSN}")
    url = url.set(drivername="postgresql+psycopg")
    try:
        url.get_dialect()().create_connect_args(url)
    except (exc.ArgumentError, ValueError) as error:
        raise errors.SettingsError(f"The DSN can not be used: {error}.") from None
    return url


def _codec(server_encoding: str | None) -> str | None:
    """Python's name of an encoding of the server; None for one that Python does not know."""
    name = _CODECS.sub(r"cp\1", server_encoding or "").replace("KOI8", "KOI8-")
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None
