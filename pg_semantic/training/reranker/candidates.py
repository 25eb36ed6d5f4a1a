"""What the first stage finds for held-out queries, and how well it is ranked, before and after reranking."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import orm

from pg_semantic.encoders import Encoder
from pg_semantic.evaluation import measures
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.rerankers import Reranker
from pg_semantic.search import Searcher, generation_tracker
from pg_semantic.training.report import Measured
from pg_semantic.training.reranker.reranker_training import RerankerTraining
from pg_semantic.training.time_limit import TimeLimit

_MEASURE = "nDCG@10"


@dataclass(frozen=True, slots=True)
class HeldOutHits:
    """The hits of a search, best first: what a reranker would be given.

    A row that answers the query but was not found isn't among them, so a reranker cannot find it either.

    Attributes:
        query: The text of the query.
        relevant: The keys of all rows that answer it, found or not.
        keys: The keys of the hits.
        passages: The passage of each hit.
    """

    query: str
    relevant: Set[str]
    keys: tuple[str, ...]
    passages: tuple[str, ...]


def search(
    session: orm.Session,
    index: BoundIndex[Any],
    relevant: Mapping[str, Set[str]],
    *,
    encoder: Encoder | None,
    options: RerankerTraining,
    limit: TimeLimit,
) -> list[HeldOutHits]:
    """Searches each query as an application does, without reranking.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index.
        relevant: The keys of the rows that answer each query.
        encoder: Encodes the queries; None if the mode is ``lexical``.
        options: How to search.
        limit: How long the training may take.

    Raises:
        errors.ConfigurationError: The time is over.
        errors.EncoderMismatch: The stored vectors come from another encoder.
    """
    searcher = Searcher(encoder, follow=False)
    how = dataclasses.replace(options.search, keys=True)
    found = []
    with orm.Session(bind=generation_tracker.connect(session, index)) as own:  # not the caller's identity map
        for query, answers in relevant.items():
            hits = searcher.search(
                own, index, query, limit=options.depth, where=options.where, mode=options.mode, options=how
            )
            found.append(
                HeldOutHits(query, answers, tuple(str(hit.key) for hit in hits), tuple(hit.passage for hit in hits))
            )
            limit.require_not_over("reading and searching")
            own.expunge_all()  # the rows of thousands of searches don't fit into memory
    return found


def first_stage(candidates: Sequence[HeldOutHits]) -> Measured:
    """Returns nDCG@10 of each query in the order of the first stage, shape (queries,)."""
    return _ndcg(candidates, (one.keys for one in candidates))


def reranked(
    candidates: Sequence[HeldOutHits], reranker: Reranker, *, on_query: Callable[[], object] = lambda: None
) -> Measured:
    """Returns nDCG@10 of each query once the reranker has ordered its candidates, shape (queries,).

    Hits with equal scores keep their order, as in a search.

    Args:
        candidates: The candidates.
        reranker: Scores them.
        on_query: Called after each query.

    Raises:
        errors.EncoderError: A score is not a finite number.
    """

    def order(one: HeldOutHits) -> list[str]:
        scores = reranker.score(one.query, one.passages)
        on_query()
        return [one.keys[place] for place in np.argsort(-scores, kind="stable")]

    return _ndcg(candidates, map(order, candidates))


def _ndcg(candidates: Sequence[HeldOutHits], ranked: Iterable[Sequence[str]]) -> Measured:
    """Measures ranked keys as `evaluation.evaluate` does. The ideal has all relevant rows, found or not."""
    grades = {one.query: dict.fromkeys(one.relevant, 1) for one in candidates}
    run = {one.query: keys for one, keys in zip(candidates, ranked, strict=True)}
    return measures.per_query([_MEASURE], grades, run)[_MEASURE]
