"""Cutting a row's text into chunks that fit an encoder; no database, no encoder of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pg_semantic import errors


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


class Ruler(Protocol):
    """What chunking needs to know of an encoder: how it counts tokens and where it may cut."""

    @property
    def max_tokens(self) -> int:
        """The longest text that the encoder reads whole, special tokens and document prompt included."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens that the encoder reads for each text, special tokens and document prompt included."""
        ...

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """A function that cuts a text into pieces of at most ``max_tokens``, counted as above."""
        ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a row's text: exactly what is encoded and what is shown as a passage."""

    content: str
    token_count: int
    truncated: bool


def chunk(texts: Sequence[str], recipe: Chunking | None, ruler: Ruler) -> list[list[Chunk]]:
    """The chunks of each text, in reading order; a blank text has none.

    With no recipe a text is one chunk, marked truncated when the encoder can not read all of it.
    """
    stripped = [text.strip() for text in texts]
    counts = ruler.count_tokens(stripped)
    limit = min(ruler.max_tokens, (recipe and recipe.max_tokens) or ruler.max_tokens)
    cut = None if recipe is None else ruler.splitter(max_tokens=limit, overlap_tokens=recipe.overlap_tokens)
    return [
        _chunk_one(text, count, limit=limit, cut=cut, ruler=ruler) for text, count in zip(stripped, counts, strict=True)
    ]


def _chunk_one(
    text: str, count: int, *, limit: int, cut: Callable[[str], list[str]] | None, ruler: Ruler
) -> list[Chunk]:
    if not text:
        return []
    if count <= limit or cut is None:
        return [Chunk(text, count, truncated=count > limit)]
    pieces = cut(text)
    counts = ruler.count_tokens(pieces)
    return [Chunk(piece, n, truncated=n > ruler.max_tokens) for piece, n in zip(pieces, counts, strict=True)]
