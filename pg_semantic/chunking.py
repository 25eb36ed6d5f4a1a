"""Cutting a row's text into chunks that fit an encoder; no database, no encoder of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pg_semantic import errors, hashing

_CHARACTERS_OF_A_LONG_TOKEN = 8


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
    content_hash: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "content_hash", hashing.content_hash(self.content))


def chunk(texts: Sequence[str], recipe: Chunking | None, ruler: Ruler) -> list[list[Chunk]]:
    """The chunks of each text, in reading order; a blank text has none.

    With no recipe a text is one chunk, marked truncated when the encoder can not read all of it.
    """
    stripped = [text.strip() for text in texts]
    counts = ruler.count_tokens(stripped)
    if recipe is None:
        whole = zip(stripped, counts, strict=True)
        return [[Chunk(text, n, truncated=n > ruler.max_tokens)] if text else [] for text, n in whole]
    limit = _limit(recipe, ruler)
    cutter = _Cutter(recipe, ruler) if max(counts, default=0) > limit else None
    return [
        [] if not text else cutter.cut(text) if cutter and count > limit else [Chunk(text, count, truncated=False)]
        for text, count in zip(stripped, counts, strict=True)
    ]


def require_room(recipe: Chunking | None, ruler: Ruler) -> None:
    """Raises `errors.DeclarationError` when special tokens, prompt and overlap leave no room in a chunk."""
    if recipe is None:
        return
    limit, overhead = _limit(recipe, ruler), ruler.count_tokens([""])[0]
    if recipe.overlap_tokens >= limit - overhead:
        raise errors.DeclarationError(
            f"Chunks of at most {limit} tokens, {overhead} of them special tokens and prompt, have no room for an "
            f"overlap of {recipe.overlap_tokens} and text of their own: declare a larger max_tokens or less overlap."
        )


def _limit(recipe: Chunking, ruler: Ruler) -> int:
    return min(ruler.max_tokens, recipe.max_tokens or ruler.max_tokens)


class _Cutter:
    """Cuts texts that are longer than a chunk."""

    def __init__(self, recipe: Chunking, ruler: Ruler) -> None:
        require_room(recipe, ruler)
        self.limit = _limit(recipe, ruler)
        self._ruler = ruler
        overhead = ruler.count_tokens([""])[0]
        beside = overhead + max(1, (self.limit - overhead) * 3 // 4 - 4)
        overlap = recipe.overlap_tokens
        self._overlaps = overlap > 0
        self._split = ruler.splitter(max_tokens=self.limit, overlap_tokens=overlap)
        self._split_beside_head = ruler.splitter(max_tokens=beside, overlap_tokens=min(overlap, beside - overhead - 1))

    def cut(self, text: str) -> list[Chunk]:
        pieces = self._with_head(text) or self._split(text)
        counts = self._ruler.count_tokens(pieces)
        return [Chunk(piece, n, truncated=n > self._ruler.max_tokens) for piece, n in zip(pieces, counts, strict=True)]

    def _with_head(self, text: str) -> list[str] | None:
        """Keeps a short beginning, as a title is, together with what follows it; None for a text that has none.

        A splitter that respects paragraphs leaves a title alone whenever the paragraph after it fills a chunk, and
        the vector of two words comes near to everything. Where a chunk ends is decided by the text near it, so that
        the beginning of a long text is enough to look at.
        """
        window = self.limit * _CHARACTERS_OF_A_LONG_TOKEN
        head = self._split(text[:window])[0]
        rest = text[len(head) :]
        if not rest or self._ruler.count_tokens([head])[0] * 4 >= self.limit:
            return None
        beside, *others = self._split_beside_head(rest[:window]) or [""]
        if not others:
            return None
        first = text[: text.index(beside, len(head)) + len(beside)]
        if self._ruler.count_tokens([first])[0] > self.limit:
            return None
        next_start = text.index(others[0], len(head)) if self._overlaps else len(first)
        return [first, *self._split(text[next_start:])]
