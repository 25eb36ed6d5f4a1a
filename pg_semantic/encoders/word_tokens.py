"""Tokenizes texts word by word, from a cache: several times as fast as a tokenizer, with the same token ids.

Only for tokenizers that give text between whitespace the same tokens in any context; see `is_local`. It is for tables
of word vectors, where tokenizing takes most of the time.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST_WORDS = 500_000
_LONGEST = 64  # characters; a text with a longer word, such as one without spaces, gains nothing from a cache


class WordTokens:
    """Token ids of texts, by word. Thread-safe.

    Args:
        tokenizer: A tokenizer for which `is_local` is true. It must not add special tokens, truncate or pad.
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...]] = {}

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Returns the token ids of each text."""
        divided = [_divided(text) for text in texts]
        known = self._learned(divided)
        return [
            np.array(self._ids([text])[0], np.int32)
            if words is None
            else np.fromiter(itertools.chain.from_iterable(map(known.__getitem__, words)), np.int32)
            for text, words in zip(texts, divided, strict=True)
        ]

    def _learned(self, divided: Sequence[list[str] | None]) -> dict[str, tuple[int, ...]]:
        """Returns the ids by word, after tokenizing the words that are new."""
        if len(self._known) > _MOST_WORDS:
            self._known = {}
        known = self._known  # another thread may begin a new one
        new = [word for word in set().union(*filter(None, divided)) if word not in known]
        known.update(zip(new, self._ids(new), strict=True))
        return known

    def _ids(self, texts: list[str]) -> list[tuple[int, ...]]:
        return [tuple(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _divided(text: str) -> list[str] | None:
    """Divides a text at what every tokenizer regards as whitespace. None if a word is too long for the cache."""
    words = text.replace("\n", " ").replace("\t", " ").replace("\r", " ").split(" ")
    return words if max(map(len, words)) <= _LONGEST else None


def is_local(tokenizer: "Tokenizer") -> bool:
    """Returns whether text between whitespace has the same tokens in any context, as with BERT's tokenizers.

    That isn't so with added tokens that include whitespace, which belongs to no piece.
    """
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    if not (isinstance(tokenizer.normalizer, BertNormalizer) and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)):
        return False
    added = tokenizer.get_added_tokens_decoder().values()
    return not any(token.lstrip or token.rstrip or token.content.split() != [token.content] for token in added)
