"""The choice of a setting: by smoothed means, and recommended only if it holds on queries that didn't make it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.evaluation import significance
from pg_semantic.search import Convex, Options, Rrf
from pg_semantic.tuning import ChunkTuningOptions, Setting, TuningOptions, cross_validation, grid
from pg_semantic.tuning.cross_validation import LEVEL, Validation
from pg_semantic.tuning.grid import smoothing

SETTINGS = grid(Setting())
NEAR = smoothing(SETTINGS)
MANY = TuningOptions(depths=(50, 100, 200), matches=("any", "all")).tried


def noise(chance: np.random.Generator, *, queries: int, near: NDArray[np.float64] = NEAR) -> NDArray[np.float64]:
    """Values between 0 and 1 that no setting is better at: neighbors are alike, as they are in a search."""
    own = chance.normal(size=(len(near), queries))
    return np.clip(chance.normal(0.5, 0.3, queries) + 0.15 * (near @ own), 0, 1)


def is_recommended(values: NDArray[np.float64], near: NDArray[np.float64] = NEAR) -> bool:
    gains = cross_validation.gains_without(values, lambda seen: cross_validation.best(seen, near), Validation(5, 3, 0))
    is_above = significance.bootstrap_interval(gains, level=LEVEL, resamples=1000)[0] > 0
    return is_above and (len(near) == len(SETTINGS) or cross_validation.family_p(values, near) < 1 - LEVEL)


@pytest.mark.parametrize("settings", [SETTINGS, MANY], ids=["fusion", "fusion, depth and match"])
def test_a_change_is_rarely_recommended_by_chance_however_many_settings_are_tried(settings: Sequence[Setting]) -> None:
    chance, near = np.random.default_rng(0), smoothing(settings)
    alarms = sum(is_recommended(noise(chance, queries=100, near=near), near) for _ in range(200))
    assert alarms <= 20  # at most 5 % are expected, which is 10, with a standard deviation of 3


def test_a_setting_that_is_clearly_better_is_recommended() -> None:
    chance = np.random.default_rng(1)
    better = np.array([0.1 if setting.fusion == Convex(0.7, 0.3) else 0.0 for setting in SETTINGS])
    gain = (NEAR @ better / NEAR.max())[:, None]
    assert all(is_recommended(np.clip(noise(chance, queries=200) * 0.8 + gain, 0, 1)) for _ in range(20))


def test_the_p_value_of_the_best_setting_accounts_for_the_number_of_unrelated_settings() -> None:
    chance = np.random.default_rng(0)
    values = np.array([chance.normal(0, 1, 100), chance.normal(0.25, 1, 100)])
    alone = cross_validation.family_p(values, np.eye(2))
    assert alone == pytest.approx(significance.randomization_p(values[1] - values[0]), abs=0.05)
    alike = np.concatenate([values, np.repeat(values[1:], 50, axis=0)])
    assert cross_validation.family_p(alike, np.eye(52)) == alone
    worse = np.concatenate([values, chance.normal(-3, 1, (1, 100))])
    assert cross_validation.family_p(worse, np.eye(3)) < 2.5 * alone
    unrelated = np.concatenate([values, chance.normal(0, 1, (50, 100))])
    assert cross_validation.family_p(unrelated, np.eye(52)) > 2 * alone
    assert cross_validation.family_p(values[:1], np.eye(1)) == 1


def test_settings_that_are_equal_have_no_gain_and_a_p_value_of_1() -> None:
    same = np.tile(np.random.default_rng(0).random(50), (3, 1))
    near = np.eye(3)
    validation = Validation(folds=5, repeats=10, seed=0)
    gain = cross_validation.expected_gain(same, lambda seen: cross_validation.best(seen, near), validation)
    assert (gain.low, gain.high, gain.p) == (0, 0, 1)
    assert not gain.is_shown


def test_each_query_is_measured_under_a_setting_that_it_did_not_choose() -> None:
    values = np.eye(4)  # every query has a setting that is good for it alone
    gains = cross_validation.gains_without(
        values, lambda seen: cross_validation.best(seen, np.eye(4)), Validation(folds=4, repeats=2, seed=0)
    )
    assert (values[0] + gains).tolist() == [0, 0, 0, 0]


def test_a_single_good_setting_counts_less_than_good_neighbors() -> None:
    settings = [Setting(Rrf()), *(Setting(Convex(share, 1 - share)) for share in (0.0, 0.5, 0.6, 0.7))]
    values = np.array([[0.5], [0.62], [0.6], [0.6], [0.6]])
    assert cross_validation.best(values, np.eye(5)) == 1
    alone = np.array([[0.5], [0.5], [0.5], [0.62], [0.5]])
    assert cross_validation.best(alone, smoothing(settings)) == 3
    assert np.allclose(smoothing(settings).sum(axis=1), 1)
    assert smoothing(settings)[0].tolist() == [1, 0, 0, 0, 0]


def test_settings_with_another_depth_or_match_are_not_neighbors() -> None:
    half = Setting(Convex(0.5, 0.5))
    near = smoothing([half, replace(half, depth=50), replace(half, match="all")])
    assert near.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_each_fusion_is_tried_with_each_depth_and_match_and_the_settings_in_use_are_the_first() -> None:
    base = Options(depth=70, match="phrase")
    tried = TuningOptions(base=base, depths=(50, 100), matches=("any", "all")).tried
    assert tried[0] == Setting.of(base)
    assert len(tried) == len(set(tried)) == 1 + len(SETTINGS) * 4
    assert {(one.depth, one.match) for one in tried[1:]} == {(50, "any"), (50, "all"), (100, "any"), (100, "all")}


@pytest.mark.parametrize(
    ("folds", "repeats", "said"), [(1, 10, "folds=1 must be 2 or more"), (5, 0, "repeats=0 must be 1 or more")]
)
def test_a_division_into_too_few_parts_is_refused(folds: int, repeats: int, said: str) -> None:
    for check in (
        TuningOptions(folds=folds, repeats=repeats).check,
        ChunkTuningOptions(sizes=[128], folds=folds, repeats=repeats).check,
        lambda: cross_validation.Validation(folds, repeats),
    ):
        with pytest.raises(errors.ConfigurationError, match=f"^{said}"):
            check()


@pytest.mark.parametrize("value", [1 / 9, 1 / 6, 0.31546487678572877, 1 / 3, 0.6309297535714575, 1.0])
def test_settings_that_all_rank_the_same_are_no_gain_despite_rounding_errors(value: float) -> None:
    equal = np.full((len(SETTINGS), 30), value)
    gain = cross_validation.expected_gain(equal, lambda seen: cross_validation.best(seen, NEAR), Validation())
    assert (gain.low, gain.high, gain.p, gain.is_shown) == (0, 0, 1, False)
    assert gain.fold_mean == equal[0].mean()
    assert cross_validation.best(equal, NEAR) == 0
    rounded = np.array([value, value + 1e-16, value])
    assert cross_validation.first_highest(rounded) == 0
    assert cross_validation.first_highest(np.array([value, value + 0.01, value + 0.01])) == 1
