"""Maximal Marginal Relevance: picks hits that are not all alike from ranked candidates."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders import Vectors


def mmr(scores: Sequence[float] | NDArray[np.floating], vectors: Vectors, *, limit: int, relevance: float) -> list[int]:
    """Picks candidates that are relevant and unlike those picked before (Carbonell and Goldstein, SIGIR 1998).

    Each step picks the candidate with the greatest ``relevance * score - (1 - relevance) * similarity``. Scores are
    scaled to 0..1 over all candidates; the similarity is the greatest cosine similarity to a candidate picked before.
    Ties go to the higher score, then to the candidate passed first. Time and memory grow in proportion to candidates,
    dimensions and limit.

    Args:
        scores: One score per candidate; higher is better.
        vectors: One vector per candidate, shape (candidates, dimensions). They need not be normalized.
        limit: Maximum number of candidates to pick, 1 or more.
        relevance: 1 ranks by score alone; 0 picks the best, then only for variety.

    Returns:
        Indexes of the picked candidates, in the order picked.

    Raises:
        errors.QueryError: An argument is out of range or not finite, or scores and vectors differ in number.
    """
    values, directions = np.asarray(scores, np.float64), np.asarray(vectors, np.float64)
    _check(values, directions, limit=limit, relevance=relevance)
    order = np.argsort(-values, kind="stable")
    gain = relevance * _normalized(values[order])
    directions = _unit(directions[order]) if len(order) else directions
    nearest = np.full(len(order), -np.inf)
    left = np.ones(len(order), bool)
    chosen: list[int] = []
    for _ in range(min(limit, len(order))):
        penalty = (1 - relevance) * nearest if chosen else 0.0
        best = int(np.argmax(np.where(left, gain - penalty, -np.inf)))
        left[best] = False
        chosen.append(int(order[best]))
        np.maximum(nearest, directions @ directions[best], out=nearest)
    return chosen


def _check(scores: NDArray[np.float64], vectors: NDArray[np.float64], *, limit: int, relevance: float) -> None:
    if limit < 1:
        raise errors.QueryError(f"mmr(limit={limit}): limit must be 1 or more.")
    if not (math.isfinite(relevance) and 0 <= relevance <= 1):
        raise errors.QueryError(
            f"mmr(relevance={relevance}): relevance must be between 0 (variety) and 1 (score alone)."
        )
    if scores.ndim != 1 or (len(scores) and vectors.ndim != 2) or len(scores) != len(vectors):  # noqa: PLR2004 - rows
        raise errors.QueryError(
            f"mmr: scores have shape {scores.shape} and vectors {vectors.shape}: pass one score and one vector per "
            "candidate."
        )
    if not (np.isfinite(scores).all() and np.isfinite(vectors).all()):
        raise errors.QueryError("mmr: scores and vectors must be finite.")


def _normalized(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales scores to 0..1, all to 1 if they are equal. Divides first, so that no difference is infinite."""
    greatest = np.abs(scores).max(initial=0.0)
    scaled: NDArray[np.float64] = scores / greatest if greatest else scores
    low, high = scaled.min(initial=np.inf), scaled.max(initial=-np.inf)
    return (scaled - low) / (high - low) if high > low else np.ones_like(scores)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales vectors to length 1. A zero vector stays as it is, and is similar to no other."""
    greatest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    scaled: NDArray[np.float64] = vectors / np.where(greatest > 0, greatest, 1.0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(lengths > 0, lengths, 1.0)
