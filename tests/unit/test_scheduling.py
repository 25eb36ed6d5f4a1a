from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.jobqueue import BACKFILL, EDIT, Claimable
from pg_semantic.worker.scheduling import Scheduler

_NUMBERS = range(1, 6)
_anything = st.builds(Claimable, st.sampled_from(_NUMBERS), st.sampled_from([EDIT, BACKFILL]))
_turns = st.lists(st.sets(_anything, min_size=1).map(list), max_size=60)


def edits(*numbers: int) -> list[Claimable]:
    return [Claimable(number, EDIT) for number in numbers]


def backfills(*numbers: int) -> list[Claimable]:
    return [Claimable(number, BACKFILL) for number in numbers]


def longest_gap(turns: list[int], *, rounds: int) -> int:
    """The most turns from one serving to the next, the beginning and the end included."""
    return max(later - before for before, later in pairwise([-1, *turns, rounds]))


@given(_turns)
def test_whoever_has_the_turn_has_jobs(turns: list[list[Claimable]]) -> None:
    rota = Scheduler()
    assert all(rota.pick(ready) in ready for ready in turns)


def test_edits_have_most_turns_while_backfill_has_its_share() -> None:
    rota = Scheduler()
    picked = [rota.pick(edits(1) + backfills(1)).priority for _ in range(100)]
    assert picked.count(EDIT) == 75
    assert picked[:3] == [EDIT, EDIT, EDIT]


@given(st.sets(st.sampled_from(_NUMBERS), min_size=1), st.sets(st.sampled_from(_NUMBERS), min_size=1), st.data())
def test_backfill_never_starves_however_many_edits_wait(
    edited: set[int], backfilled: set[int], data: st.DataObject
) -> None:
    rota, rounds = Scheduler(), 60
    for ready in data.draw(_turns):
        rota.pick(ready)
    picked = [rota.pick(edits(*edited) + backfills(*backfilled)) for _ in range(rounds)]
    for number in backfilled:
        served = [turn for turn, one in enumerate(picked) if one == Claimable(number, BACKFILL)]
        assert longest_gap(served, rounds=rounds) <= 4 * len(backfilled)


@given(st.sets(st.sampled_from(_NUMBERS), min_size=1), st.sampled_from([EDIT, BACKFILL]), st.data())
def test_no_generation_waits_longer_than_one_round_of_its_like(
    numbers: set[int], priority: int, data: st.DataObject
) -> None:
    rota, ready = Scheduler(), [Claimable(number, priority) for number in numbers]
    for before in data.draw(_turns):
        rota.pick(before)
    rounds = 3 * len(ready)
    picked = [rota.pick(data.draw(st.permutations(ready))) for _ in range(rounds)]
    for one in ready:
        assert longest_gap([turn for turn, served in enumerate(picked) if served == one], rounds=rounds) <= len(ready)


def test_the_one_served_longest_ago_has_the_turn() -> None:
    rota = Scheduler()
    for number in (1, 2, 3):
        assert rota.pick(edits(number)) == Claimable(number, EDIT)
    assert rota.pick(edits(3, 2)) == Claimable(2, EDIT)
    assert rota.pick(edits(3, 2, 1)) == Claimable(1, EDIT)


def test_a_generation_that_is_new_has_the_next_turn() -> None:
    rota = Scheduler()
    for _ in range(5):
        rota.pick(edits(1, 2))
    assert rota.pick(edits(1, 2, 3)) == Claimable(3, EDIT)


def test_backfill_has_every_turn_while_nothing_is_edited() -> None:
    rota = Scheduler()
    assert [rota.pick(backfills(1)) for _ in range(10)] == backfills(1) * 10
