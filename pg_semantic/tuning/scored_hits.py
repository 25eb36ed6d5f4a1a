"""`search`: the hits of queries with the scores of a reranker, from which every depth's ranking can be computed."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import orm

from pg_semantic.database import own_transaction
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.rerankers import BatchingReranker, Scores
from pg_semantic.search import Hit, Options, Searcher, generation_tracker
from pg_semantic.search.generation_tracker import Target


@dataclass(frozen=True, slots=True)
class ScoredHits:
    """The hits of a query at the greatest depth, with the reranker's scores.

    Attributes:
        keys: Their keys as text, best first before reranking.
        scores: The reranker's scores, shape (hits,), float32.
        milliseconds: The time of the search, and then for each depth that with reranking, the shallowest first.
    """

    keys: tuple[str, ...]
    scores: Scores
    milliseconds: tuple[float, ...]

    def reranked(self, depth: int, *, limit: int) -> list[str]:
        """Returns the keys of the best rows, best first, as a search returns them that reranks ``depth`` hits."""
        order = np.argsort(-self.scores[:depth], kind="stable")  # equal scores: in their previous order
        return [*(self.keys[place] for place in order), *self.keys[depth:]][:limit]


@dataclass(frozen=True, slots=True)
class Scoring:
    """How to search and score.

    Attributes:
        target: The generation, with its encoder.
        reranker: Scores each hit once.
        depths: How many hits to score, the shallowest first.
        options: The options of the hybrid search.
        exact: Computes every distance instead of scanning the vector index.
    """

    target: Target
    reranker: BatchingReranker
    depths: tuple[int, ...]
    options: Options
    exact: bool


def search(
    session: orm.Session,
    index: BoundIndex[Any],
    queries: Sequence[str],
    *,
    how: Scoring,
    on_query: Callable[[], object] = lambda: None,
) -> Iterator[tuple[str, ScoredHits]]:
    """Searches each query at the greatest depth, and scores the hits between each depth and the next.

    So each hit is scored once, and the time of a depth is that of the search and of all parts up to it. Yields nothing
    for a query whose vector is all zeros, since nothing is near to that.

    Args:
        session: If it is in no transaction, none is open while the reranker scores.
        on_query: Called after each query.
    """
    searcher = Searcher.pinned(how.target)
    first = next((query for query in queries if _has_direction(searcher, query)), None)
    if first is not None:
        _hits(session, index, searcher, query=first, how=how)  # compiles and plans, which no query should pay for
    for query in queries:
        if searcher.encoder:
            searcher.encoder.forget(query)  # which may have been encoded before
        began = time.perf_counter()
        if not _has_direction(searcher, query):  # its vector is cached, so that no transaction is open meanwhile
            on_query()
            continue
        hits = _hits(session, index, searcher, query=query, how=how)
        milliseconds = [(time.perf_counter() - began) * 1000]
        scores = np.zeros(len(hits), np.float32)
        for start, end in zip((0, *how.depths), how.depths, strict=False):
            if passages := [hit.passage for hit in hits[start:end]]:
                scores[start:end] = how.reranker.score(query, passages)
            milliseconds.append((time.perf_counter() - began) * 1000)
        yield query, ScoredHits(tuple(str(hit.key) for hit in hits), scores, tuple(milliseconds))
        on_query()


def _has_direction(searcher: Searcher, query: str) -> bool:
    """Returns whether the vector of a query isn't all zeros. Encodes the query."""
    return searcher.encoder is None or bool(searcher.encoder.encode(query).any())


def _hits(
    session: orm.Session, index: BoundIndex[Any], searcher: Searcher, *, query: str, how: Scoring
) -> list[Hit[Any]]:
    options = dataclasses.replace(how.options, keys=True)
    with own_transaction.reading(session), orm.Session(bind=generation_tracker.connect(session, index)) as own:
        # Not the caller's identity map.
        return searcher.search(own, index, query, limit=how.depths[-1], mode="hybrid", exact=how.exact, options=options)
