import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.encoders.local import token_budget as budgets
from pg_semantic.encoders.local.token_budget import TokenBudget

_counts = st.lists(st.integers(0, 600), max_size=80)
_budgets = st.integers(1, 4096)


def _batches(counts: list[int], *, budget: int) -> list[list[int]]:
    return list(TokenBudget(budget).batches(counts, range(len(counts))))


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
def test_padding_never_costs_more_than_another_batch_would(counts: list[int], budget: int) -> None:
    for batch in _batches(counts, budget=budget):
        width = max(1, *(counts[number] for number in batch))
        assert sum(width - counts[number] for number in batch[1:]) <= budget / 32


@given(_counts, _budgets)
def test_texts_of_like_length_come_together_longest_first(counts: list[int], budget: int) -> None:
    order = [counts[number] for batch in _batches(counts, budget=budget) for number in batch]
    assert order == sorted(counts, reverse=True)


def test_a_batch_is_filled_before_the_next_is_begun() -> None:
    assert _batches([8, 2, 2, 2, 8], budget=16) == [[0, 4], [1, 2, 3]]


def test_only_the_numbers_that_are_wanted_are_in_the_batches() -> None:
    assert list(TokenBudget(16).batches([8, 2, 2, 2, 8], [4, 0])) == [[4, 0]]


def test_after_memory_ended_batches_are_half_as_large_as_what_was_too_much() -> None:
    budget = TokenBudget(1000)
    budget.shrink(600)
    assert budget.tokens == 300
    assert budget.is_tuned


class Machine:
    """Encodes at a speed for each size, in tokens a second, by a clock of its own."""

    def __init__(self, speeds: dict[int, float]) -> None:
        self.budget = TokenBudget(None)
        self.probed: list[tuple[int, int]] = []
        self._speeds = speeds
        self._now = 0.0

    def encode(self, size: int) -> None:
        self.probed.append((size, self.budget.tokens))
        self._now += size / self._speeds[size]

    def perf_counter(self) -> float:
        return self._now

    monotonic = perf_counter


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({512: 10_000, 1024: 14_000, 2048: 15_000, 4096: 14_900}, 2048),
        ({512: 10_000, 1024: 14_900, 2048: 15_000, 4096: 15_000}, 1024),
        ({512: 10_000, 1024: 14_000, 2048: 15_000, 4096: 20_000}, 4096),
    ],
)
def test_the_smallest_size_that_is_about_as_fast_as_any_is_chosen(
    monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float], chosen: int
) -> None:
    machine = Machine(speeds)
    monkeypatch.setattr(budgets, "time", machine)
    machine.budget.tune(machine.encode, list(speeds))
    assert machine.budget.tokens == chosen
    assert all(size == in_force for size, in_force in machine.probed)


def test_a_slow_encoder_is_not_probed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({512: 100, 1024: 100, 2048: 100})
    monkeypatch.setattr(budgets, "time", machine)
    machine.budget.tune(machine.encode, [512, 1024, 2048])
    assert machine.probed == [(512, 512)]
    assert machine.budget.tokens == 512


def test_a_probe_ends_when_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({512: 10_000, 1024: 20_000, 2048: 40_000})
    monkeypatch.setattr(budgets, "time", machine)

    def encode(size: int) -> None:
        machine.encode(size)
        if size > 512:
            machine.budget.shrink(size)

    machine.budget.tune(encode, [512, 1024, 2048])
    assert [size for size, _ in machine.probed] == [512, 1024]
    assert machine.budget.tokens == 512


def test_memory_that_ends_once_more_never_gives_a_larger_budget() -> None:
    budget = TokenBudget(4096)
    budget.shrink(2048)
    budget.shrink(4096)
    assert budget.tokens == 1024
