"""Short texts from chunks, which stand in for queries: random sentences."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ENDS = re.compile(r"\n+|(?<=[.?!;])\s+")
_SHORTEST, _LONGEST = 20, 300  # characters


@dataclass(frozen=True, slots=True)
class Spans:
    """Short texts.

    Attributes:
        texts: The texts.
        chunks: The number of the chunk that each one comes from, shape (spans,).
    """

    texts: tuple[str, ...]
    chunks: NDArray[np.int64]


def choose(texts: Sequence[str], numbers: NDArray[np.int64], *, count: int, seed: int) -> Spans:
    """Chooses random sentences, about the same number from each chunk.

    Args:
        texts: The texts of all chunks.
        numbers: The chunks to choose from.
        count: How many sentences to choose at most.
        seed: The same seed chooses the same sentences.
    """
    random = np.random.default_rng(seed)
    ranked: list[tuple[int, float, str, int]] = []
    for number in numbers.tolist():
        known = sentences(texts[number])
        order = random.permutation(len(known))
        ranked += [(place, random.random(), known[at], number) for place, at in enumerate(order)]
    ranked.sort(key=lambda one: one[:2])  # first one sentence of each chunk, then another
    chosen = ranked[:count]
    return Spans(tuple(text for _, _, text, _ in chosen), np.array([number for *_, number in chosen], np.int64))


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text, or its beginning if it has none of a suitable length."""
    known = [sentence.strip() for sentence in _ENDS.split(text)]
    return [one[:_LONGEST] for one in known if len(one) >= _SHORTEST] or [text[:_LONGEST]]
