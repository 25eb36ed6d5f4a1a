"""Ranks a sample of rows by meaning, in memory and exactly, with its texts divided in different ways."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.index import chunking
from pg_semantic.index.chunking import Chunking

_TOGETHER = 256  # texts that are encoded at once
_QUERIES = 64  # ranked at once, to bound memory
_LEAST_LENGTH = 1e-12


@dataclass(frozen=True, slots=True)
class DividedRows:
    """The chunks of a sample's rows.

    Attributes:
        keys: The keys of the rows that have a chunk, as text.
        chunks: The texts of each row's chunks.
    """

    keys: tuple[str, ...]
    chunks: tuple[tuple[str, ...], ...]

    @property
    def count(self) -> int:
        """The number of chunks."""
        return sum(map(len, self.chunks))

    def ranked(self, vectors: Mapping[str, Vectors], queries: Vectors, *, limit: int) -> list[list[str]]:
        """Returns for each query the keys of the best rows, best first: by the cosine with their best chunk.

        Rows with equal cosines keep their order in the sample.

        Args:
            vectors: The vector of each chunk's text, of unit length.
            queries: The vectors of the queries, shape (queries, dimensions), of unit length.
            limit: How many keys to return for a query.
        """
        counts = np.array([len(texts) for texts in self.chunks])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        of_chunks = np.stack([vectors[text] for texts in self.chunks for text in texts])
        found = []
        for first in range(0, len(queries), _QUERIES):
            best = np.maximum.reduceat(queries[first : first + _QUERIES] @ of_chunks.T, starts, axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :limit]
            found += [[self.keys[row] for row in rows] for rows in order]
        return found


def divided(sample: Mapping[str, str], recipe: Chunking | None, encoder: Encoder) -> DividedRows:
    """Divides the texts of a sample into chunks, as a worker does.

    Args:
        sample: The text of each row by its key.
        recipe: How to divide them.
        encoder: Counts their tokens.

    Raises:
        errors.DeclarationError: A text has to be split, and special tokens, prompt and overlap fill a whole chunk.
    """
    chunks = chunking.chunk(list(sample.values()), recipe, encoder)
    rows = {key: tuple(one.content for one in found) for key, found in zip(sample, chunks, strict=True) if found}
    return DividedRows(tuple(rows), tuple(rows.values()))


def encoded(
    encoder: Encoder, divisions: Sequence[DividedRows], on_encoded: Callable[[int, int], object]
) -> dict[str, Vectors]:
    """Returns the vectors of all chunks by their text, of unit length. Encodes a text that occurs twice once.

    Args:
        encoder: The encoder.
        divisions: Rows with their chunks.
        on_encoded: Called now and then, with how many texts are encoded and how many will be.
    """
    texts = list(dict.fromkeys(text for one in divisions for row in one.chunks for text in row))
    texts.sort(key=len)  # of similar length together, so that little is padded
    found: dict[str, Vectors] = {}
    for start in range(0, len(texts), _TOGETHER):
        some = texts[start : start + _TOGETHER]
        found |= zip(some, unit(encoder.encode_documents(some)), strict=True)
        on_encoded(len(found), len(texts))
    return found


def unit(vectors: Vectors) -> Vectors:
    """Returns vectors scaled to unit length, float32."""
    numbers = np.asarray(vectors, np.float32)
    scaled: Vectors = numbers / np.maximum(np.linalg.norm(numbers, axis=-1, keepdims=True), _LEAST_LENGTH)
    return scaled
