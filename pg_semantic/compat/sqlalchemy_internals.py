"""What SQLAlchemy knows about a statement or a result but does not publish."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

Select: TypeAlias = "sa.Select[*tuple[Any, ...]]"


def order_by(select: Select) -> Sequence[Any]:
    """Returns the expressions of ORDER BY, in order."""
    return tuple(select._order_by_clauses)  # noqa: SLF001


def conditions(select: Select) -> Sequence[sa.ColumnElement[Any]]:
    """Returns the conditions of WHERE."""
    return tuple(select._where_criteria)  # noqa: SLF001


def has_group_by(select: Select) -> bool:
    """Returns whether a statement has GROUP BY."""
    return bool(select._group_by_clauses)  # noqa: SLF001


def has_limit(select: Select) -> bool:
    """Returns whether a statement has LIMIT or FETCH."""
    return select._limit_clause is not None or select._fetch_clause is not None  # noqa: SLF001


def limit_of(select: Select) -> int | None:
    """Returns the number in LIMIT, or None if there is none, or if it is an expression."""
    return getattr(select._limit_clause, "effective_value", None)  # noqa: SLF001


def options_of(statement: Any) -> list[object]:  # noqa: ANN401 - any executable
    """Returns the options of a statement, with those set before `with_only_columns`, which 2.0 does not list."""
    earlier = getattr(statement, "_memoized_select_entities", ())
    return [option for one in (*earlier, statement) for option in getattr(one, "_with_options", ())]


def repeats_rows(result: sa.Result[Any]) -> bool:
    """Returns whether a joined eager load of a collection repeats rows, so that the result must be made unique."""
    return getattr(result, "_unique_filter_state", None) is not None


def from_objects(element: sa.ColumnElement[Any]) -> list[sa.FromClause]:
    """Returns the tables that a column expression reads."""
    return element._from_objects  # noqa: SLF001


def return_no_columns(compiler: SQLCompiler) -> None:
    """Makes a compiled statement return rows of other columns than its own, as EXPLAIN does."""
    compiler._result_columns = []  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class EnclosingSelect:
    """What an element needs to repeat the SELECT that it is compiled in.

    Attributes:
        froms: What it selects from, joins included.
        outer_froms: What the statements around it select from, which it may refer to.
        conditions: Its WHERE, as a list.
    """

    froms: Sequence[sa.FromClause]
    outer_froms: Sequence[sa.FromClause]
    conditions: Sequence[sa.ColumnElement[bool]]


def enclosing_select(compiler: SQLCompiler) -> EnclosingSelect:
    """Returns the SELECT whose clause is being compiled."""
    entry = compiler.stack[-1]
    state: Any = entry["compile_state"]
    own, every = entry["asfrom_froms"], entry["correlate_froms"]
    froms = [one for one in state.froms if one in own]
    select: Any = entry["selectable"]
    return EnclosingSelect(froms, list(every - own), conditions(select))
