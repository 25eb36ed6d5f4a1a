"""Encoders for tests of a service: one that tells queries from documents, one that is held back."""

import queue
import threading
from collections.abc import Sequence

from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from tests.service.serving import PATIENCE_SECONDS


class Prompted(HashedEncoder):
    """Puts a word before a query, as many encoders do."""

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.encode_documents([f"query {text}" for text in texts])


class Held(HashedEncoder):
    """Says when it was given texts, and does nothing until it is let go; breaks on any batch with "bad" in it."""

    def __init__(self) -> None:
        super().__init__(8)
        self.given: list[tuple[str, list[str]]] = []
        self._begun: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._free = threading.Event()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode("query", texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self._encode("document", texts)

    def begun(self) -> list[str]:
        """Waits until it was given texts; which they are."""
        return self._begun.get(timeout=PATIENCE_SECONDS)

    def let_go(self) -> None:
        """Holds nothing back any more."""
        self._free.set()

    def _encode(self, kind: str, texts: Sequence[str]) -> Vectors:
        self.given.append((kind, list(texts)))
        self._begun.put(list(texts))
        assert self._free.wait(PATIENCE_SECONDS)
        if "bad" in texts:
            raise ValueError(f"cannot read {texts}")
        return super().encode_documents(texts)
