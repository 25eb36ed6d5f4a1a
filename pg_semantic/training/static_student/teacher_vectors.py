"""`TeacherVectors`: has texts encoded by the encoder that a student imitates, and keeps to the time limit."""

from collections.abc import Iterator, Sequence

import numpy as np

from pg_semantic.encoders import Encoder
from pg_semantic.encoders.base import Vectors
from pg_semantic.training.pace import OnStep
from pg_semantic.training.time_limit import TimeLimit

BLOCK = 512
"""How many texts are encoded at a time."""


def _ignore(_done: int, _planned: int) -> None:
    pass


class TeacherVectors:
    """Encodes texts as queries.

    Args:
        encoder: The encoder.
        limit: How long everything may take.
        planned: About how many steps everything has.
        on_step: Called after each step, with how many are done and how many are planned.
    """

    def __init__(self, encoder: Encoder, limit: TimeLimit, *, planned: int = 0, on_step: OnStep = _ignore) -> None:
        self.steps = 0
        self._encoder = encoder
        self._limit = limit
        self._planned = planned
        self._on_step = on_step

    def following(self, done: int, planned: int) -> None:
        """Reports a step of what comes after encoding."""
        self._on_step(self.steps + done, self.steps + planned)

    def needed(self, texts: Sequence[str], *, what: str) -> Vectors:
        """Returns the vectors of texts, shape (texts, dimensions).

        Args:
            texts: The texts.
            what: What they are, for the message.

        Raises:
            errors.ConfigurationError: The time limit is too short.
        """
        made = []
        started = self._limit.elapsed
        for vectors, done in self._blocks(texts):
            made.append(vectors)
            each = (self._limit.elapsed - started) / done
            self._limit.require(each * (len(texts) - done), what=f"encoding {what}")
        return np.concatenate(made)

    def if_in_time(self, texts: Sequence[str]) -> Vectors:
        """Returns the vectors of as many of the first texts as can be encoded in half of the time that is left."""
        made = []
        started = self._limit.elapsed
        for vectors, done in self._blocks(texts):
            made.append(vectors)
            spent = self._limit.elapsed - started
            if not self._limit.allows(spent + spent / done * BLOCK):
                break
        return np.concatenate(made)

    def _blocks(self, texts: Sequence[str]) -> Iterator[tuple[Vectors, int]]:
        for start in range(0, len(texts), BLOCK):
            block = list(texts[start : start + BLOCK])
            yield self._encoder.encode_queries(block), start + len(block)
            self.steps += 1
            self._on_step(self.steps, max(self._planned, self.steps))
