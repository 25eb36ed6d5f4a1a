"""Vectors as points on a plane and as clusters: computation only, without the database."""

import importlib.util
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLUSTERS = 8

_PLANE = 2


@dataclass(frozen=True, slots=True)
class Plane:
    """One point per vector, as an (n, 2) array, and the share of the vectors' variance that the points show."""

    points: NDArray[np.float32]
    variance: float


def project(vectors: NDArray[np.float32]) -> Plane:
    """Projects vectors onto their first two principal components.

    The largest weight of each component is positive, so the same vectors always give the same points.

    Args:
        vectors: One or more vectors, as an (n, dimensions) array.
    """
    centred = vectors - vectors.mean(axis=0)
    along, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    points = (along * sizes * signs)[:, :_PLANE]
    missing = _PLANE - points.shape[1]
    whole = float((sizes**2).sum())
    variance = float((sizes[:_PLANE] ** 2).sum()) / whole if whole else 1.0
    return Plane(np.pad(points, ((0, 0), (0, missing))).astype(np.float32), variance)


def can_cluster() -> bool:
    """Returns whether scikit-learn is installed; only the extra `dev` includes it."""
    try:
        return importlib.util.find_spec("sklearn") is not None
    except ValueError:
        return False


def cluster(vectors: NDArray[np.float32]) -> list[int]:
    """Clusters vectors with k-means. Requires scikit-learn.

    Args:
        vectors: An (n, dimensions) array.

    Returns:
        The cluster of each vector, counted from 0; the same vectors always give the same clusters.
    """
    from sklearn.cluster import KMeans

    count = min(CLUSTERS, len(np.unique(vectors, axis=0)))
    found: list[int] = KMeans(count, n_init=4, random_state=0).fit_predict(vectors).tolist()
    return found
