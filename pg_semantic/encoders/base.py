"""What an encoder is to the rest of the package."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
"""Vectors of texts, shape (texts, dimensions), one row a text in the order given."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What computes the transformer, and in which precision."""

    name: str
    precision: str

    def __str__(self) -> str:
        return f"{self.name} in {self.precision}"


class Encoder(Protocol):
    """A bi-encoder; also a `chunking.TokenCounter`. Safe to share between threads: a worker calls it from several."""

    @property
    def reference(self) -> str:
        """The name that it was loaded by."""
        ...

    @property
    def revision(self) -> str:
        """Which of those that have the name it is, for messages."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of all that decides its vectors: weights, vocabulary, prompts, limits, dimensions.

        The same on every machine and back end, whatever folder the weights came from.
        """
        ...

    @property
    def dimensions(self) -> int:
        """Length of its vectors."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest text that it reads whole, special tokens and document prompt included."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts to be found."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts to search by."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens that it reads for each document, special tokens and prompt included, were there no limit."""
        ...

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """A function that cuts a text into pieces of at most ``max_tokens``, counted as `count_tokens` does."""
        ...
