"""Decides where a row's chunks go: stored chunks stay where they are, and new ones get ordinals in between.

Ordinals define the order of a row's chunks and have gaps. So a paragraph that is inserted into a long text doesn't move
the chunks after it; moving a chunk would mean another insert into the vector index.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from pg_semantic.index.chunking import TextChunk

STEP = 1000
_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """The part of a stored chunk that tells whether it is still right."""

    ordinal: int
    content_hash: bytes
    truncated: bool


def diff(
    chunks: Sequence[TextChunk], stored: Sequence[StoredChunk]
) -> tuple[tuple[tuple[int, TextChunk], ...], frozenset[int]]:
    """Compares the chunks of a text with the stored ones.

    Args:
        chunks: The chunks of the current text, in order.
        stored: The stored chunks, in order of their ordinals.

    Returns:
        The new chunks with their ordinals, and the ordinals of the stored chunks to keep.
    """
    if not stored:
        return tuple([(number * STEP, chunk) for number, chunk in enumerate(chunks)]), frozenset()
    before = [(known.content_hash, known.truncated) for known in stored]
    after = [(chunk.content_hash, chunk.truncated) for chunk in chunks]
    kept = {number: stored[match].ordinal for match, number in _matches(before, after)}
    ordinals = _ordinals(len(chunks), kept)
    if ordinals is None:  # a gap is too small: renumber
        ordinals = [number * STEP for number in range(len(chunks))]
        kept = {number: ordinal for number, ordinal in kept.items() if ordinals[number] == ordinal}
    new = tuple((ordinals[number], chunk) for number, chunk in enumerate(chunks) if number not in kept)
    return new, frozenset(kept.values())


def _matches(before: Sequence[object], after: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Yields the positions of equal elements, in order. Matches the common start and end first, usually most of it."""
    shorter = min(len(before), len(after))
    head = next((number for number in range(shorter) if before[number] != after[number]), shorter)
    rest = shorter - head
    tail = next((number for number in range(rest) if before[-1 - number] != after[-1 - number]), rest)
    yield from ((number, number) for number in range(head))
    middle = SequenceMatcher(None, before[head : len(before) - tail], after[head : len(after) - tail])
    for block in middle.get_matching_blocks():
        yield from ((head + block.a + step, head + block.b + step) for step in range(block.size))
    yield from ((len(before) - tail + number, len(after) - tail + number) for number in range(tail))


def _ordinals(count: int, kept: dict[int, int]) -> list[int] | None:
    """Returns the ordinals of all chunks; kept ones don't change. None if a gap is too small or a number too large."""
    ordinals: list[int] = []
    for number, ordinal in sorted(kept.items()):
        gap = number - len(ordinals)
        low = ordinals[-1] if ordinals else ordinal - STEP * (gap + 1)
        if ordinal - low <= gap:
            return None
        ordinals += [*_between(low, ordinal, gap), ordinal]
    first = ordinals[-1] + STEP if ordinals else 0
    ordinals += [first + STEP * step for step in range(count - len(ordinals))]
    return ordinals if all(abs(ordinal) <= _LARGEST for ordinal in ordinals) else None


def _between(low: int, high: int, count: int) -> Iterator[int]:
    """Yields evenly spaced ordinals between two others."""
    return (low + (high - low) * (step + 1) // (count + 1) for step in range(count))
