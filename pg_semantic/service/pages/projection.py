"""Vectors as points on a plane: computation only, without the database."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    centered = vectors - vectors.mean(axis=0)
    along, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    points = (along * sizes * signs)[:, :_PLANE]
    missing = _PLANE - points.shape[1]
    whole = float((sizes**2).sum())
    variance = float((sizes[:_PLANE] ** 2).sum()) / whole if whole else 1.0
    return Plane(np.pad(points, ((0, 0), (0, missing))).astype(np.float32), variance)
