"""What mining found: pairs with their negatives, and the report. Data only."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pg_semantic.search import validation

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """A passage that was scored for a query: a chunk of a row.

    Attributes:
        key: The row's key as text.
        ordinal: The ordinal of the chunk.
        score: How close the passage is to the query: cosine similarity, or the reranker's score if that decided.
    """

    key: str
    ordinal: int
    score: float


@dataclass(frozen=True, slots=True)
class MinedPair:
    """A query, the passage that answers it, and passages that look like answers but aren't, hardest first.

    Raises:
        errors.QueryError: The query is blank or too long, or has a NUL character or a lone surrogate.
    """

    query: str
    positive: ScoredChunk
    negatives: tuple[ScoredChunk, ...]

    def __post_init__(self) -> None:
        validation.check_query_text(self.query)


@dataclass(frozen=True, slots=True)
class ScoreQuantiles:
    """The distribution of scores."""

    lowest: float
    quarter: float
    median: float
    three_quarters: float
    highest: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> "ScoreQuantiles | None":
        """Returns the quantiles of scores; None if there are none."""
        if not scores:
            return None
        return cls(*(float(value) for value in np.quantile(scores, (0, 0.25, 0.5, 0.75, 1))))


@dataclass(frozen=True, slots=True)
class MiningReport:
    """What mining did.

    Attributes:
        index: The name of the semantic index.
        queries: How many distinct queries were asked.
        pairs: How many distinct pairs of a query and a row were given.
        gone: Pairs whose row has no vectors, does not exist, or was not visible behind the filters; and those whose
            query has a zero vector.
        quoted: Pairs whose query is part of the passage that answers it, word for word. The recall of such pairs says
            nothing: leave the text that the queries come from out of the index, or use other queries.
        zero: Queries whose vector is all zeros, so that nothing is similar to them. They are left out.
        mined: Queries with at least one negative.
        short: Queries with fewer negatives than wanted.
        negatives: Negatives in all, each once per query.
        candidates: Rows that searches found, without positives.
        dropped: How many candidates each filter dropped, in the order of the filters.
        reranked: Whether the scores come from the reranker.
        positive_scores: The distribution of the positives' scores; None if there are none.
        negative_scores: The distribution of the negatives' scores; None if there are none.
        examples: Up to ten random pairs to look at, as keys.
    """

    index: str
    queries: int
    pairs: int
    gone: int
    quoted: int
    zero: int
    mined: int
    short: int
    negatives: int
    candidates: int
    dropped: Mapping[str, int]
    reranked: bool
    positive_scores: ScoreQuantiles | None
    negative_scores: ScoreQuantiles | None
    examples: tuple[MinedPair, ...]


@dataclass(frozen=True, slots=True)
class Mined:
    """Pairs with their negatives, in the order of the given pairs, and the report."""

    pairs: tuple[MinedPair, ...]
    report: MiningReport


def examples(pairs: Sequence[MinedPair], *, seed: int) -> tuple[MinedPair, ...]:
    """Returns up to ten random pairs, the same for the same seed."""
    return tuple(random.Random(seed).sample(pairs, min(_SHOWN, len(pairs))))  # noqa: S311 - not a secret
