"""The first stage of `search.knn` with a compressed vector index: `CandidateChunks`, a condition on chunks.

The condition is a subquery with the same joins and filters as the statement around it, so that filters apply before the
limit of the first stage too. It can only be written when the statement is complete: when it is compiled.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler

from pg_semantic.compat import sqlalchemy_internals
from pg_semantic.index import first_stage


class CandidateChunks(sa.ColumnElement[bool]):
    """Whether a chunk is one of the candidates that the vector index finds; if ``exact``, only whether it is eligible.

    Args:
        place: The columns that identify a chunk.
        nearness: What the vector index orders by.
        count: How many candidates there are, as SQL.
        eligible: Which chunks can be candidates, in addition to the conditions of the statement.
        has_prefixes: Whether the vector index is on prefixes: then the count can be NULL.
    """

    __visit_name__ = "candidates"
    _traverse_internals = [  # noqa: RUF012 - as in SQLAlchemy
        ("place", visitors.InternalTraversal.dp_clauseelement_list),
        ("nearness", visitors.InternalTraversal.dp_clauseelement),
        ("count", visitors.InternalTraversal.dp_clauseelement),
        ("eligible", visitors.InternalTraversal.dp_clauseelement),
        ("exact", visitors.InternalTraversal.dp_boolean),
        ("has_prefixes", visitors.InternalTraversal.dp_boolean),
    ]
    inherit_cache = True
    type = sa.Boolean()

    def __init__(
        self,
        place: Sequence[sa.ColumnElement[Any]],
        nearness: sa.ColumnElement[float],
        *,
        count: sa.ColumnElement[int],
        eligible: sa.ColumnElement[bool],
        has_prefixes: bool,
    ) -> None:
        self.place, self.nearness, self.count, self.eligible = list(place), nearness, count, eligible
        self.exact, self.has_prefixes = False, has_prefixes

    @property
    def _from_objects(self) -> list[sa.FromClause]:
        return [one for column in self.place for one in sqlalchemy_internals.from_objects(column)]


@compiles(CandidateChunks)
def _candidates(element: CandidateChunks, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    if element.exact:
        return compiler.process(element.eligible, **options)
    enclosing = sqlalchemy_internals.enclosing_select(compiler)
    others = [one for one in enclosing.conditions if not isinstance(one, CandidateChunks)]
    chunks = sa.select(*element.place).select_from(*enclosing.froms).where(*others, element.eligible)
    chunks = chunks.correlate(*enclosing.outer_froms) if enclosing.outer_froms else chunks.correlate(None)
    found = first_stage.handed_on(chunks, element.nearness, element.count, has_prefixes=element.has_prefixes)
    return compiler.process(sa.tuple_(*element.place).in_(found), **options)
