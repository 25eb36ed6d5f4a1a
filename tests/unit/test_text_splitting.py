import functools
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.encoders.piece_token_counts import Splitters
from pg_semantic.index import chunking
from pg_semantic.index.chunking import Chunking

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

_ODD = [
    "e\u0301",
    "\u0301",
    "\x00",
    "\x1c",
    "\x85",
    "\xa0",
    "\u2028",
    "\u3000",
    "\ufeff",
    "İ",
    "ﬁ",
    "漢",
    "ß",
    "##a",
    "-",
]
_odd_texts = st.lists(
    st.sampled_from([*_WORDS, *_ODD, "[SEP]", "[MASK]", " ", " ", " ", "\n", "\r\n", "\t", ". "]), max_size=120
).map("".join)


def _bert() -> Tokenizer:
    letters = [chr(code) for code in (*range(32, 127), 0xDF, 0x307, 0x6F22, 0xFB01)]
    words = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "tea", "##a", *letters, *(f"##{letter}" for letter in letters)]
    made: Any = Tokenizer(models.WordPiece({word: number for number, word in enumerate(dict.fromkeys(words))}))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    made.add_special_tokens(["[SEP]", "[MASK]"])
    tokenizer: Tokenizer = made
    return tokenizer


BERT = _bert()


def _remembered(tokenizer: Tokenizer, text: str, *, most: int, overlap: int = 0) -> tuple[list[str], dict[str, Any]]:
    """The pieces of a text, and the token ids of those that had not to be tokenised by themselves."""
    found: dict[str, Any] = {}
    splitters = Splitters(tokenizer, functools.partial(_count, tokenizer), remember=found.__setitem__)
    cut = splitters.make(max_tokens=most, overlap_tokens=overlap)
    return cut(text), found


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


@given(_odd_texts, st.integers(4, 40), st.booleans())
def test_what_is_remembered_of_a_piece_is_what_it_is_tokenised_as(text: str, most: int, overlaps: bool) -> None:
    _, found = _remembered(BERT, text, most=most, overlap=most // 4 if overlaps else 0)
    assert {piece: ids.tolist() for piece, ids in found.items()} == {piece: BERT.encode(piece).ids for piece in found}


def test_prose_is_tokenised_once() -> None:
    pieces, found = _remembered(BERT, "Coffee, or tea. A longer word; [MASK]! " * 20, most=30)
    assert len(pieces) > 5
    assert found.keys() == set(pieces)


def test_nothing_is_remembered_where_a_piece_may_be_tokenised_otherwise_than_in_its_text() -> None:
    blank_before = _bert()
    blank_before.add_tokens([AddedToken("<mask>", lstrip=True)])
    for tokenizer in (BY_WORDS, MARKED, blank_before):
        assert _remembered(tokenizer, "tea tea. " * 20, most=9)[1] == {}
