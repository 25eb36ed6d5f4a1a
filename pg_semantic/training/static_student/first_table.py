"""The table of word vectors that training starts from: what the encoder says about each word on its own.

As in model2vec: the encoder's vector of each word, reduced to the student's dimensions by principal components, and
weighted by how rare the word is (smooth inverse frequency, Arora, Liang and Ma 2017).
"""

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders.base import Vectors

_SMOOTHING = 1e-3
_LEAST_LENGTH = 1e-12


def projection(vectors: Vectors, dimensions: int) -> Vectors:
    """Returns the map to fewer dimensions that changes dot products least: to the first principal directions.

    The vectors are not centered, because a student has no constant to add.

    Args:
        vectors: The stored vectors, shape (chunks, before).
        dimensions: How many dimensions to keep.

    Returns:
        Shape (before, dimensions), with orthonormal columns; the identity if all dimensions are kept.
    """
    before = vectors.shape[1]
    if dimensions >= before:
        return np.eye(before, dtype=np.float32)
    _, directions = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)  # ascending
    return np.ascontiguousarray(directions[:, : -dimensions - 1 : -1], np.float32)


def make(words: Vectors, counts: NDArray[np.int64]) -> Vectors:
    """Returns the first table.

    Args:
        words: The encoder's vector of each word, projected, shape (words, dimensions). The first one stands for
            unknown characters, and says nothing.
        counts: How often each word occurs in the chunks, shape (words,).
    """
    share = counts / max(1, counts.sum())
    weights = _SMOOTHING / (_SMOOTHING + share)
    weights[0] = 0
    first: Vectors = (unit(words) * weights[:, None]).astype(np.float32)
    return first


def unit(vectors: Vectors) -> Vectors:
    """Scales vectors to unit length."""
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(_LEAST_LENGTH)
    return scaled
