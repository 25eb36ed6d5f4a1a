"""What every tuning on judgements begins with: the queries that it may use, and the options that it starts from."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.evaluation import Judgements, held_out_queries, measures
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import Options

_FEWEST = 2
_AFTER_FUSION = ("rerank", "diverse", "min_score")  # options of a search


def free(session: orm.Session, index: BoundIndex[Any], judgements: Judgements) -> tuple[Judgements, int]:
    """Returns the queries to tune on, which have a relevant row and aren't held out, and how many are held out.

    Raises:
        errors.QueryError: There are fewer than two.
    """
    kept = held_out_queries.without_held_out(session, index, judgements)
    distinct = kept.judgements.distinct()
    judged = distinct.only(measures.answerable(distinct.grades))
    if len(judged) < _FEWEST:
        held_out = f" {kept.held_out_queries} others are held out for evaluation." if kept.held_out_queries else ""
        gone = f" {kept.gone} judgements are about rows that don't exist." if kept.gone else ""
        raise errors.QueryError(
            f"There is nothing to tune on: fewer than two queries have a relevant row.{held_out}{gone}"
        )
    return judged, kept.held_out_queries


def with_direction(judged: Judgements, known: Collection[str]) -> tuple[Judgements, int]:
    """Returns the queries whose vector isn't all zeros, to which nothing is near, and how many others there are.

    Args:
        judged: The queries to tune on.
        known: Those of them that have such a vector.

    Raises:
        errors.QueryError: There are fewer than two.
    """
    kept = judged.only(known)
    if len(kept) < _FEWEST:
        raise errors.QueryError(
            f"There is nothing to tune on: the encoder finds nothing in {len(judged) - len(kept)} of {len(judged)} "
            "queries (their vectors are zero). Judge other queries, or use another encoder."
        )
    return kept, len(judged) - len(kept)


def record(session: orm.Session, index: BoundIndex[Any], judged: Judgements) -> None:
    """Records that queries were tuned on. The caller commits.

    Raises:
        errors.QueryError: One was held out meanwhile.
    """
    with database.translated():
        held_out_queries.record_training(session, index, judged.queries)


def require_plain(base: Options, what: str) -> None:
    """Raises `errors.ConfigurationError` if options have steps that reorder or drop rows after the fusion.

    Args:
        base: The options.
        what: What is tuned without them, to begin the message with.
    """
    if later := [name for name in _AFTER_FUSION if getattr(base, name) is not None]:
        raise errors.ConfigurationError(
            f"{what} is tuned without {' and '.join(later)}: leave them out of the base, and add them to the options "
            "that you get."
        )
