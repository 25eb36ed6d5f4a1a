"""Chooses the best of several candidates, such as epochs, and measures it on queries that didn't choose it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen candidate.

    Attributes:
        candidate: Its number.
        per_query: A measure of each held-out query, shape (queries,): that of the candidate which the queries of the
            *other* groups choose. The candidate's own mean would be too high, because it was chosen for being high.
    """

    candidate: int
    per_query: NDArray[np.float64]


def choose(
    measured: NDArray[np.float64], groups: NDArray[np.int64], *, reported: NDArray[np.float64] | None = None
) -> Choice:
    """Chooses the candidate with the highest mean; the first one of equals.

    Args:
        measured: A measure of each candidate and held-out query, shape (candidates, queries).
        groups: The group of each query, shape (queries,). With only one group, that group also chooses.
        reported: The measure to return of the chosen candidates, if it is another one; of the same shape.
    """
    reported = measured if reported is None else reported
    per_query = np.empty(measured.shape[1])
    for group in np.unique(groups):
        inside = groups == group
        others = ~inside if not inside.all() else inside
        per_query[inside] = reported[_best(measured[:, others]), inside]
    return Choice(_best(measured), per_query)


def _best(measured: NDArray[np.float64]) -> int:
    return int(measured.mean(axis=1).argmax())
