"""Reads a SELECT of the user's own tables, whose columns are a query, the key of a row, and more."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors
from pg_semantic.evaluation import sessions
from pg_semantic.evaluation.sessions import Session
from pg_semantic.index import keys
from pg_semantic.index.bound_index import BoundIndex

UserStatement: TypeAlias = "sa.SelectBase | str"

_MISTAKES = "42"  # the class of SQLSTATEs for syntax errors, and for names that do not exist
_DENIED = "42501"


def wrap(
    session: Session, index: BoundIndex[Any], statement: UserStatement, *, others: Sequence[str], required: int
) -> sa.Select[*tuple[Any, ...]]:
    """Returns a SELECT from a statement, with the columns ``query``, ``key`` as text, and ``others``.

    The columns of the statement have any names, but this order.

    Args:
        session: Runs a statement in text form with LIMIT 0, to count its columns.
        index: The semantic index whose rows have the keys.
        statement: A SELECT, or its text. In a text, colons have no special meaning.
        others: Names of the columns after the key.
        required: How many of ``others`` the statement must have.

    Raises:
        errors.QueryError: The statement has another number of columns, or fails.
    """
    given, source = _of_text(session, index, statement) if isinstance(statement, str) else _of_select(statement)
    parts = len(index.spec.key)
    extra = len(given) - 1 - parts
    if not required <= extra <= len(others):
        raise errors.QueryError(_wrong_columns(index, len(given), others=others, required=required))
    key = keys.as_text(given[1 : 1 + parts]).label("key")
    more = [column.label(name) for column, name in zip(given[1 + parts :], others, strict=False)]
    return sa.select(given[0].label("query"), key, *more).select_from(source)


def execute(session: Session, index: BoundIndex[Any], statement: sa.Executable) -> sa.Result[*tuple[Any, ...]]:
    """Executes a statement in the session's transaction, with its privileges.

    Raises:
        errors.QueryError: It has a syntax error, or uses a name that does not exist.
        errors.DatabaseError: It fails for another reason.
    """
    try:
        return sessions.execute(session, index, statement)
    except errors.PgSemanticError as error:
        cause = error.__cause__
        state = database.sqlstate(cause) if isinstance(cause, exc.DBAPIError) else None
        if isinstance(cause, exc.DBAPIError) and state != _DENIED and (state or "").startswith(_MISTAKES):
            raise errors.QueryError(f"The statement is not valid here: {database.reason(cause)}.") from cause
        raise


def _of_select(statement: sa.SelectBase) -> tuple[list[sa.ColumnElement[Any]], sa.FromClause]:
    """Returns the columns of a statement, and what to select them from."""
    subquery = statement.subquery()
    return list(subquery.c), subquery


def _of_text(
    session: Session, index: BoundIndex[Any], statement: str
) -> tuple[list[sa.ColumnElement[Any]], sa.TextClause]:
    """Returns the columns of a statement in text form, with names of ours, and what to select them from."""
    body = statement.strip().rstrip(";").replace(":", r"\:")  # no binds
    # A comment at the end must not hide the parenthesis.
    probe: sa.Select[*tuple[Any, ...]] = (
        sa.select(sa.literal_column("*")).select_from(sa.text(f"({body}\n) AS judged")).limit(0)
    )
    names = [f"column_{number}" for number, _ in enumerate(execute(session, index, probe).keys())]
    source = sa.text(f"({body}\n) AS judged ({', '.join(names)})")
    return [sa.column(name) for name in names], source


def _wrong_columns(index: BoundIndex[Any], count: int, *, others: Sequence[str], required: int) -> str:
    wanted = ["query", *(column.name for column in index.spec.key), *others[:required]]
    optional = "".join(f", and optionally {name}" for name in others[required:])
    return (
        f"The statement returns {count} columns, but judgements for semantic index {index.name!r} need "
        f"{', '.join(wanted)}{optional}, in this order."
    )
