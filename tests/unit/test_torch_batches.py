from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.encoders.torch import _batches

_counts = st.lists(st.integers(0, 600), max_size=80)
_limits = st.integers(1, 512)
_budgets = st.integers(1, 4096)


@given(_counts, _limits, _budgets)
def test_every_text_is_in_exactly_one_batch(counts: list[int], limit: int, budget: int) -> None:
    numbers = [number for batch in _batches(counts, limit=limit, budget=budget) for number in batch]
    assert sorted(numbers) == list(range(len(counts)))


@given(_counts, _limits, _budgets)
def test_a_batch_of_several_texts_stays_within_the_budget_when_padded(
    counts: list[int], limit: int, budget: int
) -> None:
    for batch in _batches(counts, limit=limit, budget=budget):
        width = max(min(limit, counts[number]) for number in batch)
        assert len(batch) == 1 or len(batch) * width <= budget


@given(_counts, _limits, _budgets)
def test_texts_of_like_length_come_together_longest_first(counts: list[int], limit: int, budget: int) -> None:
    order = [counts[number] for batch in _batches(counts, limit=limit, budget=budget) for number in batch]
    assert order == sorted(counts, reverse=True)


def test_a_batch_is_filled_before_the_next_is_begun() -> None:
    assert list(_batches([8, 2, 2, 2, 8], limit=512, budget=16)) == [[0, 4], [1, 2, 3]]
