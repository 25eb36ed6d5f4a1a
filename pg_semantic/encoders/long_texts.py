"""Cutting a text of any length in time that grows with its length: window by window.

A splitter looks at all that follows when it seeks the end of a piece, so one call for a long text without sentences
takes time that grows with the square of its length, and a tokenizer needs many times the memory of its text. Where a
piece ends is decided by the text near it, so a window of a few pieces is enough.
"""

import re
from collections.abc import Callable, Iterator

from semantic_text_splitter import TextSplitter

_CHARACTERS_PER_TOKEN = 24  # a few pieces of prose, which has four or five, and one piece of what has long tokens
_SMALLEST = 4_096
_BLANKS = re.compile(r"\s+")

Count = Callable[[str], int]


def cut(text: str, count: Count, *, max_tokens: int, overlap_tokens: int) -> list[str]:
    """The pieces of a text, in reading order, each counted by itself."""
    found = by_window(text, lambda _: count, max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    return [piece for _, pieces in found for piece in pieces]


def by_window(
    text: str, counter: Callable[[str], Count], *, max_tokens: int, overlap_tokens: int
) -> Iterator[tuple[str, list[str]]]:
    """The windows of a text, each with the pieces that begin in it.

    Without overlap, the pieces are those that the whole text would be cut into. One is never longer than a window,
    however few tokens it has.

    Args:
        text: Any text.
        counter: Makes of a window the function that counts the tokens of its parts.
        max_tokens: The most that a piece is counted as.
        overlap_tokens: How much of the end of a piece begins the next.
    """
    width = max(_SMALLEST, max_tokens * _CHARACTERS_PER_TOKEN)
    start = 0
    while (start := _next_word(text, start)) < len(text):
        window = text[start : start + width]
        splitter = TextSplitter.from_callback(counter(window), max_tokens, overlap=overlap_tokens)
        found = splitter.chunk_indices(window)
        if start + width < len(text) and len(found) > 1:
            start += found.pop()[0]  # it may go on after the window: the next one begins with it
        else:
            start += width
        yield window, [piece for _, piece in found]


def _next_word(text: str, start: int) -> int:
    """Where the text goes on after blanks, of which a splitter would make pieces one by one, to throw them away."""
    blanks = _BLANKS.match(text, start)
    return blanks.end() if blanks else start
