"""The p value and the interval of a difference between two variants, and p values of several tests."""

import itertools
import math
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.evaluation import significance

Differences = NDArray[np.float64]

# Tenths have no exact float, and equal sums of them differ by rounding.
_tenths = st.lists(st.integers(-6, 6), min_size=1, max_size=9)
_finite = st.lists(st.floats(-1, 1), min_size=2, max_size=40)

# How a variant changes nDCG@10, as (difference, share of the queries): many zeros, and a skewed rest.
RARE_GAINS = ((0.9, 0.02), (0.63, 0.05), (0.37, 0.06), (0.0, 0.67), (-0.05, 0.2))
SMALL_LOSSES = ((0.63, 0.1), (0.0, 0.27), (-0.1, 0.63))


def array(values: Sequence[float]) -> Differences:
    return np.array(values, dtype=np.float64)


def enumerated_p(tenths: Sequence[int]) -> float:
    """The p value by its definition, with exact arithmetic."""
    observed = abs(sum(tenths))
    flipped = [abs(sum(map(int.__mul__, tenths, signs))) for signs in itertools.product((1, -1), repeat=len(tenths))]
    return sum(one >= observed for one in flipped) / len(flipped)


def skewed(seed: int, queries: int) -> Differences:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(queries) < 0.5, 0, rng.exponential(0.2, queries) - 0.15)


def drawn(population: tuple[tuple[float, float], ...], rng: np.random.Generator, queries: int) -> Differences:
    values, shares = zip(*population, strict=True)
    return rng.choice(array(values), queries, p=shares)


@given(_tenths)
def test_p_of_up_to_twelve_differences_is_that_of_all_combinations_of_signs(tenths: list[int]) -> None:
    assert significance.randomization_p(array(tenths) / 10) == enumerated_p(tenths)


def test_p_of_twelve_differences_is_exact() -> None:
    tenths = [7, -1, 4, 2, -3, 5, 6, 1, -2, 3, 8, -4]
    assert significance.randomization_p(array(tenths) / 10, flips=1) == enumerated_p(tenths)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("queries", [30, 200])
def test_p_of_many_differences_is_that_of_scipy_within_three_standard_errors(seed: int, queries: int) -> None:
    differences, flips = skewed(seed, queries), 10_000
    p = significance.randomization_p(differences, flips=flips)
    expected = scipy.stats.permutation_test(
        (differences,),
        lambda sample, axis: abs(np.mean(sample, axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=flips,
        rng=np.random.default_rng(seed),
    ).pvalue
    standard_error = math.sqrt(expected * (1 - expected) * 2 / flips)
    assert abs(p - expected) <= 3 * standard_error + 1 / flips


@pytest.mark.parametrize("queries", [10, 30])
def test_identical_variants_rarely_differ_significantly(queries: int) -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for seed in range(1000):
        first, second = rng.beta(0.3, 0.3, (2, queries))
        alarms += significance.randomization_p(first - second, flips=199, seed=seed) < 0.05
    # At most 5% are expected. More than 7% of 1,000 would be 2.9 standard deviations away; less than 2%, 4.4.
    assert 20 <= alarms <= 70


@pytest.mark.parametrize("queries", [5, 80])
def test_p_is_the_same_when_the_variants_change_places(queries: int) -> None:
    differences = skewed(3, queries)
    assert significance.randomization_p(differences) == significance.randomization_p(-differences)


@pytest.mark.parametrize("queries", [5, 80])
def test_queries_without_a_difference_leave_p_unchanged(queries: int) -> None:
    differences = skewed(4, queries)
    more = np.concatenate((np.zeros(300), differences))
    assert significance.randomization_p(more) == significance.randomization_p(differences)


@pytest.mark.parametrize("queries", [1, 500])
def test_p_without_any_difference_is_one(queries: int) -> None:
    assert significance.randomization_p(np.zeros(queries)) == 1


def test_p_is_never_zero() -> None:
    assert significance.randomization_p(np.full(100, 0.5), flips=999) == 1 / 1000


@pytest.mark.parametrize("function", [significance.randomization_p, significance.bootstrap_interval])
def test_memory_is_bounded_whatever_the_number_of_queries(function: Callable[..., object]) -> None:
    differences = skewed(5, 20_000)
    tracemalloc.start()
    try:
        function(differences, **{"flips" if function is significance.randomization_p else "resamples": 500})
        assert tracemalloc.get_traced_memory()[1] < 30 * 1024**2  # all at once take 80 MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "nothing to test"), ([[0.1]], "nothing to test"), ([0.1, math.nan], "finite"), ([math.inf], "finite")],
)
@pytest.mark.parametrize("function", [significance.randomization_p, significance.bootstrap_interval])
def test_differences_that_say_nothing_are_refused(
    function: Callable[..., object], values: list[float], message: str
) -> None:
    with pytest.raises(errors.QueryError, match=message):
        function(array(values))


def test_a_number_of_samples_must_be_positive() -> None:
    with pytest.raises(errors.QueryError, match="positive, not 0"):
        significance.randomization_p(array([0.1]), flips=0)
    with pytest.raises(errors.QueryError, match="positive, not -1"):
        significance.bootstrap_interval(array([0.1, 0.2]), resamples=-1)


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
def test_a_level_must_be_between_zero_and_one(level: float) -> None:
    with pytest.raises(errors.QueryError, match="level must be above 0 and below 1"):
        significance.bootstrap_interval(array([0.1, 0.2]), level=level)


@pytest.mark.parametrize("population", [RARE_GAINS, SMALL_LOSSES], ids=["rare gains", "small losses"])
@pytest.mark.parametrize("queries", [50, 150])
def test_the_interval_of_skewed_differences_contains_the_true_mean(
    population: tuple[tuple[float, float], ...], queries: int
) -> None:
    truth = sum(value * share for value, share in population)
    rng = np.random.default_rng(2)
    intervals = [
        significance.bootstrap_interval(drawn(population, rng, queries), resamples=1000, seed=seed)
        for seed in range(400)
    ]
    covered = sum(low <= truth <= high for low, high in intervals) / len(intervals)
    assert 0.9 <= covered <= 0.99


@given(_finite, st.sampled_from([0.01, 0.5, 0.95, 0.999]))
@example([-0.2] * 3, 0.95)  # whose mean, rounded, is another number
def test_the_interval_contains_the_mean_of_the_sample(values: list[float], level: float) -> None:
    low, high = significance.bootstrap_interval(array(values), level=level, resamples=50)
    assert low <= array(values).mean() <= high


@given(_finite)
def test_the_interval_is_mirrored_when_the_variants_change_places(values: list[float]) -> None:
    low, high = significance.bootstrap_interval(array(values), resamples=50)
    assert significance.bootstrap_interval(-array(values), resamples=50) == pytest.approx((-high, -low), abs=1e-9)


def test_the_interval_is_that_of_scipy_for_many_queries() -> None:
    differences = skewed(6, 1000)
    expected = scipy.stats.bootstrap(
        (differences,), np.mean, method="BCa", n_resamples=10_000, rng=np.random.default_rng(6)
    ).confidence_interval
    width = expected.high - expected.low
    assert significance.bootstrap_interval(differences) == pytest.approx(tuple(expected), abs=0.03 * width)


def test_a_higher_level_has_a_wider_interval() -> None:
    ends = [significance.bootstrap_interval(skewed(7, 60), level=level) for level in (0.5, 0.8, 0.95, 0.99)]
    for inner, outer in itertools.pairwise(ends):
        assert outer[0] < inner[0] < inner[1] < outer[1]


@pytest.mark.parametrize("function", [significance.randomization_p, significance.bootstrap_interval])
def test_the_same_seed_gives_the_same_result(function: Callable[..., object]) -> None:
    results = [function(skewed(8, 60), seed=seed) for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]


def test_a_single_difference_has_an_interval_without_ends() -> None:
    assert significance.bootstrap_interval(array([0.3])) == (-math.inf, math.inf)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_differences_have_an_interval_without_width(value: float) -> None:
    low, high = significance.bootstrap_interval(np.full(30, value))
    assert low == np.full(30, value).mean() == high


def test_holm_is_that_of_an_example_worked_out_by_hand() -> None:
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.5, 0.2, 0.9]) == [1.0, pytest.approx(0.6), 1.0]
    assert significance.holm([0.04]) == [0.04]
    assert significance.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_of_p_values_and_never_lowers_one(p_values: list[float]) -> None:
    adjusted = significance.holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert [after for _, after in pairs] == sorted(adjusted)
    assert min(adjusted) == min(1, len(p_values) * min(p_values))


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_p_value(p: float) -> None:
    with pytest.raises(errors.QueryError, match="between 0 and 1"):
        significance.holm([0.5, p])
