"""Vectors as points of a plane, and as clusters: numbers alone, no database."""

import importlib.util
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLUSTERS = 8

_PLANE = 2


@dataclass(frozen=True, slots=True)
class Plane:
    """Points, one for each vector, and the share of the vectors' variance that they show."""

    points: NDArray[np.float32]
    variance: float


def project(vectors: NDArray[np.float32]) -> Plane:
    """The two directions in which vectors differ most: principal components, their largest weights positive."""
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
    """Whether scikit-learn is installed, which no extra but `dev` brings."""
    try:
        return importlib.util.find_spec("sklearn") is not None
    except ValueError:
        return False


def cluster(vectors: NDArray[np.float32]) -> list[int]:
    """The number of each vector's cluster, by k-means; the same ones for the same vectors."""
    from sklearn.cluster import KMeans

    count = min(CLUSTERS, len(np.unique(vectors, axis=0)))
    found: list[int] = KMeans(count, n_init=4, random_state=0).fit_predict(vectors).tolist()
    return found
