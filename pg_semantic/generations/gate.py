"""The relevance gate of a switch: judged queries decide whether the next generation is good enough."""

import dataclasses
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import errors, evaluation
from pg_semantic.evaluation import Evaluation, EvaluationOptions, Judgements, Variant
from pg_semantic.generations.lifecycle import find
from pg_semantic.index import declare


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

    Judge by queries that nothing was trained or tuned on, and search as your users do: a gain by meaning can vanish in
    a hybrid search.

    Args:
        engine: Connects to the database.
        name: The semantic index.
        judgements: The queries and the grades of rows.
        how: How to search both generations.
        worse_by: How much lower the measure may be: the 95% interval of the difference must lie above minus this. With
            0, the next generation must be better.
        options: The measure, and the page size.
        on_query: Called after each query.

    Raises:
        errors.GenerationError: There is no ``next``, or it is not shown to be good enough.
    """
    live = find(engine, name, "live")
    find(engine, name, "next")
    both = [dataclasses.replace(how, name="live"), dataclasses.replace(how, name="next", generation="next")]
    with orm.Session(engine) as session:
        index = declare.bind(live.spec)
        report = evaluation.evaluate(session, index, judgements, variants=both, options=options, on_query=on_query)
    try:
        report.require_not_worse("next", by=worse_by)
    except AssertionError as error:
        raise errors.GenerationError(f"{live.qualified_name} was not switched: {error}") from None
    return report
