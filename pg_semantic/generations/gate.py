"""The relevance gate of a switch: judged queries decide whether the next generation is good enough."""

import dataclasses
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import errors, evaluation
from pg_semantic.database import own_transaction
from pg_semantic.encoders import BatchingEncoder
from pg_semantic.evaluation import Evaluation, EvaluationOptions, Judgements, Variant, held_out_queries, query_hash
from pg_semantic.generations import readiness
from pg_semantic.generations.lifecycle import find
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.chunk_tables import Role
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from pg_semantic.search import generation_tracker

_COMPARED: tuple[Role, ...] = ("live", "next")


def require_relevance(  # noqa: PLR0913 - options
    engine: sa.Engine,
    name: str,
    judgements: Judgements,
    *,
    how: Variant = Variant("dense"),  # noqa: B008 - frozen
    worse_by: float | None = None,
    options: EvaluationOptions | None = None,
    load: Callable[[EncoderSpec], BatchingEncoder] = generation_tracker.load,
    on_query: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Compares the next generation with the live one, and refuses it unless it is good enough. Call it before `switch`.

    Queries that were trained or tuned on are left out. A gain by meaning can vanish in a hybrid search.

    Args:
        engine: Connects to the database.
        name: The semantic index.
        judgements: The queries and the grades of rows.
        how: How to search both generations.
        worse_by: How much lower the measure may be; with 0, it may be equal. If None, it must be higher.
        options: The measure, and the page size.
        load: Loads an encoder. No transaction is open meanwhile.
        on_query: Called after each query.

    Raises:
        errors.GenerationError: There is no ``next``, it is not filled, or (``not_better``) not shown to be good enough.
        errors.QueryError: All queries were trained or tuned on.
    """
    index = declare.bind(find(engine, name, "live").spec)
    _require_filled(engine, find(engine, name, "next"))
    both = [dataclasses.replace(how, name=role, generation=role) for role in _COMPARED]
    with orm.Session(engine) as session:
        with own_transaction.reading(session):
            unknown = _without_trained(session, index, judgements)
        report = evaluation.evaluate(
            session, index, unknown, variants=both, options=options, load=load, on_query=on_query
        )
    return _checked(report, worse_by)


def _require_filled(engine: sa.Engine, generation: Generation) -> None:
    if missing := readiness.unfinished(engine, generation):
        reasons = "; ".join(missing)
        raise errors.GenerationError(f"{generation.title} can't be measured yet: {reasons}. Run a worker first.")


def _checked(report: Evaluation, worse_by: float | None) -> Evaluation:
    """Returns the report if it shows that the next generation is good enough."""
    try:
        report.require_better("next") if worse_by is None else report.require_not_worse("next", by=worse_by)
    except AssertionError as error:
        raise errors.GenerationError(f"{report.index} was not switched: {error}", not_better=True) from None
    return report


def count_learned(engine: sa.Engine, live: Generation, judgements: Judgements) -> int:
    """Returns how many of the queries were tuned or trained on, as far as the database knows.

    Raises:
        errors.DatabaseError: The role does not own the schema ``semantic``.
    """
    with orm.Session(engine) as session, own_transaction.reading(session):
        return len(judgements) - len(_unlearned(session, declare.bind(live.spec), judgements))


def _unlearned(session: orm.Session, index: BoundIndex[Any], judgements: Judgements) -> Judgements:
    known = held_out_queries.sides(session, index, [query_hash(query) for query in judgements.queries])
    return judgements.only(query for query in judgements.queries if known.get(query_hash(query)) is not False)


def _without_trained(session: orm.Session, index: BoundIndex[Any], judgements: Judgements) -> Judgements:
    """Returns the judgements of queries that nothing was trained or tuned on, as far as the database knows."""
    unknown = _unlearned(session, index, judgements)
    if not len(unknown):
        raise errors.QueryError(
            "All of these queries were trained or tuned on, so they cannot tell whether it helped: hold some out "
            "with `pg-semantic split` before you train, or judge other queries."
        )
    return unknown
