"""Cutting a text where its meaning allows, at paragraphs before sentences before words, by a tokenizer's count."""

import bisect
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from semantic_text_splitter import TextSplitter

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Splitters:
    """Makes functions that cut texts, for one tokenizer; ``count`` counts tokens as its encoder reads them.

    A text is tokenised once and its pieces are measured by the tokens that begin in them: several times as fast as to
    tokenise each piece that is tried, and the same but where a piece is tokenised otherwise than as a part of the text.
    A part of the last text is not tokenised again.
    """

    def __init__(self, tokenizer: "Tokenizer", count: Callable[[Sequence[str]], list[int]]) -> None:
        self._tokenizer = tokenizer
        self._count = count
        self._last = threading.local()

    def make(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """As `chunking.Ruler.splitter`."""
        capacity = max_tokens - self._count([""])[0]

        def cut(text: str) -> list[str]:
            return TextSplitter.from_callback(self._measure(text), capacity, overlap=overlap_tokens).chunks(text)

        return cut

    def _measure(self, text: str) -> Callable[[str], int]:
        """A function that counts the tokens of a piece of a text, which is the last text or a part of it as a rule."""
        last: _Measured | None = getattr(self._last, "text", None)
        if last is None or text not in last.text:
            last = self._last.text = _Measured(self._tokenizer, text)
        last.at = last.text.index(text)
        return last.count


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
