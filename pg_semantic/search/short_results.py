"""Completes short results: if an index scan ends too early, the search is rerun with every distance computed.

A scan that follows a graph can miss rows, above all behind a filter that few rows pass. So if a `knn` statement returns
fewer rows than its limit to a Session, it is rerun exactly, which is cheap because few rows match. Importing this
module adds a ``do_orm_execute`` listener to all Sessions; it ignores statements without the option `RerunIfShort`.
"""

from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.sql import visitors

from pg_semantic.compat import sqlalchemy_internals
from pg_semantic.index.distances import IndexableDistance
from pg_semantic.search.candidates import CandidateChunks

S = TypeVar("S", bound=sa.Executable)


class RerunIfShort(orm.UserDefinedOption):
    """Marks a statement that is rerun exactly if it returns fewer than ``limit`` rows."""

    propagate_to_loaders = False

    def __init__(self, limit: int) -> None:
        super().__init__(payload=limit)
        self.limit = limit


def exactly(statement: S) -> S:
    """Returns a copy of a statement that computes every distance where the original would scan the vector index."""
    return cast(
        "S", visitors.cloned_traverse(cast("Any", statement), {}, {"nearest": _compute, "candidates": _compute})
    )


def _compute(element: Any) -> None:  # noqa: ANN401 - a clone of one of these
    if isinstance(element, IndexableDistance | CandidateChunks):
        element.exact = True


def _execute(state: orm.ORMExecuteState) -> sa.Result[Any] | None:
    limits = [
        option.limit for option in sqlalchemy_internals.options_of(state.statement) if isinstance(option, RerunIfShort)
    ]
    if not state.is_select or not limits or state.is_relationship_load or state.is_column_load:
        return None
    if "yield_per" in state.execution_options or not isinstance(state.statement, sa.Select):
        return None
    found = state.invoke_statement()
    joined = sqlalchemy_internals.repeats_rows(found)
    kept = found.unique().freeze() if joined else found.freeze()
    rows, counted = (kept().unique(), kept().unique()) if joined else (kept(), kept())
    if len(counted.all()) >= (sqlalchemy_internals.limit_of(state.statement) or limits[-1]):
        return rows
    return state.invoke_statement(statement=exactly(state.statement))


event.listen(orm.Session, "do_orm_execute", _execute)
