"""Cutting a row's text into chunks that fit an encoder; no database, no encoder of its own."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from pg_semantic import errors
from pg_semantic.index import hashing

_CHARACTERS_OF_A_LONG_TOKEN = 8
_CHARACTERS_NEAR_A_HEAD = 24  # for each token of a chunk; as much is looked at to find a short beginning
_COUNTED_TOGETHER = 256  # pieces: a tokenizer needs many times the memory of its text

Split: TypeAlias = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Chunking:
    """How long texts are cut into chunks.

    ``max_tokens`` is the longest chunk in the encoder's own tokens, special tokens included; None means the
    encoder's limit. ``overlap_tokens`` repeats the end of a chunk at the start of the next.
    """

    max_tokens: int | None = None
    overlap_tokens: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 8:  # noqa: PLR2004 - room for a word or two
            raise errors.DeclarationError(f"Chunking(max_tokens={self.max_tokens}) is too small; give 8 or more.")
        if not 0 <= self.overlap_tokens < (self.max_tokens or self.overlap_tokens + 1):
            raise errors.DeclarationError(
                f"Chunking(overlap_tokens={self.overlap_tokens}) must be 0 or more and less than max_tokens."
            )


class TokenCounter(Protocol):
    """What chunking needs to know of an encoder: how it counts tokens and where it may cut."""

    @property
    def max_tokens(self) -> int:
        """The longest text that the encoder reads whole, special tokens and document prompt included."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens that the encoder reads for each text, special tokens and document prompt included."""
        ...

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Split:
        """A function that cuts a text into pieces of ``max_tokens``; counted by itself, one may have a few more."""
        ...


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A piece of a row's text: exactly what is encoded and what is shown as a passage."""

    content: str
    token_count: int
    truncated: bool
    content_hash: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "content_hash", hashing.content_hash(self.content))


def chunk(texts: Sequence[str], recipe: Chunking | None, ruler: TokenCounter) -> list[list[TextChunk]]:
    """The chunks of each text, in reading order; a blank text has none.

    With no recipe a text is one chunk, marked truncated when the encoder can not read all of it.
    """
    stripped = [text.strip() for text in texts]
    if recipe is None:
        whole = zip(stripped, ruler.count_tokens(stripped), strict=True)
        return [[TextChunk(text, n, truncated=n > ruler.max_tokens)] if text else [] for text, n in whole]
    limit = _limit(recipe, ruler)
    near = [text for text in stripped if text and len(text) <= limit * _CHARACTERS_OF_A_LONG_TOKEN]
    fitting = {text: n for text, n in zip(near, ruler.count_tokens(near), strict=True) if n <= limit}
    cutter = functools.cache(lambda: _Cutter(recipe, ruler))
    return [
        [TextChunk(text, fitting[text], truncated=False)] if text in fitting else cutter().cut(text) if text else []
        for text in stripped
    ]


def require_room(recipe: Chunking | None, ruler: TokenCounter) -> None:
    """Raises `errors.DeclarationError` when special tokens, prompt and overlap leave no room in a chunk."""
    if recipe is None:
        return
    limit, overhead = _limit(recipe, ruler), ruler.count_tokens([""])[0]
    if recipe.overlap_tokens >= limit - overhead:
        raise errors.DeclarationError(
            f"Chunks of at most {limit} tokens, {overhead} of them special tokens and prompt, have no room for an "
            f"overlap of {recipe.overlap_tokens} and text of their own: declare a larger max_tokens or less overlap."
        )


def _limit(recipe: Chunking, ruler: TokenCounter) -> int:
    return min(ruler.max_tokens, recipe.max_tokens or ruler.max_tokens)


class _Cutter:
    """Cuts texts that are longer than a chunk."""

    def __init__(self, recipe: Chunking, ruler: TokenCounter) -> None:
        require_room(recipe, ruler)
        self.limit = _limit(recipe, ruler)
        self._ruler = ruler
        self._overhead = ruler.count_tokens([""])[0]
        self._overlap = recipe.overlap_tokens
        self._split, self._split_beside_head = (functools.cache(make) for make in (self._splitter, self._beside_head))

    def cut(self, text: str) -> list[TextChunk]:
        """Chunks within the limit."""
        pieces = self._pieces(text, self.limit)
        return [chunk for piece, n in self._counted(pieces) for chunk in self._fitting(piece, n, most=self.limit)]

    def _fitting(self, piece: str, token_count: int, *, most: int) -> Iterator[TextChunk]:
        """A piece as a chunk, or cut shorter if it has more tokens by itself than as a part of its text."""
        shorter = max(self._overhead + self._overlap + 1, most - max(0, token_count - self.limit))
        if shorter >= most:
            yield TextChunk(piece, token_count, truncated=token_count > self._ruler.max_tokens)
            return
        for part, n in self._counted(self._split(shorter)(piece)):
            yield from self._fitting(part, n, most=shorter)

    def _splitter(self, most: int) -> Split:
        overlap = min(self._overlap, most - self._overhead - 1)
        return self._ruler.splitter(max_tokens=most, overlap_tokens=overlap)

    def _beside_head(self, most: int) -> Split:
        return self._splitter(self._overhead + max(1, (most - self._overhead) * 3 // 4 - 4))

    def _pieces(self, text: str, most: int) -> list[str]:
        near = text[: self.limit * _CHARACTERS_NEAR_A_HEAD]
        found = self._split(most)(near)
        return self._with_head(text, found[0], most=most) or (found if near == text else self._split(most)(text))

    def _counted(self, pieces: Sequence[str]) -> Iterator[tuple[str, int]]:
        for start in range(0, len(pieces), _COUNTED_TOGETHER):
            some = pieces[start : start + _COUNTED_TOGETHER]
            yield from zip(some, self._ruler.count_tokens(some), strict=True)

    def _with_head(self, text: str, head: str, *, most: int) -> list[str] | None:
        """Keeps a short beginning, as a title is, together with what follows it; None for a text that has none.

        A splitter that respects paragraphs leaves a title alone whenever the paragraph after it fills a chunk, and
        the vector of two words comes near to everything. Where a chunk ends is decided by the text near it, so that
        the beginning of what follows is enough to look at.
        """
        rest = text[len(head) :]
        if not rest or self._ruler.count_tokens([head])[0] * 4 >= self.limit:
            return None
        beside, *others = self._split_beside_head(most)(rest[: self.limit * _CHARACTERS_OF_A_LONG_TOKEN]) or [""]
        if not others:
            return None
        first = text[: text.index(beside, len(head)) + len(beside)]
        if self._ruler.count_tokens([first])[0] > self.limit:
            return None
        next_start = text.index(others[0], len(head)) if self._overlap else len(first)
        return [first, *self._split(most)(text[next_start:])]
