"""Batches for in-batch losses: each example once per epoch, and no text that answers another query of its batch."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.training.encoder import separate_batches
from pg_semantic.training.encoder.examples import Example
from pg_semantic.training.encoder.separate_batches import BatchNeeds, SeparateBatches
from pg_semantic.training.passages import Passage

NAMES = st.frozensets(st.integers(0, 20).map(str), max_size=3)
NEEDS = st.lists(st.builds(BatchNeeds, st.integers(0, 12), NAMES, NAMES), min_size=1, max_size=80)
ALONE = st.lists(st.builds(BatchNeeds, st.integers(0, 12)), min_size=1, max_size=120)
SIZES = st.integers(2, 12)


def assert_separate(examples: list[BatchNeeds], batch: list[int]) -> None:
    some = [examples[number] for number in batch]
    assert len({one.component for one in some}) == len(some)
    for place, one in enumerate(some):
        assert all(one.negatives.isdisjoint(other.answers) for other in some[:place] + some[place + 1 :])


@given(NEEDS, SIZES, st.integers(0, 3))
def test_an_epoch_has_each_example_once_and_no_batch_has_two_that_conflict(
    examples: list[BatchNeeds], size: int, seed: int
) -> None:
    planned = SeparateBatches(examples, size=size, seed=seed)
    for number in range(3):
        batches = planned.epoch(number)
        assert len(batches) == len(planned)
        assert sorted(example for batch in batches for example in batch) == list(range(len(examples)))
        assert max(map(len, batches)) <= size
        for batch in batches:
            assert_separate(examples, batch)


@given(ALONE, SIZES)
def test_there_are_as_few_batches_as_components_allow_and_they_are_equally_full(
    examples: list[BatchNeeds], size: int
) -> None:
    largest = max(Counter(one.component for one in examples).values())
    sizes = list(map(len, SeparateBatches(examples, size=size, seed=0).epoch(1)))
    assert len(sizes) == max(-(-len(examples) // size), largest)
    assert max(sizes) - min(sizes) <= 1


def test_an_answer_that_is_a_negative_of_most_other_queries_needs_no_batch_of_its_own() -> None:
    popular = [BatchNeeds(number, answers=frozenset({f"popular {number}"})) for number in range(5)]
    others = [BatchNeeds(5 + n, negatives=frozenset({f"popular {n % 5}"})) for n in range(90)]
    for seed in range(20):
        batches = SeparateBatches([*others, *popular], size=10, seed=seed)
        assert len(batches) == 10
        for batch in batches.epoch(1):
            assert_separate([*others, *popular], batch)


def test_the_same_seed_gives_the_same_batches_and_each_epoch_has_others() -> None:
    examples = [BatchNeeds(number // 2) for number in range(100)]
    first, same, other = (SeparateBatches(examples, size=16, seed=seed) for seed in (0, 0, 1))
    assert [first.epoch(number) for number in range(3)] == [same.epoch(number) for number in range(3)]
    assert first.epoch(0) != other.epoch(0)
    assert [set(batch) for batch in first.epoch(0)] != [set(batch) for batch in first.epoch(1)]


def test_no_answer_of_a_query_is_in_a_batch_with_another_query_that_it_may_answer() -> None:
    """Two queries of one row, two rows of one query, two rows with the same text, and a negative that is an answer."""
    texts = {(str(row), 0): f"text {row if row != 9 else 8}" for row in range(12)}

    def example(query: str, row: int, *negatives: int) -> Example:
        return Example(query, (str(row), 0), tuple((str(one), 0) for one in negatives))

    examples = [
        example("a", 1),
        example("b", 1),
        example("b", 2),
        example("c", 3, 4),
        example("d", 4),
        example("e", 8),
        example("f", 9),
        example("g", 5),
    ]
    needed = separate_batches.needs(examples, texts)
    assert len({one.component for one in needed[:3]}) == 1
    assert needed[5].component == needed[6].component
    assert len({one.component for one in needed}) == 5
    for number in range(20):
        for batch in SeparateBatches(needed, size=8, seed=number).epoch(0):
            assert_separate(needed, batch)
            assert not {3, 4} <= set(batch)


def test_the_row_that_asks_is_connected_with_the_row_that_answers() -> None:
    texts: dict[Passage, str] = {("1", 0): "one", ("2", 0): "two", ("3", 0): "three"}
    examples = [Example("one", ("2", 0), row="1"), Example("how", ("1", 0)), Example("three", ("3", 0), row="3")]
    first, second, other = separate_batches.needs(examples, texts)
    assert first.component == second.component != other.component


def test_long_texts_are_not_copied_for_each_example() -> None:
    texts: dict[Passage, str] = {(str(number), 0): "word " * 1_000 + str(number // 2) for number in range(4)}
    examples = [Example(f"query {number}", (str(number), 0), (("0", 0),)) for number in range(4)]
    needed = separate_batches.needs(examples, texts)
    assert max(len(name) for one in needed for name in one.answers | one.negatives) < 20
    assert [one.component for one in needed] == [needed[0].component] * 2 + [needed[2].component] * 2
    assert needed[0].component != needed[2].component


@pytest.mark.parametrize("size", [4, 32])
def test_a_component_that_is_larger_than_an_epoch_has_batches_is_spread_over_more(size: int) -> None:
    examples = [BatchNeeds(0 if number < 40 else number) for number in range(100)]
    batches = SeparateBatches(examples, size=size, seed=0).epoch(0)
    assert len(batches) == 40
    assert Counter(map(len, batches)) == {2: 20, 3: 20}
