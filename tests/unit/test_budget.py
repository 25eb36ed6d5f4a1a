import itertools

from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.encoders.budget import Budget

_counts = st.lists(st.integers(0, 600), max_size=80)
_budgets = st.integers(1, 4096)


def _batches(counts: list[int], *, budget: int) -> list[list[int]]:
    return list(Budget(budget).batches(counts, range(len(counts))))


@given(_counts, _budgets)
def test_every_text_is_in_exactly_one_batch(counts: list[int], budget: int) -> None:
    numbers = itertools.chain.from_iterable(_batches(counts, budget=budget))
    assert sorted(numbers) == list(range(len(counts)))


@given(_counts, _budgets)
def test_a_batch_of_several_texts_stays_within_the_budget_when_padded(counts: list[int], budget: int) -> None:
    for batch in _batches(counts, budget=budget):
        width = max(counts[number] for number in batch)
        assert len(batch) == 1 or len(batch) * width <= budget


@given(_counts, _budgets)
def test_texts_of_like_length_come_together_longest_first(counts: list[int], budget: int) -> None:
    order = [counts[number] for batch in _batches(counts, budget=budget) for number in batch]
    assert order == sorted(counts, reverse=True)


def test_a_batch_is_filled_before_the_next_is_begun() -> None:
    assert _batches([8, 2, 2, 2, 8], budget=16) == [[0, 4], [1, 2, 3]]


def test_only_the_numbers_that_are_wanted_are_in_the_batches() -> None:
    assert list(Budget(16).batches([8, 2, 2, 2, 8], [4, 1])) == [[4, 1]]


def test_after_memory_ended_batches_are_half_as_large_as_what_was_too_much() -> None:
    budget = Budget(1000)
    budget.shrink(600)
    assert budget.tokens == 300
    assert budget.is_tuned


def test_a_probe_keeps_to_what_it_learnt_of_memory() -> None:
    """The budget after memory ended at 4,096 tokens is also the one that a probe begins with."""
    budget = Budget(None)
    budget.tune(lambda size: budget.shrink(size) if size == 4096 else None, [512, 4096])
    assert budget.tokens == 2048
