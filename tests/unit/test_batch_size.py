import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.worker.batch_size import BatchSizer
from pg_semantic.worker.read_changed_texts import MOST_CHARACTERS

FEWEST_CHARACTERS = 1_000
BATCH_SECONDS = 0.2

_seconds = st.floats(1e-6, 1e6)
_lessons = st.lists(st.tuples(st.integers(0, 10 * MOST_CHARACTERS), st.just(0.0) | _seconds), max_size=30)


def after(batches: int, *, speed: float) -> BatchSizer:
    """A pace after so many full batches of an encoder that reads so many characters a second."""
    pace = BatchSizer(BATCH_SECONDS)
    for _ in range(batches):
        pace.learn_speed(pace.characters, pace.characters / speed)
    return pace


@given(st.floats(FEWEST_CHARACTERS / BATCH_SECONDS, MOST_CHARACTERS / BATCH_SECONDS))
def test_a_constant_speed_is_met_within_a_few_batches(speed: float) -> None:
    assert after(8, speed=speed).characters / speed == pytest.approx(BATCH_SECONDS, rel=0.01)


@given(_lessons, st.floats(FEWEST_CHARACTERS / BATCH_SECONDS, MOST_CHARACTERS / BATCH_SECONDS))
def test_whatever_went_before_a_constant_speed_is_met(lessons: list[tuple[int, float]], speed: float) -> None:
    pace = BatchSizer(BATCH_SECONDS)
    for characters, seconds in lessons:
        pace.learn_speed(characters, seconds)
    for _ in range(6):
        pace.learn_speed(pace.characters, pace.characters / speed)
    assert pace.characters / speed == pytest.approx(BATCH_SECONDS, rel=0.01)


@given(_lessons)
def test_a_batch_is_never_beyond_its_bounds(lessons: list[tuple[int, float]]) -> None:
    pace = BatchSizer(BATCH_SECONDS)
    for characters, seconds in lessons:
        pace.learn_speed(characters, seconds)
        assert FEWEST_CHARACTERS <= pace.characters <= MOST_CHARACTERS


@given(_lessons)
def test_one_lucky_batch_makes_the_next_four_times_as_large_at_most(lessons: list[tuple[int, float]]) -> None:
    pace = BatchSizer(BATCH_SECONDS)
    for characters, seconds in lessons:
        before = pace.characters
        pace.learn_speed(characters, seconds)
        assert pace.characters <= 4 * (before + 0.5) + 0.5  # both are rounded


@given(st.integers(0, FEWEST_CHARACTERS - 1), st.floats(0, BATCH_SECONDS))
def test_a_small_batch_teaches_nothing(characters: int, seconds: float) -> None:
    pace = after(3, speed=50_000)
    learnt = pace.characters
    pace.learn_speed(characters, seconds)
    assert pace.characters == learnt


def test_a_small_batch_that_took_too_long_does_teach() -> None:
    pace = after(3, speed=50_000)
    pace.learn_speed(10, 60.0)
    assert pace.characters == FEWEST_CHARACTERS


def test_a_batch_whose_vectors_were_all_known_teaches_nothing() -> None:
    pace = after(3, speed=50_000)
    learnt = pace.characters
    pace.learn_speed(0, 0.0)
    assert pace.characters == learnt


@given(
    st.integers(1, 10_000), st.lists(st.tuples(st.integers(0, 500), st.integers(0, 10 * MOST_CHARACTERS)), max_size=30)
)
def test_a_claim_is_of_one_row_at_least_and_of_the_setting_at_most(most: int, lengths: list[tuple[int, int]]) -> None:
    pace = BatchSizer(BATCH_SECONDS)
    for rows, characters in lengths:
        pace.learn_length(rows, characters)
        assert 1 <= pace.rows(pace.characters, most=most) <= most


@given(st.integers(1, 100_000))
def test_rows_of_one_length_come_to_fill_a_batch(length: int) -> None:
    pace = after(8, speed=500_000)
    for _ in range(50):
        pace.learn_length(10, 10 * length)
    assert pace.rows(pace.characters, most=10_000) == pytest.approx(
        min(10_000, max(1, pace.characters / length)), abs=1, rel=0.05
    )


def test_a_claim_without_rows_teaches_no_length() -> None:
    pace = BatchSizer(BATCH_SECONDS)
    before = pace.characters_per_row
    pace.learn_length(0, 0)
    assert pace.characters_per_row == before


@given(st.floats(10_000, 500_000))
def test_edits_beside_a_batch_take_about_a_fifth_of_a_second(speed: float) -> None:
    pace = after(10, speed=speed)
    assert 0.15 <= pace.edit_characters / speed <= 0.25
