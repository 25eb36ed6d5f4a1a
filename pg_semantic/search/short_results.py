"""No result comes out short: what a scan of the vector index ended too early for is computed exactly instead.

A scan that follows a graph can miss rows, above all behind a filter that lets few through. So a statement of `knn` that
gives a Session fewer rows than asked for is run once more, with every distance computed; that costs little, since few
rows match. The Session is listened to from the first such statement on.
"""

from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.sql import visitors

from pg_semantic.index.distances import IndexableDistance

S = TypeVar("S", bound=sa.Executable)


class RerunIfShort(orm.UserDefinedOption):
    """Marks a statement whose result is to have ``limit`` rows if there are as many."""

    propagate_to_loaders = False

    def __init__(self, limit: int) -> None:
        super().__init__(payload=limit)
        self.limit = limit
        if not event.contains(orm.Session, "do_orm_execute", _execute):
            event.listen(orm.Session, "do_orm_execute", _execute)


def exactly(statement: S) -> S:
    """The statement with every distance computed where it would walk the vector index."""
    return cast("S", visitors.cloned_traverse(cast("Any", statement), {}, {"nearest": _compute}))


def _compute(element: Any) -> None:  # noqa: ANN401 - a clone of Nearest
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
    """Whether a joined eager load of a collection gives more rows than there are: such a result is made unique."""
    return getattr(found, "_unique_filter_state", None) is not None


def _limit(statement: Any) -> int | None:  # noqa: ANN401 - a Select
    """The limit that a statement has at last, which may be another than `knn` was given."""
    return getattr(statement._limit_clause, "effective_value", None)  # noqa: SLF001 - public in a Query alone


def _options(statement: Any) -> list[object]:  # noqa: ANN401 - whatever is executed
    """The options of a statement, with those from before `with_only_columns`, which SQLAlchemy 2.0 does not list."""
    earlier = getattr(statement, "_memoized_select_entities", ())
    return [option for one in (*earlier, statement) for option in getattr(one, "_with_options", ())]
