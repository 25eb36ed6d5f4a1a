"""The relevance gate of a switch: judged queries decide whether the next generation is good enough."""

import dataclasses
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import errors, evaluation
from pg_semantic.evaluation import Evaluation, EvaluationOptions, Judgements, Variant, held_out_queries, query_hash
from pg_semantic.generations.lifecycle import find
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.chunk_tables import Role

_COMPARED: tuple[Role, ...] = ("live", "next")


def require_relevance(  # noqa: PLR0913 - options
    engine: sa.Engine,
    name: str,
    judgements: Judgements,
    *,
    how: Variant = Variant("dense"),  # noqa: B008 - frozen
    worse_by: float = 0.0,
    options: EvaluationOptions | None = None,
    on_query: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Compares the next generation with the live one, and refuses it unless it is good enough. Call it before `switch`.

    Queries that are recorded as trained or tuned on are left out. Search as your users do: a gain by meaning can vanish
    in a hybrid search.

    Args:
        engine: Connects to the database.
        name: The semantic index.
        judgements: The queries and the grades of rows.
        how: How to search both generations.
        worse_by: How much lower the measure may be. With 0, the next generation must be better.
        options: The measure, and the page size.
        on_query: Called after each query.

    Raises:
        errors.GenerationError: There is no ``next``, or it is not shown to be good enough.
        errors.QueryError: All queries were trained or tuned on.
    """
    live = find(engine, name, "live")
    find(engine, name, "next")
    both = [dataclasses.replace(how, name=role, generation=role) for role in _COMPARED]
    with orm.Session(engine) as session:
        index = declare.bind(live.spec)
        unknown = _without_trained(session, index, judgements)
        report = evaluation.evaluate(session, index, unknown, variants=both, options=options, on_query=on_query)
    try:
        report.require_not_worse("next", by=worse_by) if worse_by else report.require_better("next")
    except AssertionError as error:
        raise errors.GenerationError(f"{live.qualified_name} was not switched: {error}") from None
    return report


def _without_trained(session: orm.Session, index: BoundIndex[Any], judgements: Judgements) -> Judgements:
    """Returns the judgements of queries that nothing was trained or tuned on, as far as the database knows."""
    known = held_out_queries.sides(session, index, [query_hash(query) for query in judgements.queries])
    unknown = judgements.only(query for query in judgements.queries if known.get(query_hash(query)) is not False)
    if not len(unknown):
        raise errors.QueryError(
            "All of these queries were trained or tuned on, so they cannot tell whether it helped: hold some out "
            "before you train, with evaluation.split, or judge other queries."
        )
    return unknown
