from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic import errors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index import chunking
from pg_semantic.index.chunking import Chunking

RULER = HashedEncoder(8, max_tokens=32)

_words = st.text("abcdefg", min_size=1, max_size=6)
_breaks = st.sampled_from([" ", "  ", ". ", ", ", "\n", "\n\n"])
_bodies = st.lists(st.tuples(_words, _breaks), max_size=150).map(lambda pairs: "".join(map("".join, pairs)))
_titled = st.tuples(_words, st.lists(_words, min_size=20, max_size=150)).map(lambda t: f"{t[0]}\n\n{' '.join(t[1])}")
_texts = _bodies | _titled
_recipes = st.builds(Chunking, max_tokens=st.none() | st.integers(8, 48), overlap_tokens=st.integers(0, 7))


def contents(text: str, recipe: Chunking | None) -> list[str]:
    return [chunk.content for chunk in chunking.chunk([text], recipe, RULER)[0]]


@given(_texts | st.text(), _recipes)
def test_no_chunk_is_longer_than_the_recipe_or_the_encoder_allow(text: str, recipe: Chunking) -> None:
    limit = min(recipe.max_tokens or RULER.max_tokens, RULER.max_tokens)
    chunks = chunking.chunk([text], recipe, RULER)[0]
    assert all(chunk.token_count <= limit and not chunk.truncated for chunk in chunks)


@given(_texts | st.text(), _recipes)
def test_a_chunk_carries_its_own_count_of_tokens(text: str, recipe: Chunking) -> None:
    chunks = chunking.chunk([text], recipe, RULER)[0]
    assert [chunk.token_count for chunk in chunks] == RULER.count_tokens([chunk.content for chunk in chunks])


@given(_texts, st.integers(8, 48))
def test_without_overlap_every_word_is_kept_once_and_in_order(text: str, max_tokens: int) -> None:
    kept = [word for content in contents(text, Chunking(max_tokens=max_tokens)) for word in content.split()]
    assert kept == text.split()


@given(_texts, _recipes)
def test_with_overlap_no_word_is_lost(text: str, recipe: Chunking) -> None:
    kept = {word for content in contents(text, recipe) for word in content.split()}
    assert set(text.split()) <= kept  # an overlap may begin within a word


@given(_texts | st.text(), _recipes)
def test_every_chunk_is_a_passage_of_the_text_and_not_blank(text: str, recipe: Chunking) -> None:
    assert all(content.strip() and content in text for content in contents(text, recipe))


@given(st.lists(_texts, max_size=5), st.none() | _recipes)
def test_a_text_is_cut_the_same_whatever_texts_it_comes_with(texts: list[str], recipe: Chunking | None) -> None:
    together = chunking.chunk(texts, recipe, RULER)
    assert together == [chunking.chunk([text], recipe, RULER)[0] for text in texts]


@given(st.text(" \t\r\n\f\v"), st.none() | _recipes)
def test_a_blank_text_has_no_chunk(text: str, recipe: Chunking | None) -> None:
    assert chunking.chunk([text], recipe, RULER) == [[]]


@given(_texts.filter(str.strip))
def test_with_no_recipe_a_text_is_one_chunk_marked_truncated_when_too_long(text: str) -> None:
    (chunk,) = chunking.chunk([text], None, RULER)[0]
    assert chunk.content == text.strip()
    assert chunk.truncated == (chunk.token_count > RULER.max_tokens)


def test_a_text_that_fits_is_left_whole() -> None:
    assert contents("  A title.\n\nA body.  ", Chunking(max_tokens=8)) == ["A title.\n\nA body."]


def test_a_short_title_stays_with_what_follows_it() -> None:
    first, *_ = contents("Tea\n\n" + "water " * 60, Chunking(max_tokens=16))
    assert first.startswith("Tea\n\nwater")


@given(st.text("a \n", max_size=6), st.integers(0, 2000), st.text("ab. \n", max_size=900))
def test_a_run_of_blanks_breaks_nothing(head: str, blanks: int, rest: str) -> None:
    text = head + "\n" * blanks + rest
    assert "".join("".join(contents(text, Chunking(max_tokens=16))).split()) == "".join(text.split())


def test_overlap_repeats_the_end_of_a_chunk_at_the_start_of_the_next() -> None:
    numbers = [f"n{number}" for number in range(40)]
    chunks = contents(" ".join(numbers), Chunking(max_tokens=10, overlap_tokens=3))
    assert all(next_.split()[0] in before.split() for before, next_ in pairwise(chunks))


def test_overlap_repeats_the_end_of_a_chunk_that_begins_with_a_title() -> None:
    numbers = [f"n{number}" for number in range(40)]
    first, second, *_ = contents("Tea\n\n" + " ".join(numbers), Chunking(max_tokens=20, overlap_tokens=5))
    assert second.split()[0] in first.split()


@pytest.mark.parametrize("recipe", [Chunking(overlap_tokens=32), Chunking(max_tokens=64, overlap_tokens=40)])
def test_an_overlap_as_long_as_the_encoders_limit_is_refused_with_what_to_do(recipe: Chunking) -> None:
    with pytest.raises(errors.DeclarationError, match="increase max_tokens or reduce overlap_tokens"):
        contents("word " * 100, recipe)


@pytest.mark.parametrize(
    ("recipe", "advice"),
    [
        ({"max_tokens": 7}, "use 8 or more"),
        ({"overlap_tokens": -1}, "must be 0 or more"),
        ({"max_tokens": 8, "overlap_tokens": 8}, "less than max_tokens"),
    ],
)
def test_a_recipe_that_can_not_be_is_refused_with_what_to_do(recipe: dict[str, Any], advice: str) -> None:
    with pytest.raises(errors.DeclarationError, match=advice):
        Chunking(**recipe)
