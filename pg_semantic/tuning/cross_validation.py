"""Cross-validation of the choice of a setting: what choosing by judged queries gains on queries it hasn't seen."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def best(values: NDArray[np.float64], smoothing: NDArray[np.float64]) -> int:
    """Returns the setting with the highest smoothed mean; of equal ones the first.

    Args:
        values: The measure of each setting on each query, shape (settings, queries).
        smoothing: How much each setting counts for another, shape (settings, settings).
    """
    return int(np.argmax(smoothing @ values.mean(axis=1)))


def held_out(
    values: NDArray[np.float64], smoothing: NDArray[np.float64], *, folds: int, repeats: int, seed: int
) -> NDArray[np.float64]:
    """Returns the measure of each query under the setting that was chosen without it.

    The queries are divided at random into folds. For each fold, the setting is chosen on the other folds. This is
    repeated with other folds, and averaged, since the choice depends on the division.

    Args:
        values: The measure of each setting on each query, shape (settings, queries).
        smoothing: As in `best`.
        folds: How many parts.
        repeats: How many divisions.
        seed: Seed of the divisions.

    Returns:
        Shape (queries,), in the order of the queries.
    """
    queries = values.shape[1]
    chosen = np.zeros(queries)
    for fold in _folds(queries, folds=folds, repeats=repeats, seed=seed):
        others = np.ones(queries, bool)
        others[fold] = False
        chosen[fold] += values[best(values[:, others], smoothing), fold]
    return chosen / repeats


def _folds(queries: int, *, folds: int, repeats: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yields the positions of the queries of each fold, of one division after the other."""
    chance = np.random.default_rng(seed)
    for _ in range(repeats):
        yield from (part for part in np.array_split(chance.permutation(queries), min(folds, queries)) if len(part))
