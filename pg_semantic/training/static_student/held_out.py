"""`HeldOut`: measures how near a student comes to the encoder, on rows that it doesn't learn from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders.base import Vectors
from pg_semantic.training.static_student import student
from pg_semantic.training.static_student.bags import Bags

DEPTH = 10
_BLOCK = 256  # sentences that are compared at once


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Sentences of held-out rows, and the chunks that the encoder finds for them.

    Attributes:
        sentences: The tokens of the sentences.
        own: The row of each sentence, shape (sentences,).
        chunks: The tokens of all chunks.
        rows: The row of each chunk, shape (chunks,).
        expected: What `nearest` returns for the encoder's vectors.
    """

    sentences: Bags
    own: NDArray[np.int64]
    chunks: Bags
    rows: NDArray[np.int64]
    expected: NDArray[np.int64]

    def overlap(self, table: Vectors) -> float:
        """Returns the mean share of the encoder's nearest chunks that are also among the student's, 0 to 1."""
        asked, every = student.vectors(table, self.sentences), student.vectors(table, self.chunks)
        found = nearest(asked, every, own=self.own, rows=self.rows)
        both = (found[:, :, None] == self.expected[:, None, :]).any(axis=1)
        return float(both.mean())


def nearest(
    sentences: Vectors, chunks: Vectors, *, own: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns the nearest chunks of each sentence, without those of its own row.

    Args:
        sentences: Vectors of the sentences, shape (sentences, dimensions).
        chunks: Vectors of the chunks, of unit length, shape (chunks, dimensions).
        own: The row of each sentence, shape (sentences,).
        rows: The row of each chunk, shape (chunks,).

    Returns:
        The numbers of the chunks, in no order, shape (sentences, 10), or fewer if there are fewer chunks.
    """
    depth = min(DEPTH, len(chunks))
    found = np.empty((len(sentences), depth), np.int64)
    for start in range(0, len(sentences), _BLOCK):
        block = slice(start, start + _BLOCK)
        scores = sentences[block] @ chunks.T
        scores[own[block, None] == rows[None, :]] = -np.inf
        found[block] = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
    return found
