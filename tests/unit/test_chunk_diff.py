from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.index import hashing
from pg_semantic.index.chunking import TextChunk
from pg_semantic.worker import chunk_diff
from pg_semantic.worker.chunk_diff import STEP, StoredChunk

_chunks = st.builds(
    TextChunk,
    content=st.sampled_from([*"abcdefgh"]) | st.text(max_size=3),
    token_count=st.just(1),
    truncated=st.booleans(),
)
_sequences = st.lists(_chunks, max_size=30)


def named(*contents: str) -> list[TextChunk]:
    return [TextChunk(content, 1, truncated=False) for content in contents]


def distinct(count: int) -> list[TextChunk]:
    return named(*(f"chunk {number}" for number in range(count)))


def as_stored(chunks: Sequence[TextChunk], ordinals: Sequence[int]) -> list[StoredChunk]:
    return [
        StoredChunk(ordinal, hashing.content_hash(chunk.content), chunk.truncated)
        for ordinal, chunk in zip(ordinals, chunks, strict=True)
    ]


def written(chunks: Sequence[TextChunk], stored: Sequence[StoredChunk] = ()) -> list[StoredChunk]:
    """What is stored once the chunks were placed: the kept and the new, in order, whatever chunks they were to be."""
    new, kept = chunk_diff.diff(chunks, stored)
    copied = [StoredChunk(ordinal, hashing.content_hash(chunk.content), chunk.truncated) for ordinal, chunk in new]
    there = [one for one in stored if one.ordinal in kept]
    assert len(there) == len(kept)
    return sorted([*there, *copied], key=lambda one: one.ordinal)


def new_contents(chunks: Sequence[TextChunk], stored: Sequence[StoredChunk]) -> list[str]:
    """The chunks that are not there yet."""
    return [chunk.content for _, chunk in chunk_diff.diff(chunks, stored)[0]]


@st.composite
def _stored_sequences(draw: st.DrawFn) -> list[StoredChunk]:
    """Any chunks at any growing ordinals, close together or far apart."""
    chunks = draw(_sequences)
    steps = draw(st.lists(st.integers(1, 3) | st.integers(1, 2 * STEP), min_size=len(chunks), max_size=len(chunks)))
    ordinal, ordinals = draw(st.integers(-5 * STEP, 5 * STEP)), []
    for step in steps:
        ordinal += step
        ordinals.append(ordinal)
    return as_stored(chunks, ordinals)


@given(_stored_sequences(), _sequences)
def test_what_is_written_reads_as_the_new_chunks_in_their_order(
    stored: list[StoredChunk], chunks: list[TextChunk]
) -> None:
    after = written(chunks, stored)
    assert all(before.ordinal < later.ordinal for before, later in pairwise(after))
    assert [(one.content_hash, one.truncated) for one in after] == [
        (hashing.content_hash(chunk.content), chunk.truncated) for chunk in chunks
    ]


@given(_stored_sequences(), _sequences)
def test_new_chunks_come_in_reading_order(stored: list[StoredChunk], chunks: list[TextChunk]) -> None:
    ordinals = [ordinal for ordinal, _ in chunk_diff.diff(chunks, stored)[0]]
    assert ordinals == sorted(set(ordinals))


@given(_sequences, st.data())
def test_a_row_that_is_edited_again_and_again_stays_in_order(chunks: list[TextChunk], data: st.DataObject) -> None:
    stored = written(chunks)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(chunks)))
        chunks = [*chunks[:at], *data.draw(st.lists(_chunks, max_size=3)), *chunks[at + data.draw(st.integers(0, 3)) :]]
        stored = written(chunks, stored)
        assert [one.content_hash for one in stored] == [hashing.content_hash(chunk.content) for chunk in chunks]


@given(_stored_sequences())
def test_what_is_unchanged_is_kept_whole(stored: list[StoredChunk]) -> None:
    contents = {hashing.content_hash(chunk): chunk for chunk in "abcdefgh"}
    stored = [one for one in stored if one.content_hash in contents]
    chunks = [TextChunk(contents[one.content_hash], 1, truncated=one.truncated) for one in stored]
    new, kept = chunk_diff.diff(chunks, stored)
    assert new == ()
    assert kept == {one.ordinal for one in stored}


def test_a_first_writing_leaves_gaps() -> None:
    assert [one.ordinal for one in written(distinct(4))] == [0, STEP, 2 * STEP, 3 * STEP]


def test_a_blank_text_keeps_no_chunk() -> None:
    assert chunk_diff.diff([], written(distinct(3))) == ((), frozenset())


@given(st.integers(0, 400), st.integers(1, 3))
def test_an_insertion_into_a_long_text_moves_no_other_chunk(at: int, count: int) -> None:
    before = distinct(400)
    stored = written(before)
    inserted = named(*(f"new {number}" for number in range(count)))
    new, kept = chunk_diff.diff([*before[:at], *inserted, *before[at:]], stored)
    assert [chunk for _, chunk in new] == inserted
    assert kept == {one.ordinal for one in stored}


@given(st.integers(0, 399), st.integers(1, 3))
def test_a_deletion_from_a_long_text_moves_no_other_chunk(at: int, count: int) -> None:
    before = distinct(400)
    stored = written(before)
    new, kept = chunk_diff.diff(before[:at] + before[at + count :], stored)
    assert new == ()
    assert kept == {one.ordinal for one in stored[:at] + stored[at + count :]}


@given(st.integers(0, 399))
def test_a_replacement_in_a_long_text_moves_no_other_chunk(at: int) -> None:
    before = distinct(400)
    stored = written(before)
    after = [*before[:at], *named("new"), *before[at + 1 :]]
    new, kept = chunk_diff.diff(after, stored)
    assert [chunk.content for _, chunk in new] == ["new"]
    assert kept == {one.ordinal for one in stored if one.ordinal != at * STEP}


def test_a_chunk_whose_truncation_differs_is_written_anew() -> None:
    [stored] = written([TextChunk("long", 1, truncated=True)])
    new, kept = chunk_diff.diff([TextChunk("long", 1, truncated=False)], [stored])
    assert [chunk.truncated for _, chunk in new] == [False]
    assert kept == frozenset()


def test_insertions_at_one_place_halve_the_room_until_the_row_is_numbered_anew() -> None:
    chunks = distinct(3)
    stored = written(chunks)
    renumbered = 0
    for number in range(40):
        chunks = [chunks[0], *named(f"new {number}"), *chunks[1:]]
        before, stored = stored, written(chunks, stored)
        assert [one.content_hash for one in stored] == [hashing.content_hash(chunk.content) for chunk in chunks]
        if not {one.ordinal for one in before} <= {one.ordinal for one in stored}:
            renumbered += 1
            assert [one.ordinal for one in stored] == [STEP * step for step in range(len(chunks))]
    assert 1 <= renumbered <= 8  # every tenth insertion or so


@pytest.mark.parametrize("at", ["start", "end"])
def test_a_text_that_grows_at_an_end_leaves_gaps_and_is_never_numbered_anew(at: str) -> None:
    chunks = distinct(3)
    stored = written(chunks)
    for number in range(50):
        more = named(f"new {number}")
        chunks = [*more, *chunks] if at == "start" else [*chunks, *more]
        before, stored = stored, written(chunks, stored)
        assert set(before) < set(stored)
        assert {later.ordinal - one.ordinal for one, later in pairwise(stored)} == {STEP}


def test_a_thousand_equal_chunks_are_kept_and_one_more_is_one_new() -> None:
    stored = written(named(*["same"] * 1000))
    assert new_contents(named(*["same"] * 1000), stored) == []
    assert new_contents(named(*["same"] * 1001), stored) == ["same"]
    assert new_contents(named(*["same"] * 999), stored) == []
    assert new_contents(named(*["same"] * 1000, "other"), stored) == ["other"]


def test_a_chunk_put_before_a_thousand_equal_ones_moves_none_of_them() -> None:
    stored = written(named(*["same"] * 1000))
    assert new_contents(named("other", *["same"] * 1000), stored) == ["other"]


def test_a_text_that_loses_its_beginning_as_its_end_grows_keeps_to_numbers_that_postgres_has() -> None:
    largest = 2**31 - 1
    chunks = distinct(3)
    stored = as_stored(chunks[:2], [largest - STEP, largest])
    assert all(abs(one.ordinal) <= largest for one in written(chunks[1:], stored))
