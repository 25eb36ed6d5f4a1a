"""Completes short results: if an index scan ends too early, the search is rerun with every distance computed.

A scan that follows a graph can miss rows, above all behind a filter that few rows pass. So if a `knn` statement returns
fewer rows than its limit to a Session, it is rerun exactly, which is cheap because few rows match. Importing this
module adds a ``do_orm_execute`` listener to all Sessions; it ignores statements without the option `RerunIfShort`.
"""

from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.sql import visitors

from pg_semantic.index.distances import IndexableDistance

S = TypeVar("S", bound=sa.Executable)


class RerunIfShort(orm.UserDefinedOption):
    """Marks a statement that is rerun exactly if it returns fewer than ``limit`` rows."""

    propagate_to_loaders = False

    def __init__(self, limit: int) -> None:
        super().__init__(payload=limit)
        self.limit = limit


def exactly(statement: S) -> S:
    """Returns a copy of a statement that computes every distance where the original would scan the vector index."""
    return cast("S", visitors.cloned_traverse(cast("Any", statement), {}, {"nearest": _compute}))


def _compute(element: Any) -> None:  # noqa: ANN401 - a clone of IndexableDistance
    if isinstance(element, IndexableDistance):
        element.exact = True


def _execute(state: orm.ORMExecuteState) -> sa.Result[Any] | None:
    limits = [option.limit for option in _options(state.statement) if isinstance(option, RerunIfShort)]
    if not state.is_select or not limits or state.is_relationship_load or state.is_column_load:
        return None
    if "yield_per" in state.execution_options or not isinstance(state.statement, sa.Select):
        return None
    found = state.invoke_statement()
    joined = _has_collections(found)
    kept = found.unique().freeze() if joined else found.freeze()
    rows, counted = (kept().unique(), kept().unique()) if joined else (kept(), kept())
    if len(counted.all()) >= (_limit(state.statement) or limits[-1]):
        return rows
    return state.invoke_statement(statement=exactly(state.statement))


def _has_collections(found: sa.Result[Any]) -> bool:
    """Whether a joined eager load of a collection repeats rows, so that the result must be made unique."""
    return getattr(found, "_unique_filter_state", None) is not None


def _limit(statement: Any) -> int | None:  # noqa: ANN401 - a Select
    """The final limit of a statement, which may differ from the limit passed to `knn`."""
    return getattr(statement._limit_clause, "effective_value", None)  # noqa: SLF001 - public only in Query


def _options(statement: Any) -> list[object]:  # noqa: ANN401 - any executable
    """The options of a statement, with those set before `with_only_columns`, which SQLAlchemy 2.0 does not list."""
    earlier = getattr(statement, "_memoized_select_entities", ())
    return [option for one in (*earlier, statement) for option in getattr(one, "_with_options", ())]


event.listen(orm.Session, "do_orm_execute", _execute)
