"""The interface of a reranker, and the check of its scores."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors

Scores: TypeAlias = NDArray[np.float32]
"""How well passages answer a query: shape (passages,), in the order given; higher is better."""

ScoreType: TypeAlias = Literal["probability", "logit"]
"""What a score is: a probability from 0 to 1, or a logit, where above 0 means a probability above one half."""


class Reranker(Protocol):
    """A cross-encoder. It can be called from any thread."""

    @property
    def reference(self) -> str:
        """The reference it was loaded by."""
        ...

    @property
    def score_type(self) -> ScoreType:
        """Whether its scores are probabilities or logits."""
        ...

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        """Scores how well each passage answers the query.

        Args:
            query: The query.
            passages: If query and passage exceed the token limit together, they are truncated at the end.

        Returns:
            One score per passage, in order; higher is better.
        """
        ...


def checked(scores: Scores, *, passages: int, reference: str) -> Scores:
    """Returns the scores unchanged.

    Raises:
        errors.EncoderError: There is not one score per passage, or a score is not finite.
    """
    if scores.shape != (passages,):
        raise errors.EncoderError(
            f"Reranker {reference!r} returned scores of shape {scores.shape} for {passages} passages: it must return "
            "one score per passage."
        )
    if not np.isfinite(scores).all():
        raise errors.EncoderError(
            f"Reranker {reference!r} returned a score that is not a finite number: its weights are damaged, or "
            "overflow in this precision."
        )
    return scores
