import itertools

import pytest

from tests.waiting import eventually


def test_the_first_true_answer_is_returned() -> None:
    answers = iter([[], [], [7]])
    assert eventually(lambda: next(answers), "an answer") == [7]


def test_a_wait_ends_at_its_deadline_and_says_for_what() -> None:
    with pytest.raises(AssertionError, match=r"Waited 0 seconds in vain for Godot\."):
        eventually(lambda: False, "Godot", seconds=0)


def test_a_wait_ends_as_soon_as_it_is_in_vain() -> None:
    looks = itertools.count(1)
    with pytest.raises(AssertionError, match="can't happen any more"):
        eventually(lambda: False, "Godot", unless=lambda: next(looks) == 3)
    assert next(looks) == 4
