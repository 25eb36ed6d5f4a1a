from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer, models, pre_tokenizers

from pg_semantic import chunking
from pg_semantic.chunking import Chunking
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.encoders.splitting import Splitters

_WORDS = ["tea", "coffee", "a", "longer", "word", ".", ",", "[UNK]"]
_texts = st.lists(st.sampled_from([*_WORDS, ". ", "\n", "\n\n", " "]), max_size=200).map(" ".join).map(str.strip)


def _tokenizer(words: Sequence[str], before: pre_tokenizers.PreTokenizer) -> Tokenizer:
    made: Any = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    made.pre_tokenizer = before
    tokenizer: Tokenizer = made
    return tokenizer


BY_WORDS = _tokenizer(_WORDS, pre_tokenizers.Whitespace())

# Reads a piece by itself as one token more than as a part of the text, as SentencePiece may.
MARKED = _tokenizer(
    [*_WORDS, "▁"],
    pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first", split=False), pre_tokenizers.Split("▁", "isolated")]
    ),
)


def _count(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    return [2 + len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]


class Reads(HashedEncoder):
    """Counts and cuts by a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(8, max_tokens=64)
        self._tokenizer = tokenizer

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return _count(self._tokenizer, texts)

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        return Splitters(self._tokenizer, self.count_tokens).make(max_tokens=max_tokens, overlap_tokens=overlap_tokens)


@given(_texts, st.integers(4, 40), st.booleans())
def test_a_text_is_cut_as_if_each_piece_were_tokenised(text: str, max_tokens: int, overlaps: bool) -> None:
    overlap = max_tokens // 4 if overlaps else 0
    exact = TextSplitter.from_huggingface_tokenizer(BY_WORDS, max_tokens - 2, overlap=overlap)
    cut = Reads(BY_WORDS).splitter(max_tokens=max_tokens, overlap_tokens=overlap)
    assert cut(text) == exact.chunks(text)


@given(st.sampled_from([BY_WORDS, MARKED]), _texts, st.integers(8, 40))
@example(MARKED, "tea tea. " * 20, 9)
def test_no_chunk_is_too_long_where_a_piece_has_more_tokens_than_the_same_part_of_a_text(
    tokenizer: Tokenizer, text: str, most: int
) -> None:
    [chunks] = chunking.chunk([text], Chunking(max_tokens=most), Reads(tokenizer))
    assert all(chunk.token_count <= most for chunk in chunks)
    assert "".join("".join(chunk.content for chunk in chunks).split()) == "".join(text.split())


def test_a_piece_by_itself_may_have_more_tokens_than_it_was_cut_for() -> None:
    cut = Reads(MARKED).splitter(max_tokens=9, overlap_tokens=0)
    assert max(_count(MARKED, cut("tea tea. " * 20))) == 10
