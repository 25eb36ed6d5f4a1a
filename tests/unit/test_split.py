"""No query and no relevant row is on both sides of a split, and a held-out query stays held out."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.evaluation import Judgements, Split, components, normalized, query_hash
from pg_semantic.evaluation.split import divided

GRADED = st.dictionaries(st.integers(0, 30).map(str), st.integers(0, 2), min_size=1, max_size=4)
JUDGED = st.dictionaries(st.sampled_from([f"{case}{n}" for n in range(25) for case in "qQ"]), GRADED, max_size=30).map(
    Judgements
)
SHARES, SEEDS = st.floats(0, 1), st.integers(-5, 5)
SCIFACT = Path(__file__).parents[2] / "benchmarks" / "data" / "scifact"


def split(judged: Judgements, known: dict[bytes, bool], *, share: float, seed: int = 0) -> Split:
    """A split with a registry in a dictionary, which it updates."""
    hashes = {query: query_hash(query) for query in judged.queries}
    sides = components.assign(components.connected(judged, hashes), known, share=share, seed=seed)
    for query, side in sides.items():
        known.setdefault(query, side == "held_out")
    return divided(judged, {query: sides[hashes[query]] for query in judged.queries})


def relevant_rows(judged: Judgements) -> set[str]:
    return {key for query in judged.queries for key in judged.relevant(query)}


def hashes(judged: Judgements) -> set[bytes]:
    return {query_hash(query) for query in judged.queries}


def assert_separate(parts: Split, judged: Judgements) -> None:
    assert relevant_rows(parts.train) & relevant_rows(parts.held_out) == set()
    assert hashes(parts.train) & hashes(parts.held_out) == set()
    learned = {key for graded in parts.train.grades.values() for key in graded}
    assert learned & relevant_rows(parts.held_out) == set()
    assert parts.train.count + parts.held_out.count + parts.left_out.count + parts.removed == judged.count


@given(judged=JUDGED, share=SHARES, seed=SEEDS)
def test_no_query_and_no_relevant_row_is_on_both_sides(judged: Judgements, share: float, seed: int) -> None:
    parts = split(judged, {}, share=share, seed=seed)
    assert_separate(parts, judged)
    assert not parts.left_out


@given(rounds=st.lists(st.tuples(JUDGED, SHARES, SEEDS), min_size=2, max_size=5))
def test_more_judgements_never_move_a_query_and_never_connect_the_sides(
    rounds: list[tuple[Judgements, float, int]],
) -> None:
    known: dict[bytes, bool] = {}
    for judged, share, seed in rounds:
        before = dict(known)
        parts = split(judged, known, share=share, seed=seed)
        assert before.items() <= known.items()
        assert hashes(parts.held_out) == {query for query in hashes(judged) if known[query]}
        assert not any(known[query] for query in hashes(parts.train) | hashes(parts.left_out))
        assert hashes(parts.left_out) <= before.keys()
        assert_separate(parts, judged)


@given(judged=JUDGED, share=SHARES, seed=SEEDS)
def test_the_same_seed_gives_the_same_sides_in_any_order(judged: Judgements, share: float, seed: int) -> None:
    turned = Judgements({query: judged.grades[query] for query in reversed(judged.queries)})
    first, again = (split(one, {}, share=share, seed=seed) for one in (judged, turned))
    assert (first.train, first.held_out) == (again.train, again.held_out)


@given(judged=JUDGED, seed=SEEDS)
def test_all_or_nothing_can_be_held_out(judged: Judgements, seed: int) -> None:
    assert not split(judged, {}, share=0, seed=seed).held_out
    assert split(judged, {}, share=1, seed=seed).held_out == judged


@given(queries=st.sets(st.integers(), min_size=20), share=SHARES, seed=SEEDS)
def test_queries_without_common_rows_are_held_out_in_their_share(queries: set[int], share: float, seed: int) -> None:
    judged = Judgements({f"q{query}": {str(query): 1} for query in queries})
    assert len(split(judged, {}, share=share, seed=seed).held_out) == pytest.approx(share * len(queries), abs=0.51)


def test_seeds_hold_out_different_queries() -> None:
    judged = Judgements({f"q{query}": {str(query): 1} for query in range(100)})
    drawn = {split(judged, {}, share=0.3, seed=seed).held_out.queries for seed in range(10)}
    assert len(drawn) == 10


def test_queries_are_connected_over_other_queries_by_relevant_rows_only() -> None:
    judged = Judgements({"a": {"1": 1}, "b": {"1": 1, "2": 2}, "c": {"2": 1}, "d": {"1": 0, "3": 1}, "D": {"4": 1}})
    named = {query: query.encode() for query in judged.queries}
    found = components.connected(judged, named | {"D": b"d"})
    assert sorted(map(sorted, found)) == [[b"a", b"b", b"c"], [b"d"]]


def test_training_queries_that_become_connected_to_held_out_ones_are_left_out() -> None:
    known = {query_hash("held"): True, query_hash("trained"): False, query_hash("other"): False}
    judged = Judgements(
        {"held": {"1": 1}, "new": {"1": 1, "2": 1}, "trained": {"2": 1, "9": 0}, "other": {"3": 1, "1": 0, "9": 0}}
    )
    parts = split(judged, known, share=0)
    assert parts.held_out.queries == ("held", "new")
    assert parts.left_out == judged.only(["trained"])
    assert parts.train.grades == {"other": {"3": 1, "9": 0}}
    assert parts.removed == 1
    assert known[query_hash("new")] is True


def test_new_queries_join_the_side_that_they_are_connected_to() -> None:
    known = {query_hash("trained"): False}
    parts = split(Judgements({"trained": {"1": 1}, "new": {"1": 1}}), known, share=1)
    assert parts.train.queries == ("trained", "new")


def test_scifact_is_divided_without_a_leak() -> None:
    judged = Judgements.read(SCIFACT)
    parts = split(judged, {}, share=0.3)
    assert_separate(parts, judged)
    assert len(parts.held_out) == 90


@pytest.mark.parametrize(
    "other", ["CAFÉ  au lait", "cafe\u0301 au\nlait ", "\uff43af\u00e9\u00a0au lait", "\U0001d402afé au lait"]
)
def test_a_query_is_recognized_in_another_spelling(other: str) -> None:
    assert normalized(other) == "café au lait"
    assert query_hash(other) == hashlib.sha256("café au lait".encode()).digest()


@given(st.text())
def test_a_normalized_query_is_normal_whatever_its_case(query: str) -> None:
    assert normalized(normalized(query)) == normalized(query)
    assert normalized(query.casefold()) == normalized(query)


def test_other_words_and_accents_are_another_query() -> None:
    assert len({query_hash(query) for query in ("cafe", "café", "cafes", "ca fe")}) == 4
