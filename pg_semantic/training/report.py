"""`TrainingReport`: what training did, and whether it is worth rolling out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pg_semantic.evaluation import significance

Measured = NDArray[np.float64]
"""A measure of queries, shape (queries,)."""


WHY_GONE = (
    "a row has no vectors, a condition leaves it out, two rows have the same text, or a passage is only its query"
)
"""Why pairs are not trained on, as what follows "because"."""


@dataclass(frozen=True, slots=True)
class Gain:
    """A measure of queries before and after training.

    An encoder is measured by exact search, a reranker on what searches find.

    Attributes:
        queries: How many queries were measured, or how many pairs.
        before: The mean for the encoder that training started from; or for searches without reranking.
        after: The mean for the trained encoder, or for searches that the trained reranker reorders.
        difference: ``after`` minus ``before``.
        low: Lower end of the 95% interval of the difference. Queries that rows connect count as one observation.
        high: Upper end. If rows connect all queries, the interval is infinite.
        p: The probability of a difference of this size or larger by chance (two-sided paired randomization test).
    """

    queries: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What training did.

    Attributes:
        index: The name of the semantic index.
        kind: ``map`` or ``encoder`` for the side of queries, ``whole`` for an encoder of queries and documents, or
            ``reranker``.
        recommended: Whether to roll it out: on held-out queries, the interval of the difference is above 0.
        folder: The folder of what was trained; None if nothing was written.
        queries: How many queries were used, without those that have no row with vectors.
        pairs: How many pairs of a query and a row were used.
        rows: How many rows these pairs name.
        gone: How many pairs were left out; see `WHY_GONE`.
        vectors: How many vectors the held-out queries were compared with. For a reranker, how many passages it was
            trained on.
        is_sample: Whether the index has more vectors than that.
        epochs: The number of epochs that the held-out queries chose.
        decay: The pull to the identity that they chose, for ``map``; None for others.
        held_out: The figures of held-out queries. They share no row with the queries that the measured encoder was
            trained on, so they say what to expect for other rows.
        trained_on: The figures of queries that the encoder was trained on. They also say how well it learned rows by
            heart: never decide by them. None for a reranker, because reranking them all would take long.
        seconds: How long everything took.
        measure: What the figures are: nDCG@10, 0 to 1; or Spearman's rank correlation, -1 to 1, if scores were learned.
    """

    index: str
    kind: str
    recommended: bool
    folder: Path | None
    queries: int
    pairs: int
    rows: int
    gone: int
    vectors: int
    is_sample: bool
    epochs: int
    decay: float | None
    held_out: Gain
    trained_on: Gain | None
    seconds: float
    measure: str = "nDCG@10"

    @property
    def verdict(self) -> str:
        """One sentence that says what to do."""
        found = self.held_out
        measured = (
            f"on {found.queries} held-out queries {self.measure} changed by {found.difference:+.3f} "
            f"(95% interval {found.low:+.3f} to {found.high:+.3f}, p {found.p:.3g})"
        )
        return f"A gain: {measured}." if self.recommended else f"No gain, nothing to roll out: {measured}."


def gain(before: Measured, after: Measured, *, seed: int, components: NDArray[np.int64] | None = None) -> Gain:
    """Compares a measure of the same queries before and after training.

    Queries that rows connect are not independent: ten ways to ask for one row say little more than one. So whole
    components are resampled, and get other signs, rather than queries.

    Args:
        before: The measure of each query before.
        after: The measure of each query after.
        seed: Of the resampling.
        components: The number of each query's component, shape (queries,); None if queries are to count as independent,
            which makes the interval too narrow if they aren't.
    """
    differences = after - before
    independent = differences if components is None else _by_component(differences, components)
    low, high = significance.bootstrap_interval(independent, seed=seed)
    return Gain(
        queries=len(differences),
        before=float(before.mean()),
        after=float(after.mean()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p=significance.randomization_p(independent, seed=seed),
    )


def _by_component(differences: Measured, components: NDArray[np.int64]) -> Measured:
    """Returns the sum of the differences of each component, scaled so that their mean is that of the queries."""
    sums = np.bincount(np.unique(components, return_inverse=True)[1], weights=differences)
    return np.asarray(sums * (len(sums) / len(differences)), np.float64)
