"""Tokens by word, from a cache, are those of the tokenizer itself."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from pg_semantic.encoders import word_tokens
from pg_semantic.encoders.word_tokens import WordTokens

_PIECES = ["[UNK]", *"abcdefgé.,-[]", "tea", "ten", "##a", "##n", "##é", "leaf", "##ves", "[CLS]"]


def made(*, cleans: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(_PIECES)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, clean_text=cleans)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


PLAIN, UNCLEAN, WITH_SPECIAL = made(), made(cleans=False), made()
WITH_SPECIAL.add_special_tokens(["[CLS]"])
TOKENIZERS = [PLAIN, UNCLEAN, WITH_SPECIAL]

_WORDS = ["tea", "Ten", "leaves", "teas", "é", "e\u0301", "[CLS]", ".", "-", "\u4e2d", "x" * 70, "a" * 150]
_SPACES = [" ", "  ", "\n", "\t", "\r\n", "\xa0", "\u3000", "\x00", "\x1c", "\x85", "\u2028", "\u200b", "\ufffd"]
_texts = st.lists(st.sampled_from([*_WORDS, *_SPACES]), max_size=12).map("".join)


@given(st.lists(_texts, max_size=6))
@example(["tea\x1cten", "tea\xa0ten", "[CLS]tea", "te[CLS]a", "", " ", "tea  \n\tten"])
def test_they_are_the_tokens_of_the_tokenizer_whatever_separates_words(texts: list[str]) -> None:
    for tokenizer in TOKENIZERS:
        expected = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
        words = WordTokens(tokenizer)
        for _ in range(2):  # the second time from the cache
            assert [ids.tolist() for ids in words.encode(texts)] == expected


def test_the_cache_is_bounded_and_a_full_one_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_tokens, "_MOST_WORDS", 50)
    words = WordTokens(PLAIN)
    for number in range(40):
        text = " ".join(f"tea{number}{letter}" for letter in "abcdefg")
        assert words.encode([text])[0].tolist() == PLAIN.encode(text, add_special_tokens=False).ids
        assert len(words._known) <= 50 + 8


def test_threads_share_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_tokens, "_MOST_WORDS", 20)
    words = WordTokens(PLAIN)
    texts = [" ".join(f"ten{(number * place) % 61}" for place in range(30)) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: words.encode([text])[0].tolist(), texts))
    assert found == [encoding.ids for encoding in PLAIN.encode_batch(texts, add_special_tokens=False)]


def test_a_word_that_is_too_long_is_not_remembered() -> None:
    words = WordTokens(PLAIN)
    words.encode(["tea " + "a" * 65])
    assert words._known == {}


def test_tokenizers_whose_words_depend_on_their_neighbours_are_not_local() -> None:
    assert all(map(word_tokens.is_local, TOKENIZERS))
    greedy, spaces, other, outer = made(), made(), made(), made()
    outer.add_tokens([AddedToken(" tea")])
    greedy.add_tokens([AddedToken("tea leaves")])
    spaces.add_tokens([AddedToken("tea", lstrip=True)])
    other.pre_tokenizer = pre_tokenizers.Metaspace()
    assert not any(map(word_tokens.is_local, (greedy, spaces, other, outer)))
