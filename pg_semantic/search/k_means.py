"""Clusters of vectors by k-means: computation only, without the database. It needs scikit-learn."""

import importlib.util
import math

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors

_DIGITS = 5  # of normalized vectors: rounding errors beyond them don't make two rows of equal ones
_STARTS = 4


def can_cluster() -> bool:
    """Returns whether scikit-learn is installed; sentence-transformers requires it."""
    try:
        return importlib.util.find_spec("sklearn") is not None
    except ValueError:
        return False


def usual_count(vectors: int, *, most: int) -> int:
    """Returns how many clusters to look for: a rule of thumb, the square root of half the number of vectors."""
    return min(most, max(1, round(math.sqrt(vectors / 2))))


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns vectors of length 1, shape (n, dimensions). Zero vectors stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def clustered(vectors: NDArray[np.float32], *, count: int, seed: int = 0) -> list[int]:
    """Clusters vectors by their directions. The squared distance of normalized vectors is twice their cosine distance.

    Takes four runs of k-means, and keeps the best.

    Args:
        vectors: One or more vectors, shape (n, dimensions).
        count: How many clusters to find; fewer if there are fewer different directions.
        seed: Where k-means starts. The same seed and vectors give the same clusters.

    Returns:
        The cluster of each vector, numbered from 0, the largest first.

    Raises:
        errors.MissingExtra: scikit-learn isn't installed.
    """
    points = normalized(vectors).round(_DIGITS)
    count = min(count, len(np.unique(points, axis=0)))
    if count == 1:
        return [0] * len(points)
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise errors.MissingExtra("Clusters need scikit-learn: pip install 'pg-semantic-index[encode]'.") from error
    found = KMeans(count, n_init=_STARTS, random_state=seed).fit_predict(points)
    _, first, label, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    place = np.empty(len(sizes), int)
    place[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return [int(one) for one in place[label]]
