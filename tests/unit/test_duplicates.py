"""The pairs that are kept while rows are compared, and the sets that they form."""

import random

import pytest

from pg_semantic.index import keys
from pg_semantic.search.connected_rows import DisjointSets
from pg_semantic.search.duplicates import BestPairs


def seen(pairs: int, rows: int, seed: int) -> list[tuple[str, str, float]]:
    """Pairs of rows as they come: some of them several times, from both sides, and with other scores."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    return [(str(chance.randrange(rows)), str(chance.randrange(rows)), chance.random()) for _ in range(pairs)]


@pytest.mark.parametrize("limit", [1, 2, 7, 100, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_pairs_are_kept_and_no_more_than_twice_the_limit(limit: int, seed: int) -> None:
    best = BestPairs(limit=limit, least=0.3)
    expected: dict[tuple[str, str], float] = {}
    for one, other, score in seen(5_000, 60, seed):
        best.add(one, other, score=score)
        assert len(best._scores) < 2 * limit
        if one != other and score >= 0.3:
            pair = (min(one, other), max(one, other))
            expected[pair] = max(score, expected.get(pair, 0))
    wanted = sorted(expected.items(), key=lambda pair: -pair[1])[:limit]
    assert best.pairs() == wanted
    assert best.is_full == (len(expected) >= limit)
    assert best.least <= wanted[-1][1]


@pytest.mark.parametrize("seed", range(5))
def test_sets_are_the_connected_components(seed: int) -> None:
    sets = DisjointSets()
    expected: list[set[str]] = []
    for one, other, _ in seen(100, 150, seed):
        sets.join(one, other)
        touched = [known for known in expected if known & {one, other}]
        expected = [known for known in expected if known not in touched] + [{one, other}.union(*touched)]
    assert sorted(map(sorted, sets.sets())) == sorted(map(sorted, expected))


@pytest.mark.parametrize("values", [['a, "b"'], ["a", "é", "[]"], ["", "1"]])
def test_a_key_is_joined_from_its_columns_and_split_again(values: list[str]) -> None:
    assert keys.split(keys.joined(values), len(values)) == values
