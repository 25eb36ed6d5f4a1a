"""A deterministic encoder without weights, for tests and dry runs.

Texts with words in common have similar vectors; synonyms don't.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from pg_semantic.encoders.base import Vectors

_WORD = re.compile(r"\w+")


class HashedEncoder:
    """Adds up one pseudo-random unit vector per word, derived from the word's hash. Thread-safe."""

    def __init__(
        self, dimensions: int, *, max_tokens: int = 256, query_prompt: str = "", document_prompt: str = ""
    ) -> None:
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.query_prompt = query_prompt
        self.document_prompt = document_prompt

    @property
    def reference(self) -> str:
        """``hashed:N``, where N is the number of dimensions."""
        return f"hashed:{self.dimensions}"

    @property
    def revision(self) -> str:
        """See `base.Encoder.revision`."""
        return f"reading {self.max_tokens} words"

    @property
    def fingerprint(self) -> str:
        """See `base.Encoder.fingerprint`."""
        identity = f"{self.reference}:{self.max_tokens}:1"
        if self.query_prompt or self.document_prompt:
            identity += repr((self.query_prompt, self.document_prompt))
        return hashlib.sha256(identity.encode()).hexdigest()

    @property
    def document_fingerprint(self) -> str:
        """See `base.Encoder.document_fingerprint`."""
        identity = ("documents", self.reference, self.max_tokens, 1, self.document_prompt)
        return hashlib.sha256(repr(identity).encode()).hexdigest()

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """See `base.Encoder.encode_documents`."""
        return self._vectors(texts, self.document_prompt)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See `base.Encoder.encode_queries`."""
        return self._vectors(texts, self.query_prompt)

    def _vectors(self, texts: Sequence[str], prompt: str) -> Vectors:
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in _words(prompt + text)[: self.max_tokens] or [""]:
                vectors[row] += _direction(word, self.dimensions)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
        return vectors

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `base.Encoder.count_tokens`; a token is a word."""
        return [len(_words(self.document_prompt + text)) for text in texts]

    def splitter(self, *, max_tokens: int, overlap_tokens: int) -> Callable[[str], list[str]]:
        """See `base.Encoder.splitter`."""
        from pg_semantic.encoders import split_long_text

        def length(text: str) -> int:
            return len(_words(text))

        room = max_tokens - len(_words(self.document_prompt))
        return functools.partial(split_long_text.cut, count=length, max_tokens=room, overlap_tokens=overlap_tokens)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


@functools.lru_cache(maxsize=8_192)
def _direction(word: str, dimensions: int) -> Vectors:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    vector = np.random.Generator(np.random.PCG64(seed)).standard_normal(dimensions, dtype=np.float32)
    return vector / np.linalg.norm(vector)
