"""Splits a row's text into chunks that fit an encoder. Needs no database and loads no encoder."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from pg_semantic import errors
from pg_semantic.index import declared_types, hashing

_CHARACTERS_OF_A_LONG_TOKEN = 8
_CHARACTERS_NEAR_A_HEAD = 24  # per token of a chunk: how much text is searched for a short heading
_COUNTED_TOGETHER = 256  # pieces, because a tokenizer needs many times the memory of its text

Split: TypeAlias = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a row's text is split into chunks.

    Args:
        max_tokens: Maximum length of a chunk, in the encoder's own tokens, including special tokens. None means the
            encoder's limit.
        overlap_tokens: How many tokens from the end of a chunk are repeated at the start of the next.

    Raises:
        errors.DeclarationError: ``max_tokens`` is less than 8, or ``overlap_tokens`` is not less than ``max_tokens``.
    """

    max_tokens: int | None = None
    overlap_tokens: int = 0

    def __post_init__(self) -> None:
        declared_types.require(self, "Chunking")
        if self.max_tokens is not None and self.max_tokens < 8:  # noqa: PLR2004 - room for a word or two
            raise errors.DeclarationError(f"Chunking(max_tokens={self.max_tokens}) is too small: use 8 or more.")
        if not 0 <= self.overlap_tokens < (self.max_tokens or self.overlap_tokens + 1):
            raise errors.DeclarationError(
                f"Chunking(overlap_tokens={self.overlap_tokens}) must be 0 or more and less than max_tokens."
            )


class TokenCounter(Protocol):
    """The part of an encoder that chunking needs: how it counts tokens and where it can split a text."""

    @property
    def max_tokens(self) -> int:
        """The longest text that the encoder reads in full, in tokens, including special tokens and document prompt."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Returns the number of tokens of each text, including special tokens and document prompt."""
        ...

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Split:
        """Returns a function that splits a text into pieces.

        A piece has up to ``max_tokens`` tokens, but may have a few more when it is counted on its own.
        """
        ...


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A piece of a row's text: exactly what is encoded, and what is shown as a passage."""

    content: str
    token_count: int
    truncated: bool
    content_hash: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "content_hash", hashing.content_hash(self.content))


def chunk(texts: Sequence[str], recipe: Chunking | None, counter: TokenCounter) -> list[list[TextChunk]]:
    """Splits texts into chunks.

    Args:
        texts: The texts of rows.
        recipe: How to split. With None, each text is one chunk, marked as truncated if the encoder cannot read all
            of it.
        counter: The encoder that counts tokens.

    Returns:
        The chunks of each text, in reading order. A blank text has none.

    Raises:
        errors.DeclarationError: A text has to be split, and special tokens, prompt and overlap fill a whole chunk.
    """
    stripped = [text.strip() for text in texts]
    if recipe is None:
        whole = zip(stripped, counter.count_tokens(stripped), strict=True)
        return [[TextChunk(text, n, truncated=n > counter.max_tokens)] if text else [] for text, n in whole]
    limit = _limit(recipe, counter)
    near = [text for text in stripped if text and len(text) <= limit * _CHARACTERS_OF_A_LONG_TOKEN]
    fitting = {text: n for text, n in zip(near, counter.count_tokens(near), strict=True) if n <= limit}
    cutter = functools.cache(lambda: _Cutter(recipe, counter))
    return [
        [TextChunk(text, fitting[text], truncated=False)] if text in fitting else cutter().cut(text) if text else []
        for text in stripped
    ]


def require_room(recipe: Chunking | None, counter: TokenCounter) -> None:
    """Checks that chunks have room for new text.

    Raises:
        errors.DeclarationError: Special tokens, prompt and overlap fill a whole chunk.
    """
    if recipe is None:
        return
    limit, overhead = _limit(recipe, counter), counter.count_tokens([""])[0]
    if recipe.overlap_tokens >= limit - overhead:
        raise errors.DeclarationError(
            f"Chunks of at most {limit} tokens, including {overhead} for special tokens and the prompt, have no room "
            f"for new text after an overlap of {recipe.overlap_tokens}: increase max_tokens or reduce overlap_tokens."
        )


def _limit(recipe: Chunking, counter: TokenCounter) -> int:
    return min(counter.max_tokens, recipe.max_tokens or counter.max_tokens)


class _Cutter:
    """Splits texts that are longer than a chunk."""

    def __init__(self, recipe: Chunking, counter: TokenCounter) -> None:
        require_room(recipe, counter)
        self.limit = _limit(recipe, counter)
        self._counter = counter
        self._overhead = counter.count_tokens([""])[0]
        self._overlap = recipe.overlap_tokens
        self._split, self._split_beside_head = (functools.cache(make) for make in (self._splitter, self._beside_head))

    def cut(self, text: str) -> list[TextChunk]:
        """Splits a text into chunks within the limit."""
        pieces = self._pieces(text, self.limit)
        return [chunk for piece, n in self._counted(pieces) for chunk in self._fitting(piece, n, most=self.limit)]

    def _fitting(self, piece: str, token_count: int, *, most: int) -> Iterator[TextChunk]:
        """Yields a piece as a chunk, or splits it again if it has more tokens on its own than within its text."""
        shorter = max(self._overhead + self._overlap + 1, most - max(0, token_count - self.limit))
        if shorter >= most:
            yield TextChunk(piece, token_count, truncated=token_count > self._counter.max_tokens)
            return
        for part, n in self._counted(self._split(shorter)(piece)):
            yield from self._fitting(part, n, most=shorter)

    def _splitter(self, most: int) -> Split:
        overlap = min(self._overlap, most - self._overhead - 1)
        return self._counter.splitter(max_tokens=most, overlap_tokens=overlap)

    def _beside_head(self, most: int) -> Split:
        return self._splitter(self._overhead + max(1, (most - self._overhead) * 3 // 4 - 4))

    def _pieces(self, text: str, most: int) -> list[str]:
        near = text[: self.limit * _CHARACTERS_NEAR_A_HEAD]
        found = self._split(most)(near)
        return self._with_head(text, found[0], most=most) or (found if near == text else self._split(most)(text))

    def _counted(self, pieces: Sequence[str]) -> Iterator[tuple[str, int]]:
        for start in range(0, len(pieces), _COUNTED_TOGETHER):
            some = pieces[start : start + _COUNTED_TOGETHER]
            yield from zip(some, self._counter.count_tokens(some), strict=True)

    def _with_head(self, text: str, head: str, *, most: int) -> list[str] | None:
        """Keeps a short heading, such as a title, with the text after it. Returns None if the text has none.

        A splitter that respects paragraphs leaves a title alone whenever the next paragraph fills a chunk, and the
        vector of two words is close to everything. Only nearby text decides where a chunk ends, so looking at the
        beginning of the rest is enough.
        """
        rest = text[len(head) :]
        if not rest or self._counter.count_tokens([head])[0] * 4 >= self.limit:
            return None
        beside, *others = self._split_beside_head(most)(rest[: self.limit * _CHARACTERS_OF_A_LONG_TOKEN]) or [""]
        if not others:
            return None
        first = text[: text.index(beside, len(head)) + len(beside)]
        if self._counter.count_tokens([first])[0] > self.limit:
            return None
        next_start = text.index(others[0], len(head)) if self._overlap else len(first)
        return [first, *self._split(most)(text[next_start:])]
