"""What is done to hits after SQL: scored again by a reranker, chosen to be unlike each other, cut to the page."""

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
    """Has a cross-encoder score the best ``depth`` hits again, by their best passage, and orders them by that.

    At least as many as a page has are scored; those beyond follow as they were, with no score ``rerank``, and are not
    among those that `Diverse` chooses from. When it takes longer than ``seconds``, waiting for other searches included,
    all are as they were. Deeper is slower, and not always better: measure.
    """

    reranker: BatchingReranker
    depth: int = 50
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.reranker, BatchingReranker):
            raise errors.QueryError("Rerank(...) takes a BatchingReranker: make one of the reranker, for all searches.")
        if not 1 <= self.depth <= 1000:  # noqa: PLR2004 - beyond, a search takes minutes
            raise errors.QueryError(f"Rerank(depth={self.depth}): give 1 to 1000 hits.")
        if self.seconds is not None and not self.seconds > 0:
            raise errors.QueryError(f"Rerank(seconds={self.seconds}): give more than 0, or None for no limit.")


@dataclass(frozen=True, slots=True)
class Diverse:
    """Chooses hits among the best ``depth`` that are relevant and unlike each other: Maximal Marginal Relevance.

    ``relevance`` of 1 is the order by score, 0 variety above all. A hit keeps its score; the order is the choice's.
    """

    relevance: float = 0.7
    depth: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.relevance <= 1:
            raise errors.QueryError(f"Diverse(relevance={self.relevance}): give 0 (variety) to 1 (score alone).")
        if not 1 <= self.depth <= 1000:  # noqa: PLR2004 - as above
            raise errors.QueryError(f"Diverse(depth={self.depth}): give 1 to 1000 hits.")


def rescored(hits: Sequence[Hit[T]], scores: Scores | None) -> list[Hit[T]]:
    """Hits by the reranker's scores, in the order before where these are equal; then those without one."""
    if scores is None:
        return list(hits)
    pairs = zip(hits[: len(scores)], map(float, scores), strict=True)
    scored = [dataclasses.replace(hit, score=score, scores={**hit.scores, "rerank": score}) for hit, score in pairs]
    return [*sorted(scored, key=lambda hit: -hit.score), *hits[len(scores) :]]


def diverse(hits: Sequence[Hit[T]], how: Diverse, *, limit: int) -> list[Hit[T]]:
    """As many hits as ``limit``, in the order of being chosen; they were read with their vectors."""
    if not hits:
        return []
    vectors = np.stack([_vector(hit) for hit in hits])
    chosen = diversity.mmr([hit.score for hit in hits], vectors, limit=limit, relevance=how.relevance)
    return [hits[number] for number in chosen]


def _vector(hit: Hit[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    if hit.vector is None:
        raise errors.QueryError("A hit was read without the vector that choosing needs.")
    return hit.vector
