"""Splits texts of any length in linear time, window by window.

To find the end of a piece, a splitter looks at all the text after it. On a long text without sentences, a single call
takes quadratic time, and a tokenizer needs many times the memory of its text. But only the nearby text decides where a
piece ends, so a window of a few pieces is enough.
"""

import re
from collections.abc import Callable, Iterator

from semantic_text_splitter import TextSplitter

_CHARACTERS_PER_TOKEN = 24  # prose has four or five: a window fits several pieces, and at least one of long tokens
_SMALLEST = 4_096
_BLANKS = re.compile(r"\s+")

Count = Callable[[str], int]


def cut(text: str, count: Count, *, max_tokens: int, overlap_tokens: int) -> list[str]:
    """Splits a text and counts the tokens of each piece on its own.

    Args:
        text: Any text.
        count: Counts the tokens of a piece.
        max_tokens: Maximum length of a piece.
        overlap_tokens: How many tokens from the end of a piece the next one repeats.

    Returns:
        The pieces, in reading order.
    """
    found = by_window(text, lambda _: count, max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    return [piece for _, pieces in found for piece in pieces]


def by_window(
    text: str, counter: Callable[[str], Count], *, max_tokens: int, overlap_tokens: int
) -> Iterator[tuple[str, list[str]]]:
    """Yields the windows of a text, each with the pieces that begin in it.

    Without overlap, the pieces are the same as if the whole text were split at once. A piece is never longer than a
    window, even if it has few tokens.

    Args:
        text: Any text.
        counter: Takes a window and returns the function that counts the tokens of its parts.
        max_tokens: Maximum length of a piece.
        overlap_tokens: How many tokens from the end of a piece the next one repeats.
    """
    width = max(_SMALLEST, max_tokens * _CHARACTERS_PER_TOKEN)
    start = 0
    while (start := _next_word(text, start)) < len(text):
        window = text[start : start + width]
        splitter = TextSplitter.from_callback(counter(window), max_tokens, overlap=overlap_tokens)
        found = splitter.chunk_indices(window)
        if start + width < len(text) and len(found) > 1:
            start += found.pop()[0]  # the last piece may continue after the window, so the next window starts with it
        else:
            start += width
        yield window, [piece for _, piece in found]


def _next_word(text: str, start: int) -> int:
    """Skips whitespace, which a splitter would turn into pieces one by one and then discard."""
    blanks = _BLANKS.match(text, start)
    return blanks.end() if blanks else start
