"""Splits texts at semantic boundaries: at paragraphs first, then sentences, then words. Counts with a tokenizer."""

import bisect
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pg_semantic.encoders import split_long_text, word_tokens
from pg_semantic.encoders.tokenization import Ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BLANK = {"", " ", "\n", "\t", "\r"}  # whitespace to every tokenizer; Python's own definition is wider


class Splitters:
    """Makes functions that split texts, for one tokenizer.

    Each window of a text is tokenized once. The length of a piece is the number of tokens that begin in it. This is
    several times as fast as tokenizing every candidate. It gives the same count unless a piece is tokenized differently
    on its own than within the text. A substring of the last window isn't tokenized again.

    Args:
        tokenizer: The tokenizer of an encoder.
        count: Counts tokens as the encoder reads them.
        remember: Called with a piece and its token ids, including special tokens, if the piece is known to have the
            same ids on its own.
    """

    def __init__(
        self,
        tokenizer: "Tokenizer",
        count: Callable[[Sequence[str]], list[int]],
        *,
        remember: Callable[[str, Ids], None] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._count = count
        self._special = _special(tokenizer) if remember and word_tokens.is_local(tokenizer) else None
        self._remember = remember
        self._last = threading.local()

    def make(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """See `chunking.TokenCounter.splitter`."""
        capacity = max_tokens - self._count([""])[0]

        def cut(text: str) -> list[str]:
            found: list[str] = []
            for window, pieces in split_long_text.by_window(
                text, lambda window: self._measured(window).count, max_tokens=capacity, overlap_tokens=overlap_tokens
            ):
                self._remember_ids(window, pieces)
                found += pieces
            return found

        return cut

    def _remember_ids(self, window: str, pieces: Sequence[str]) -> None:
        if self._remember and self._special:
            before, after = self._special
            for piece, ids in self._measured(window).ids(window, pieces):
                self._remember(piece, np.concatenate((before, ids, after)))

    def _measured(self, text: str) -> "_Measured":
        """Tokenizes a text, or reuses the last one if it contains this text."""
        last: _Measured | None = getattr(self._last, "text", None)
        if last is None or text not in last.text:
            last = self._last.text = _Measured(self._tokenizer, text)
        last.at = last.text.index(text)
        return last


class _Measured:
    """A tokenized text."""

    def __init__(self, tokenizer: "Tokenizer", text: str) -> None:
        self.text = text
        self.at = 0
        encoding = tokenizer.encode(text, add_special_tokens=False)
        self._ids = np.array(encoding.ids, np.int32)
        self._starts = [start for start, _ in encoding.offsets]

    def count(self, piece: str) -> int:
        """Counts the tokens of a piece; searches onward from the last piece, because a splitter moves forward."""
        at = self.text.find(piece, self.at)
        if at < 0:
            at = self.text.find(piece)
        self.at = max(at, 0)
        first, end = self._tokens(at, at + len(piece))
        return end - first

    def ids(self, text: str, pieces: Sequence[str]) -> Iterator[tuple[str, Ids]]:
        """Yields the ids of the pieces (given in order) that have whitespace or nothing on both sides."""
        at = self.text.index(text)
        for piece in pieces:
            at = self.text.index(piece, at)
            end = at + len(piece)
            if {self.text[at - 1 : at], self.text[end : end + 1]} <= _BLANK:
                first, last = self._tokens(at, end)
                yield piece, self._ids[first:last]

    def _tokens(self, start: int, end: int) -> tuple[int, int]:
        """Returns the range of the tokens that begin in a part of the text: the first, and the first after it."""
        return bisect.bisect_left(self._starts, start), bisect.bisect_left(self._starts, end)


def _special(tokenizer: "Tokenizer") -> tuple[Ids, Ids] | None:
    """Returns the special tokens before and after a text, or None if they cannot be distinguished from its own."""
    whole, bare = (tokenizer.encode("a", add_special_tokens=has).ids for has in (True, False))
    before = next((n for n in range(len(whole)) if bare and whole[n : n + len(bare)] == bare), None)
    if before is None:
        return None
    return np.array(whole[:before], np.int32), np.array(whole[before + len(bare) :], np.int32)
