"""Counting the tokens of an encoder that runs elsewhere: by its tokenizer, or by an estimate."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pg_semantic import errors
from pg_semantic.encoders import long_texts
from pg_semantic.encoders.text_splitting import Splitters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Letters in a row, single digits and marks, and blanks beyond the one that a token takes along.
_PIECE = re.compile(r"[^\W\d_]+|[\d_]|[^\w\s]|\s{2,}")
_BYTES_PER_TOKEN = 2
_SPECIAL_TOKENS = 2  # one at either end, as BERT has; others have fewer


class TokenizerTokenCounter:
    """Counts by the encoder's own tokenizer."""

    def __init__(self, tokenizer: "Tokenizer", *, prompt: str) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._splitters = Splitters(tokenizer, self.count_tokens)

    @classmethod
    def load(cls, place: str, *, prompt: str) -> "TokenizerTokenCounter":
        """Loads a ``tokenizer.json``, the one in a folder, or the one of a hub name."""
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise errors.MissingExtra(
                "Counting by a tokenizer needs an extra: pip install 'pg-semantic-index[remote]'."
            ) from error
        path = Path(place).expanduser()
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else Tokenizer.from_pretrained(place)
        except Exception as error:
            raise errors.EncoderError(
                f"Tokenizer {place!r} can not be loaded ({type(error).__name__}): "
                "give a folder, a tokenizer.json or a hub name."
            ) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, prompt=prompt)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As `base.Encoder.count_tokens`."""
        prompted = [self._prompt + text for text in texts]
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(prompted)]

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """As `base.Encoder.splitter`."""
        return self._splitters.make(max_tokens=max_tokens, overlap_tokens=overlap_tokens)


class EstimatingTokenCounter:
    """Estimates high: a token for every two bytes of letters, for every digit and for every mark.

    Tokens of prose have three to five bytes, of most other scripts two to three; digits and marks are often tokens of
    their own. Only random letters have more tokens than that.
    """

    def __init__(self, *, prompt: str) -> None:
        self._prompt = prompt

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As `base.Encoder.count_tokens`, rather more than fewer."""
        beside = _SPECIAL_TOKENS + _estimate(self._prompt)
        return [beside + _estimate(text) for text in texts]

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """As `base.Encoder.splitter`."""
        capacity = max_tokens - self.count_tokens([""])[0]
        return functools.partial(long_texts.cut, count=_estimate, max_tokens=capacity, overlap_tokens=overlap_tokens)


def _estimate(text: str) -> int:
    return sum(-(-len(piece.encode()) // _BYTES_PER_TOKEN) for piece in _PIECE.findall(text))
