"""The decision about a recall objective: nothing changes until the whole interval is on one side of it."""

import numpy as np
import pytest

from pg_semantic.recall import objective
from pg_semantic.recall.objective import DEFAULT_EF_SEARCH, MAX_EF_SEARCH, STEPS, RecallEstimate, next_ef_search


def estimate(recall: float, queries: int) -> RecallEstimate:
    return RecallEstimate(queries, round(recall * queries * 10), queries * 10)


def after(recall: float, queries: int, *, now: int = 200, wanted: float = 0.95, **others: RecallEstimate) -> int:
    """The next value, after this was measured with the present one; ``others`` are named ``at_150``."""
    known = {int(name.removeprefix("at_")): one for name, one in others.items()}
    return next_ef_search(wanted, now=now, estimates=known | {now: estimate(recall, queries)})


def test_a_miss_raises_by_one_step_as_soon_as_it_is_certain() -> None:
    assert after(0.9, 20) == 200  # the interval still has the objective in it
    assert after(0.9, 300) == 200  # a 95% interval is below it
    assert after(0.9, 500) == 300
    assert after(0.5, 20) == 300


def day_of_looks(random: np.random.Generator, share: float, *, wanted: float) -> int:
    """The value after a day with a measurement each minute, in which each query finds all or none of its chunks."""
    total = np.cumsum([0, *random.binomial(20, share, 24 * 60)])
    kept = objective.queries_kept(wanted) // 20
    for look in range(1, len(total)):
        first = max(0, look - kept)
        found, queries = int(total[look] - total[first]), 20 * (look - first)
        now = next_ef_search(wanted, now=200, estimates={200: RecallEstimate(queries, 10 * found, 10 * queries)})
        if now > 200:
            return now
    return 200


@pytest.mark.parametrize("wanted", [0.9, 0.95, 0.99])
def test_a_recall_at_the_objective_is_hardly_ever_taken_for_a_miss_however_often_one_looks(wanted: float) -> None:
    random = np.random.default_rng(20)
    assert [day_of_looks(random, wanted, wanted=wanted) for _ in range(50)].count(300) <= 1
    assert [day_of_looks(random, 1 - 2 * (1 - wanted), wanted=wanted) for _ in range(10)] == [300] * 10


def test_a_recall_near_the_objective_changes_nothing_however_well_it_is_known() -> None:
    assert [after(recall, 10**6) for recall in (0.9501, 0.96, 0.98)] == [200, 200, 200]


def test_far_above_the_objective_lowers_by_one_step() -> None:
    assert after(1.0, 500) == 150
    assert after(1.0, 40) == 200  # too few queries to know
    assert after(1.0, 500, wanted=0.999) == 200


def test_so_many_queries_are_kept_that_any_objective_can_be_exceeded_by_far() -> None:
    for wanted in (0.5, 0.95, 0.99, 0.999):
        kept = objective.queries_kept(wanted)
        assert kept >= 2000
        assert after(1.0, kept, wanted=wanted) == 150
        perfect = RecallEstimate(kept, 10 * kept, 10 * kept)
        assert perfect.state(wanted, ef_search=200) == "met"


def test_the_default_is_never_gone_below() -> None:
    assert after(1.0, 500, now=DEFAULT_EF_SEARCH) == DEFAULT_EF_SEARCH
    assert after(1.0, 500, now=48) == 48  # which someone chose
    assert after(0.5, 500, now=48) == 64


def test_a_value_that_is_known_to_miss_the_objective_is_not_tried_again() -> None:
    assert after(1.0, 500, at_150=estimate(0.9, 500)) == 200
    assert after(1.0, 500, at_150=estimate(0.9, 20)) == 150  # which isn't known


def test_a_value_between_the_steps_moves_to_a_neighbor() -> None:
    assert after(0.5, 500, now=170) == 200
    assert after(1.0, 500, now=170) == 150


def test_the_highest_value_stays_and_its_miss_is_called_unreachable() -> None:
    assert after(0.5, 500, now=MAX_EF_SEARCH) == MAX_EF_SEARCH
    assert estimate(0.5, 500).state(0.95, ef_search=MAX_EF_SEARCH) == "unreachable"
    assert estimate(0.5, 500).state(0.95, ef_search=800) == "missed"


def test_without_a_measurement_nothing_changes() -> None:
    assert next_ef_search(0.95, now=200, estimates={150: estimate(0.5, 500)}) == 200


@pytest.mark.parametrize(
    ("recall", "queries", "state"),
    [(1.0, 73, "met"), (1.0, 72, "open"), (0.95, 500, "open"), (0.9, 300, "open"), (0.9, 500, "missed")],
)
def test_an_objective_is_met_once_the_interval_is_above_it_and_missed_once_no_look_could_be_chance(
    recall: float, queries: int, state: str
) -> None:
    assert estimate(recall, queries).state(0.95, ef_search=100) == state


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9, 0.95, 0.99, 0.995])
def test_as_many_perfect_queries_as_are_needed_show_the_objective_and_one_less_does_not(wanted: float) -> None:
    needed = objective.queries_needed(wanted)
    assert estimate(1.0, needed).low >= wanted > estimate(1.0, needed - 1).low


@pytest.mark.parametrize("true", [0.80, 0.93, 0.97])
def test_the_rule_settles_whatever_the_recall_is(true: float) -> None:
    """With a recall that grows with the value, it ends where the objective is met, and stays there."""
    now, known = DEFAULT_EF_SEARCH, dict[int, RecallEstimate]()
    path = [now]
    for _ in range(800):
        recall = 1 - (1 - true) * DEFAULT_EF_SEARCH / now
        before = known.get(now, RecallEstimate(0, 0, 0))
        found = RecallEstimate(before.queries + 20, before.found + round(200 * recall), before.expected + 200)
        known[now] = found if found.queries <= 2000 else estimate(recall, 2000)
        now = next_ef_search(0.95, now=now, estimates=known)
        path.append(now)
    assert path == sorted(path)
    assert set(path) <= set(STEPS)
    assert path[-50:] == [path[-1]] * 50
    assert known[path[-1]].highest >= 0.95
