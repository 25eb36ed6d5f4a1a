"""The choice of a setting: by smoothed means, and recommended only if it holds on queries that didn't make it."""

import numpy as np
from numpy.typing import NDArray

from pg_semantic.evaluation import significance
from pg_semantic.search import Convex, Rrf
from pg_semantic.tuning import Setting, cross_validation, grid
from pg_semantic.tuning.grid import smoothing
from pg_semantic.tuning.tune import LEVEL

SETTINGS = grid(Setting())
NEAR = smoothing(SETTINGS)


def noise(chance: np.random.Generator, *, queries: int) -> NDArray[np.float64]:
    """Values between 0 and 1 that no setting is better at: neighbors are alike, as they are in a search."""
    own = chance.normal(size=(len(SETTINGS), queries))
    return np.clip(chance.normal(0.5, 0.3, queries) + 0.15 * (NEAR @ own), 0, 1)


def is_recommended(values: NDArray[np.float64]) -> bool:
    chosen = cross_validation.held_out(values, NEAR, folds=5, repeats=3, seed=0)
    return significance.bootstrap_interval(chosen - values[0], level=LEVEL, resamples=1000)[0] > 0


def test_a_change_is_rarely_recommended_by_chance() -> None:
    chance = np.random.default_rng(0)
    alarms = sum(is_recommended(noise(chance, queries=100)) for _ in range(200))
    assert alarms <= 20  # at most 5 % are expected, which is 10, with a standard deviation of 3


def test_a_setting_that_is_clearly_better_is_recommended() -> None:
    chance = np.random.default_rng(1)
    better = np.array([0.1 if setting.fusion == Convex(0.7, 0.3) else 0.0 for setting in SETTINGS])
    gain = (NEAR @ better / NEAR.max())[:, None]
    assert all(is_recommended(np.clip(noise(chance, queries=200) * 0.8 + gain, 0, 1)) for _ in range(20))


def test_each_query_is_measured_under_a_setting_that_it_did_not_choose() -> None:
    values = np.eye(4)  # every query has a setting that is good for it alone
    chosen = cross_validation.held_out(values, np.eye(4), folds=4, repeats=2, seed=0)
    assert chosen.tolist() == [0, 0, 0, 0]


def test_a_single_good_setting_counts_less_than_good_neighbors() -> None:
    settings = [Setting(Rrf()), *(Setting(Convex(share, 1 - share)) for share in (0.0, 0.5, 0.6, 0.7))]
    values = np.array([[0.5], [0.62], [0.6], [0.6], [0.6]])
    assert cross_validation.best(values, np.eye(5)) == 1
    alone = np.array([[0.5], [0.5], [0.5], [0.62], [0.5]])
    assert cross_validation.best(alone, smoothing(settings)) == 3
    assert np.allclose(smoothing(settings).sum(axis=1), 1)
    assert smoothing(settings)[0].tolist() == [1, 0, 0, 0, 0]


def test_settings_of_other_depths_are_not_neighbors() -> None:
    near = smoothing([Setting(Convex(0.5, 0.5)), Setting(Convex(0.5, 0.5), depth=50)])
    assert near.tolist() == [[1, 0], [0, 1]]
