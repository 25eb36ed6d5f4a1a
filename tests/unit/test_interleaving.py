"""Team-draft interleaving: a page that favors neither search, whatever the rankings and whoever clicks."""

import itertools
import math
import random
import uuid
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic import errors, search
from pg_semantic.evaluation import InterleavingOutcome, significance
from pg_semantic.search import Drafted, Hit

SEEDS = 4000
_rankings = st.lists(st.sampled_from("abcdefghijkl"), unique=True, max_size=12).map("".join)


def hits(keys: str, score: float = 0.0) -> list[Hit[str]]:
    return [Hit(key, score, {}, (), key=key) for key in keys]


def page(first: str, second: str, *, seed: object = 0, limit: int = 10) -> list[Drafted[str]]:
    return search.interleave(hits(first, 1.0), hits(second, 2.0), seed=str(seed), limit=limit)


def shown(drafted: Sequence[Drafted[str]]) -> str:
    return "".join(str(one.hit.key) for one in drafted)


def teams(drafted: Sequence[Drafted[str]]) -> list[str | None]:
    return [one.team for one in drafted]


def credit(drafted: Sequence[Drafted[str]], chance: random.Random, looks: Callable[[int], float]) -> int:
    """The clicks on rows of the second search minus those of the first, of a person who clicks without looking."""
    clicked = [one.team for rank, one in enumerate(drafted) if chance.random() < looks(rank)]
    return clicked.count("second") - clicked.count("first")


@given(_rankings, _rankings, st.integers(0, 50), st.integers(1, 14))
def test_a_page_has_each_row_once_and_as_many_as_there_are(first: str, second: str, seed: int, limit: int) -> None:
    found = shown(page(first, second, seed=seed, limit=limit))
    assert len(found) == len(set(found)) == min(limit, len(set(first + second)))
    assert set(found) <= set(first + second)


@given(_rankings, _rankings, st.integers(0, 50))
def test_each_row_is_the_best_one_left_of_its_team_and_has_its_scores(first: str, second: str, seed: int) -> None:
    seen: set[str] = set()
    for one in page(first, second, seed=seed, limit=24):
        if one.team is not None:
            own = first if one.team == "first" else second
            assert one.hit.key == next(key for key in own if key not in seen)
            assert one.hit.score == (1.0 if one.team == "first" else 2.0)
        seen.add(str(one.hit.key))


@given(_rankings, _rankings, st.integers(0, 50))
def test_the_teams_take_turns(first: str, second: str, seed: int) -> None:
    """After each round, both have the same number of rows."""
    drafted = [team for team in teams(page(first, second, seed=seed, limit=24)) if team]
    rounds = itertools.zip_longest(drafted[::2], drafted[1::2])
    assert all({one, other} == {"first", "second"} for one, other in rounds)


@given(_rankings, st.integers(0, 50))
def test_identical_rankings_give_that_ranking_and_no_team_to_prefer(ranking: str, seed: int) -> None:
    found = page(ranking, ranking, seed=seed, limit=12)
    assert shown(found) == ranking
    assert set(teams(found)) <= {None}


def test_rows_before_the_first_difference_have_no_team_and_neither_have_those_after_a_ranking_ends() -> None:
    found = page("abcdef", "abgh")
    assert shown(found)[:2] == "ab"
    assert teams(found[:2]) == teams(found[6:]) == [None, None]
    assert teams(found).count("first") == teams(found).count("second") == 2
    assert teams(page("abcd", "ab")) == [None] * 4


def test_a_row_has_no_team_if_the_coin_decided_whether_the_other_search_can_pick() -> None:
    """After p and q, both want a. If the first search picked it, the second one would have nothing left."""
    for seed in range(20):
        found = page("pab", "qa", seed=seed)
        assert set(teams(found[:2])) == {"first", "second"}
        assert (shown(found[2:]), teams(found[2:])) == ("ab", [None, None])


@given(_rankings, _rankings, st.integers(0, 50), st.integers(1, 12))
def test_a_shorter_page_is_the_beginning_of_a_longer_one(first: str, second: str, seed: int, limit: int) -> None:
    assert page(first, second, seed=seed, limit=limit) == page(first, second, seed=seed, limit=24)[:limit]


def test_the_same_seed_gives_the_same_page_and_others_give_others() -> None:
    impression = uuid.UUID("6f0c1c4e-0d5a-4b52-9a3e-0a1b2c3d4e5f")
    first, second = hits("abcdef"), hits("fedcba")
    found = search.interleave(first, second, seed=impression)
    assert found == search.interleave(first, second, seed=impression) == page_of_seed(str(impression))
    assert {shown(page("abcdef", "fedcba", seed=seed)) for seed in range(50)} == {
        *("afbecd", "afbedc", "afebcd", "afebdc", "fabecd", "fabedc", "faebcd", "faebdc")
    }


def page_of_seed(seed: str) -> list[Drafted[str]]:
    return search.interleave(hits("abcdef"), hits("fedcba"), seed=seed)


def test_each_search_picks_first_equally_often_in_every_round() -> None:
    counts: Counter[tuple[int, str | None]] = Counter()
    for seed in range(SEEDS):
        found = teams(page("abcdefghij", "klmnopqrst", seed=seed))
        counts.update(enumerate(found[::2]))
    for turn in range(5):
        # A fair coin is further than three standard deviations away in one of 370 cases.
        assert abs(counts[turn, "first"] - SEEDS / 2) < 3 * math.sqrt(SEEDS) / 2


@pytest.mark.parametrize(
    ("first", "second"),
    [("abcdefghij", "klmnopqrst"), ("abcdefghij", "jihgfedcba"), ("abcdefghij", "abcdefghji"), ("abc", "bxyzuvw")],
)
def test_people_who_click_without_looking_prefer_neither_search(first: str, second: str) -> None:
    chance = random.Random(1)  # noqa: S311 - not a secret
    credits_ = [
        credit(page(first, second, seed=seed, limit=10), chance, lambda rank: 0.8**rank) for seed in range(SEEDS)
    ]
    assert abs(np.mean(credits_)) <= 3 * np.std(credits_) / math.sqrt(SEEDS)


def test_people_who_click_on_what_the_second_search_ranks_higher_prefer_it() -> None:
    found = [page("abcdefghij", "hijabcdefg", seed=seed, limit=5) for seed in range(400)]
    clicked = [[one.team for one in drafted if str(one.hit.key) in "hij"] for drafted in found]
    assert all(set(credited) == {"second"} for credited in clicked)


def test_hits_without_keys_are_refused_with_the_option_to_set() -> None:
    with pytest.raises(errors.QueryError, match=r"Options\(keys=True\)"):
        search.interleave([Hit("a", 0.0, {}, ())], [], seed="1")
    with pytest.raises(errors.QueryError, match="limit must be 1 or more"):
        search.interleave(hits("a"), hits("b"), seed="1", limit=0)


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_sign_test_and_its_interval_are_those_of_scipy(wins: int, losses: int) -> None:
    if not wins + losses:
        assert significance.sign_test_p(0, 0) == 1
        assert significance.share_interval(0, 0) == (0, 1)
        return
    expected = scipy.stats.binomtest(wins, wins + losses)
    assert significance.sign_test_p(wins, losses) == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.proportion_ci(method="exact")
    low, high = significance.share_interval(wins, losses)
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert (low <= 0.5 <= high) == (significance.sign_test_p(wins, losses) >= 0.05)


def test_a_million_decisions_are_tested_too() -> None:
    assert significance.sign_test_p(501_000, 499_000) == pytest.approx(0.0456, abs=1e-4)


def outcome(first: int, second: int) -> InterleavingOutcome:
    p, (low, high) = significance.sign_test_p(first, second), significance.share_interval(second, first)
    return InterleavingOutcome("article_semantic", "rrf or convex", "impression", first, second, 5, 9, p, low, high)


def test_a_preference_is_required_and_only_a_clear_one_is_one() -> None:
    clear = outcome(20, 40)
    assert (clear.preferred, clear.share, clear.decided) == ("second", 40 / 60, 60)
    clear.require_preferred("second")
    with pytest.raises(AssertionError, match=r"The first search of 'rrf or convex' isn't shown .* 40 of 60 prefer"):
        clear.require_preferred("first")
    unclear = outcome(20, 25)
    assert unclear.preferred is None
    with pytest.raises(AssertionError, match="isn't shown to be preferred"):
        unclear.require_preferred("second")
    assert (outcome(0, 0).share, outcome(0, 0).preferred) == (0.5, None)
