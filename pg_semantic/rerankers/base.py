"""What a reranker is to the rest of the package, and what may pass for its scores."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors

Scores: TypeAlias = NDArray[np.float32]
"""How well passages answer a query, shape (passages,), in the order given; higher is better."""

ScoreType: TypeAlias = Literal["probability", "logit"]
"""What a score is: from 0 to 1, or any number, of which one above 0 is a probability above one half."""


class Reranker(Protocol):
    """A cross-encoder. May be called from any thread."""

    @property
    def reference(self) -> str:
        """The name that it was loaded by."""
        ...

    @property
    def score_type(self) -> ScoreType:
        """What its scores are."""
        ...

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        """How well each passage answers the query; of what is too long together, the end is not read."""
        ...


def checked(scores: Scores, *, passages: int, reference: str) -> Scores:
    """The scores of so many passages. Raises `errors.EncoderError` for what can not be ordered by."""
    if scores.shape != (passages,):
        raise errors.EncoderError(
            f"Reranker {reference!r} made scores of shape {scores.shape} for {passages} passages: it is to make one "
            "of each."
        )
    if not np.isfinite(scores).all():
        raise errors.EncoderError(
            f"Reranker {reference!r} made a score that is not a finite number: its weights are damaged, or overflow "
            "in this precision."
        )
    return scores
