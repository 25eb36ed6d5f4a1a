"""Steps that follow the ranking in SQL: reranking, and picking diverse hits."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pg_semantic import errors
from pg_semantic.rerankers import BatchingReranker, Scores
from pg_semantic.search import diversity
from pg_semantic.search.results import Hit

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rerank:
    """Reorders the best hits by a cross-encoder, which scores the query together with the best passage of each.

    The hits beyond ``depth`` follow in their previous order. They have no ``rerank`` score, and `Diverse` does not pick
    any of them.

    Args:
        reranker: Create one `BatchingReranker` per reranker, and share it between all searches.
        depth: How many hits to rerank, 1 to 1000; at least a page. More is slower, and not always better: measure.
        seconds: Time budget, including the wait for other searches. If it runs out, all hits stay in their previous
            order. None means no limit.

    Raises:
        errors.QueryError: An argument is out of range or of the wrong type.
    """

    reranker: BatchingReranker
    depth: int = 50
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.reranker, BatchingReranker):
            raise errors.QueryError("Rerank(...) takes a BatchingReranker: wrap the reranker in one and share it.")
        if not 1 <= self.depth <= 1000:  # noqa: PLR2004 - with more, a search takes minutes
            raise errors.QueryError(f"Rerank(depth={self.depth}): depth must be between 1 and 1000.")
        if self.seconds is not None and not self.seconds > 0:
            raise errors.QueryError(f"Rerank(seconds={self.seconds}): seconds must be above 0, or None for no limit.")


@dataclass(frozen=True, slots=True)
class Diverse:
    """Picks hits that are relevant but not all alike, by Maximal Marginal Relevance.

    The hits are in the order in which they were picked, and keep their scores.

    Args:
        relevance: 1 orders by score alone; 0 picks for variety above all.
        depth: How many of the best hits to pick from, 1 to 1000; at least a page.

    Raises:
        errors.QueryError: An argument is out of range.
    """

    relevance: float = 0.7
    depth: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.relevance <= 1:
            raise errors.QueryError(
                f"Diverse(relevance={self.relevance}): relevance must be between 0 (variety) and 1 (score alone)."
            )
        if not 1 <= self.depth <= 1000:  # noqa: PLR2004 - as above
            raise errors.QueryError(f"Diverse(depth={self.depth}): depth must be between 1 and 1000.")


def rescored(hits: Sequence[Hit[T]], scores: Scores | None) -> list[Hit[T]]:
    """Orders hits by the reranker's scores.

    Args:
        scores: One score for each of the first hits; the other hits follow in their order. None changes nothing.

    Returns:
        The hits, those with equal scores in their previous order.
    """
    if scores is None:
        return list(hits)
    pairs = zip(hits[: len(scores)], map(float, scores), strict=True)
    scored = [dataclasses.replace(hit, score=score, scores={**hit.scores, "rerank": score}) for hit, score in pairs]
    return [*sorted(scored, key=lambda hit: -hit.score), *hits[len(scores) :]]


def diverse(hits: Sequence[Hit[T]], how: Diverse, *, limit: int) -> list[Hit[T]]:
    """Picks up to ``limit`` diverse hits, in the order picked. The hits must have been read with their vectors."""
    if not hits:
        return []
    vectors = np.stack([_vector(hit) for hit in hits])
    chosen = diversity.mmr([hit.score for hit in hits], vectors, limit=limit, relevance=how.relevance)
    return [hits[number] for number in chosen]


def _vector(hit: Hit[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    if hit.vector is None:
        raise errors.QueryError(
            "A hit has no vector, which picking diverse hits needs: read the hits with their vectors."
        )
    return hit.vector
