"""Cutting a text where its meaning allows, at paragraphs before sentences before words, by a tokenizer's count."""

import bisect
import functools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from semantic_text_splitter import TextSplitter

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Splitters:
    """Makes functions that cut texts, for one tokenizer; ``count`` counts tokens as its encoder reads them.

    A text is tokenised once, and its pieces are measured by the tokens that begin in them: several times as fast as to
    tokenise each piece that is tried. A part of the last text is not tokenised again.
    """

    def __init__(self, tokenizer: "Tokenizer", count: Callable[[Sequence[str]], list[int]]) -> None:
        self.tokenizer = tokenizer
        self.count = count
        self._last = threading.local()

    def make(self, *, max_tokens: int, overlap_tokens: int) -> "TokenSplitter":
        """A function that cuts a text into pieces of at most ``max_tokens``, in order."""
        return TokenSplitter(self, max_tokens=max_tokens, overlap=overlap_tokens)

    def measure(self, text: str) -> Callable[[str], int]:
        """A function that counts the tokens of a piece of a text, which is the last text or a part of it as a rule."""
        last: _Measured | None = getattr(self._last, "text", None)
        if last is None or text not in last.text:
            last = self._last.text = _Measured(self.tokenizer, text)
        last.at = last.text.index(text)
        return last.count


class TokenSplitter:
    """Cuts texts into pieces of at most ``max_tokens``.

    Where a piece came out too long, because it is tokenised otherwise than as a part of the text, the text is cut once
    more by tokenising each piece that is tried.
    """

    def __init__(self, of: Splitters, *, max_tokens: int, overlap: int) -> None:
        self._of = of
        self._max_tokens = max_tokens
        self._capacity = max_tokens - of.count([""])[0]
        self._overlap = overlap

    def __call__(self, text: str) -> list[str]:
        """The pieces, in order."""
        quick = TextSplitter.from_callback(self._of.measure(text), self._capacity, overlap=self._overlap)
        pieces = quick.chunks(text)
        return pieces if max(self._of.count(pieces), default=0) <= self._max_tokens else self._exact.chunks(text)

    @functools.cached_property
    def _exact(self) -> TextSplitter:
        return TextSplitter.from_huggingface_tokenizer(self._of.tokenizer, self._capacity, overlap=self._overlap)


class _Measured:
    """A text of which the tokens are known."""

    def __init__(self, tokenizer: "Tokenizer", text: str) -> None:
        self.text = text
        self.at = 0
        self._starts = [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]

    def count(self, piece: str) -> int:
        """Tokens of a piece, which is looked for from where the last one was: a splitter goes forward."""
        at = self.text.find(piece, self.at)
        if at < 0:
            at = self.text.find(piece)
        self.at = max(at, 0)
        return bisect.bisect_left(self._starts, at + len(piece)) - bisect.bisect_left(self._starts, at)
