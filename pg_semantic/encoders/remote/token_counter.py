"""Counts tokens for an encoder that runs on a server: with its tokenizer, or by an estimate."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pg_semantic import errors
from pg_semantic.encoders import split_long_text
from pg_semantic.encoders.piece_token_counts import Splitters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Runs of letters, single digits and marks, and runs of whitespace (a single space belongs to the next token).
_PIECE = re.compile(r"[^\W\d_]+|[\d_]|[^\w\s]|\s{2,}")
_BYTES_PER_TOKEN = 2
_SPECIAL_TOKENS = 2  # one at each end, as in BERT; other encoders have fewer


class TokenizerTokenCounter:
    """Counts with the encoder's own tokenizer.

    Args:
        tokenizer: A tokenizer that neither truncates nor pads.
        prompt: The document prompt, whose tokens count too.
    """

    def __init__(self, tokenizer: "Tokenizer", *, prompt: str) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._splitters = Splitters(tokenizer, self.count_tokens)

    @classmethod
    def load(cls, place: str, *, prompt: str) -> "TokenizerTokenCounter":
        """Loads a tokenizer.

        Args:
            place: A ``tokenizer.json``, a folder that contains one, or a hub name.
            prompt: The document prompt, whose tokens count too.

        Raises:
            errors.EncoderError: The tokenizer cannot be loaded.
            errors.MissingExtra: The extra ``remote`` isn't installed.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise errors.MissingExtra(
                "Counting tokens with a tokenizer needs an extra: pip install 'pg-semantic-index[remote]'."
            ) from error
        path = Path(place).expanduser()
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else Tokenizer.from_pretrained(place)
        except Exception as error:
            raise errors.EncoderError(
                f"Tokenizer {place!r} cannot be loaded ({type(error).__name__}): "
                "use a folder, a tokenizer.json or a hub name."
            ) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, prompt=prompt)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `base.Encoder.count_tokens`."""
        prompted = [self._prompt + text for text in texts]
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(prompted)]

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """See `base.Encoder.splitter`."""
        return self._splitters.make(max_tokens=max_tokens, overlap_tokens=overlap_tokens)


class EstimatingTokenCounter:
    """Overestimates: one token for every two bytes of letters, for every digit and for every mark.

    A token has three to five bytes in prose, and two to three in most other scripts. Digits and marks are often tokens
    of their own. Only random letters have more tokens than this estimate.

    Args:
        prompt: The document prompt, whose tokens count too.
    """

    def __init__(self, *, prompt: str) -> None:
        self._prompt = prompt

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `base.Encoder.count_tokens`. Estimates on the high side."""
        beside = _SPECIAL_TOKENS + _estimate(self._prompt)
        return [beside + _estimate(text) for text in texts]

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """See `base.Encoder.splitter`."""
        capacity = max_tokens - self.count_tokens([""])[0]
        return functools.partial(
            split_long_text.cut, count=_estimate, max_tokens=capacity, overlap_tokens=overlap_tokens
        )


def _estimate(text: str) -> int:
    return sum(-(-len(piece.encode()) // _BYTES_PER_TOKEN) for piece in _PIECE.findall(text))
