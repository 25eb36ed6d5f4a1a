"""Hits that are not all alike: Maximal Marginal Relevance over candidates that were ranked already."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders import Vectors


def mmr(scores: Sequence[float] | NDArray[np.floating], vectors: Vectors, *, limit: int, relevance: float) -> list[int]:
    """The indexes of ``limit`` candidates at most, in the order chosen: each relevant, and unlike those before it.

    Each step takes the greatest ``relevance * score - (1 - relevance) * similarity``, with the score brought to 0..1
    within the candidates and the greatest cosine similarity to those taken: 1 ranks by score alone, 0 goes for variety
    after the best. Of equals, the one with the higher score comes first, then the one given first. Time and memory in
    proportion to candidates, dimensions and limit. Raises `errors.QueryError` for what is out of range or not finite.

    Source: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking, SIGIR 1998.
    """
    values, directions = np.asarray(scores, np.float64), np.asarray(vectors, np.float64)
    _check(values, directions, limit=limit, relevance=relevance)
    order = np.argsort(-values, kind="stable")
    gain = relevance * _normalised(values[order])
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
        raise errors.QueryError(f"mmr(limit={limit}): give 1 or more.")
    if not (math.isfinite(relevance) and 0 <= relevance <= 1):
        raise errors.QueryError(f"mmr(relevance={relevance}): give 0 (variety) to 1 (score alone).")
    if scores.ndim != 1 or (len(scores) and vectors.ndim != 2) or len(scores) != len(vectors):  # noqa: PLR2004 - rows
        raise errors.QueryError(
            f"mmr: scores of shape {scores.shape} and vectors of shape {vectors.shape}; give one score and one vector "
            "a candidate."
        )
    if not (np.isfinite(scores).all() and np.isfinite(vectors).all()):
        raise errors.QueryError("mmr: scores and vectors must be finite.")


def _normalised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores from 0 to 1, all 1 when they are equal; divided first, so that no difference of two is infinite."""
    greatest = np.abs(scores).max(initial=0.0)
    scaled: NDArray[np.float64] = scores / greatest if greatest else scores
    low, high = scaled.min(initial=np.inf), scaled.max(initial=-np.inf)
    return (scaled - low) / (high - low) if high > low else np.ones_like(scores)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors of length 1; one of zeros stays, and is like no other."""
    greatest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    scaled: NDArray[np.float64] = vectors / np.where(greatest > 0, greatest, 1.0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(lengths > 0, lengths, 1.0)
