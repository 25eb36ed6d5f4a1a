"""Translates driver errors to the package's exceptions, with advice, and says what they mean for a caller."""

import contextlib
import re
from collections.abc import Iterator

import psycopg
from sqlalchemy import exc

from pg_semantic import errors
from pg_semantic.database import sqlstates
from pg_semantic.database.sqlstates import Fault

NO_SCHEMA = "The schema `semantic` is not in this database: run `pg-semantic db upgrade`."
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
_OUR_SCHEMA = re.compile(r"\bsemantic\b")
_NO_SUCH_SCHEMA = "3F000"
_DENIED = "42501"
_OUR_RELATION = re.compile(r"(?<!\w)semantic\.(\w+)")
_NO_WORKER = (
    "The role lacks privileges: {said}. This needs the privileges of a worker: connect as a member of the role that "
    "owns the schema `semantic`."
)
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
_READ_ONLY = "25006"
_CANNOT_WRITE = "This server can only be read: {said}. Connect to the primary server to write."
_NO_ANSWER = "The database does not answer: {said}. Check the DSN and that the server is up."
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
    "57014": "The server canceled a statement: {said}. If it took longer than statement_timeout allows, raise that for "
    "your role (ALTER ROLE ... SET statement_timeout = ...), or read fewer rows.",
    "55P03": "The table is in use by another transaction ({said}): try again in a moment.",
}


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


def cause(error: BaseException) -> exc.DBAPIError | None:
    """Returns the driver error that an error is, or was translated from; None if there is none."""
    found = error.__cause__ if isinstance(error, errors.PgSemanticError) else error
    return found if isinstance(found, exc.DBAPIError) else None


def is_canceled(error: exc.DBAPIError) -> bool:
    """Returns whether a statement was canceled, by a timeout or by someone."""
    return sqlstate(error) == _QUERY_CANCELED


def is_busy_or_slow(error: BaseException) -> bool:
    """Returns whether a statement met another transaction or took too long, so that it should be tried again later.

    Args:
        error: A driver error, or what it was translated to.
    """
    found = cause(error)
    return found is not None and (fault(found) in {"busy", "taken"} or is_canceled(found))


def is_denied(error: errors.DatabaseError) -> bool:
    """Returns whether a translated error says that the role lacks privileges."""
    return isinstance(error.__cause__, exc.DBAPIError) and sqlstate(error.__cause__) == _DENIED


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
        return errors.DatabaseError((_CANNOT_WRITE if state == _READ_ONLY else _NO_ANSWER).format(said=said))
    if missing := _missing(error, state, said):
        return missing
    if state is None:
        return errors.DatabaseError(f"The database driver cannot handle a value: {said}.")
    if refused := refusal(error) or lock_refusal(error) or _dependents(error):
        return errors.DatabaseError(refused)
    if state == _DENIED and (advice := _advice_on_privileges(error, said)):
        return errors.DatabaseError(advice)
    advice = _ADVICE.get(state, f"The database rejected the statement: {{said}} (SQLSTATE {state}).")
    return errors.DatabaseError(advice.format(said=said))


def _advice_on_privileges(error: exc.DBAPIError, said: str) -> str | None:
    """Returns advice for a role that may not use our tables or views; None for other objects."""
    if _VIEW_OF_GENERATION.search(said):
        return _NO_READER.format(said=said)
    ours = set(_OUR_RELATION.findall(error.statement or ""))
    return _NO_WORKER.format(said=said) if ours & set(re.findall(r"\w+", said)) else None


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
        return _of_what_is_not_there(state, said)
    if state == _NO_FUNCTION and "function semantic." in said:
        return errors.NotInstalled(_OLD_SCHEMA.format(said=said))
    if state == "42704" and "text search configuration" in said:
        return errors.DatabaseError(_NO_CONFIGURATION.format(said=said))
    if state in _OF_PGVECTOR and _OF_PGVECTOR[state].search(said):
        return errors.NotInstalled(_NO_PGVECTOR.format(said=said))
    return None


def _of_what_is_not_there(state: str | None, said: str) -> errors.PgSemanticError:
    if _OF_GENERATION.search(said):
        return errors.IndexNotFound("The generation that this statement reads was dropped a moment ago: try again.")
    if _OF_OURS.search(said) or (state == _NO_SUCH_SCHEMA and _OUR_SCHEMA.search(said)):
        return errors.NotInstalled(NO_SCHEMA)
    return errors.IndexNotFound(
        f"{said[:1].upper()}{said[1:]}: create the tables first (metadata.create_all, or `pg-semantic index create`)."
    )
