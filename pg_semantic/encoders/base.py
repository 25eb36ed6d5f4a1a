"""The interface of an encoder: `Encoder`, and the types that it uses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
"""Vectors as float32, shape (texts, dimensions): one row per text, in the order of the texts."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The library that computes an encoder's transformer, and its precision."""

    name: str
    precision: str

    def __str__(self) -> str:
        return f"{self.name} in {self.precision}"


class Encoder(Protocol):
    """A bi-encoder, and also a `chunking.TokenCounter`.

    Thread-safe: a worker calls it from several threads.
    """

    @property
    def reference(self) -> str:
        """The encoder reference that it was loaded by."""
        ...

    @property
    def revision(self) -> str:
        """The version of the encoder, such as a commit or a server, for use in messages."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of everything that decides its vectors: weights, vocabulary, prompts, limits, dimensions.

        It is the same on every machine and back end, and doesn't depend on the folder of the weights.
        """
        ...

    @property
    def document_fingerprint(self) -> str:
        """Hexadecimal SHA-256 of everything that decides the vectors of documents.

        Encoders that differ only in how they encode queries have the same one, so the vectors that one of them stored
        can be searched with the other.
        """
        ...

    @property
    def dimensions(self) -> int:
        """Number of dimensions of its vectors."""
        ...

    @property
    def max_tokens(self) -> int:
        """Maximum length of a text in tokens, including special tokens and the document prompt.

        The encoder truncates longer texts.
        """
        ...

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Encodes documents, the texts that searches find.

        Args:
            texts: Documents, without the document prompt.

        Returns:
            Shape (texts, dimensions), float32.
        """
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Encodes queries.

        Args:
            texts: Queries, without the query prompt.

        Returns:
            Shape (texts, dimensions), float32.
        """
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Counts the tokens of each document, including special tokens and the document prompt.

        Returns:
            One count per text. It can exceed `max_tokens`.
        """
        ...

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """Returns a function that splits a text into pieces.

        Args:
            max_tokens: Maximum length of a piece, counted as `count_tokens` does.
            overlap_tokens: How many tokens from the end of a piece the next one repeats.
        """
        ...
