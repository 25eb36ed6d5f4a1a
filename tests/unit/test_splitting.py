from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer, models, pre_tokenizers

from pg_semantic.encoders.splitting import Splitters, TokenSplitter

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


def _splitter(tokenizer: Tokenizer, max_tokens: int, overlap: int = 0) -> TokenSplitter:
    def count(texts: Sequence[str]) -> list[int]:
        return [2 + len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]

    return Splitters(tokenizer, count).make(max_tokens=max_tokens, overlap_tokens=overlap)


@given(_texts, st.integers(4, 40), st.booleans())
def test_a_text_is_cut_as_if_each_piece_were_tokenised(text: str, max_tokens: int, overlaps: bool) -> None:
    overlap = max_tokens // 4 if overlaps else 0
    exact = TextSplitter.from_huggingface_tokenizer(BY_WORDS, max_tokens - 2, overlap=overlap)
    assert _splitter(BY_WORDS, max_tokens, overlap)(text) == exact.chunks(text)


@given(st.sampled_from([BY_WORDS, MARKED]), _texts, st.integers(6, 40))
def test_no_piece_is_longer_than_it_may_be(tokenizer: Tokenizer, text: str, max_tokens: int) -> None:
    splitter = _splitter(tokenizer, max_tokens)
    pieces = splitter(text)
    assert all(count <= max_tokens for count in splitter._of.count(pieces))
    assert "".join("".join(pieces).split()) == "".join(text.split())
