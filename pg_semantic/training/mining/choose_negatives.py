"""Chooses the negatives of a query among the rows that its search found. Pure: no database and no encoder.

Keeps the semantics of ``mine_hard_negatives`` in sentence-transformers 6: a margin is measured from the least similar
positive of the query, the filters come first, then the range of ranks, then the choice. Two filters are added, which
need no text: not too near to a positive's vector, and not in the group of a positive.
"""

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import errors
from pg_semantic.index import seeds
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.training.mining.mined import ScoredChunk

Sampling: TypeAlias = Literal["top", "random"]
Group: TypeAlias = "sa.ColumnElement[Any] | orm.InstrumentedAttribute[Any] | None"

FILTERS = ("absolute_margin", "relative_margin", "max_score", "min_score", "not_nearer_than", "group")
_FACTOR = 10  # how many candidates to look at for each negative, if a filter can drop some
_ROUNDING = 1e-6  # of the similarity of equal vectors


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that a search found, or that answers the query.

    Attributes:
        passage: The row's chunk that is nearest to the query, scored.
        nearness: The highest cosine similarity between the passage and a chunk of a positive; None for a positive.
        group: The row's value of the group column as text. None if it is NULL, or without a group column.
        content: The text of the passage, read only for a reranker.
    """

    passage: ScoredChunk
    nearness: float | None = None
    group: str | None = None
    content: str = ""


@dataclass(frozen=True, slots=True)
class Mining:
    """Which negatives to mine. The names and meanings are those of ``mine_hard_negatives`` unless they say otherwise.

    Args:
        negatives: How many negatives each query should get. It gets fewer if too few candidates pass the filters.
        relative_margin: Drops candidates that score above ``p - abs(p) * relative_margin``, where p is the score of the
            query's least similar positive. 0.05 is the best setting of NV-Retriever (arXiv 2407.15831).
        absolute_margin: Drops candidates whose score plus this margin is above p.
        max_score: Drops candidates with a higher score: they may be answers that no one judged.
        min_score: Drops candidates with a lower score: they are too easy.
        range_min: How many of the best remaining candidates to skip.
        range_max: How many of the best remaining candidates to choose from, including the skipped ones. The default is
            ``range_min``, plus the negatives (ten times as many if a filter is set), plus the positives of the
            query. ``mine_hard_negatives`` adds the most positives of any query for all of them.
        sampling: Takes the ``top`` candidates, or ``random`` ones.
        not_nearer_than: Drops candidates that have this cosine similarity to a stored vector of a positive, or a higher
            one: nearly the same text is an answer too. None turns this off. Not part of ``mine_hard_negatives``.
        group: A column of the index's table, such as ``Article.thread_id``. Drops candidates that have the same value
            as a positive of the query. Not part of ``mine_hard_negatives``.
        rerank: Scores passages in place of the encoder, but only if a margin or a score bound is set. If its scores are
            logits, use ``absolute_margin``: a share of a logit has no meaning.
        seed: The same seed takes the same random candidates for a query, whatever the other queries.

    Raises:
        errors.ConfigurationError: The seed is out of range.
        errors.QueryError: Another argument is out of range.
    """

    negatives: int = 3
    relative_margin: float | None = None
    absolute_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    range_min: int = 0
    range_max: int | None = None
    sampling: Sampling = "top"
    not_nearer_than: float | None = 0.95
    group: Group = None
    rerank: BatchingReranker | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        seeds.require(self.seed)
        if self.negatives < 1:
            raise errors.QueryError(f"Mining(negatives={self.negatives}): negatives must be 1 or more.")
        if self.range_min < 0:
            raise errors.QueryError(f"Mining(range_min={self.range_min}): range_min must be 0 or more.")
        if self.range_max is not None and self.negatives > self.range_max - self.range_min:
            raise errors.QueryError(
                f"Mining(range_min={self.range_min}, range_max={self.range_max}): only "
                f"{max(0, self.range_max - self.range_min)} candidates remain for {self.negatives} negatives. Raise "
                "range_max, or ask for fewer negatives."
            )
        if self.sampling not in get_args(Sampling):
            raise errors.QueryError(f"Mining(sampling={self.sampling!r}): sampling must be 'top' or 'random'.")
        if self.not_nearer_than is not None and not 0 < self.not_nearer_than <= 1:
            raise errors.QueryError(
                f"Mining(not_nearer_than={self.not_nearer_than}): it must be above 0 and at most 1, or None."
            )
        if self.relative_margin is not None and self._scores_are_logits:
            raise errors.QueryError(
                "Mining(relative_margin=...): this reranker's scores are logits, and a share of a logit has no "
                "meaning. Use absolute_margin."
            )

    @property
    def reranks(self) -> bool:
        """Whether the reranker's scores decide: it is given, and there is a margin or a bound to apply."""
        bounds = (self.relative_margin, self.absolute_margin, self.max_score, self.min_score)
        return self.rerank is not None and any(bound is not None for bound in bounds)

    @property
    def _scores_are_logits(self) -> bool:
        return self.rerank is not None and self.rerank.score_type == "logit"

    def last_rank(self, positives: int) -> int:
        """Returns ``range_max``, or its default for a query with this number of positives."""
        if self.range_max is not None:
            return self.range_max
        filters = (self.relative_margin, self.absolute_margin, self.max_score, self.not_nearer_than, self.group)
        drops = any(one is not None for one in filters) or (self.rerank is not None and self.min_score is not None)
        return self.range_min + self.negatives * (_FACTOR if drops else 1) + positives


def choose(
    query: str,
    positives: Sequence[Candidate],
    candidates: Sequence[Candidate],
    *,
    mining: Mining,
    dropped: Counter[str],
) -> list[ScoredChunk]:
    """Returns the negatives of a query, hardest first.

    Args:
        query: Seeds the random choice, together with the seed.
        positives: The query's positives, scored like the candidates; at least one.
        candidates: What the search found, best first, without the positives.
        mining: Which negatives to choose.
        dropped: Counts what each filter dropped.
    """
    left = list(candidates)
    if mining.reranks:
        left.sort(key=lambda one: -one.passage.score)
    for name, drops in _filters(positives, mining):
        kept = [one for one in left if not drops(one)]
        dropped[name] += len(left) - len(kept)
        left = kept
    ranked = left[mining.range_min : mining.last_rank(len(positives))]
    if mining.sampling == "random" and len(ranked) > mining.negatives:
        chosen = random.Random(f"{mining.seed} {query}").sample(range(len(ranked)), mining.negatives)  # noqa: S311
        ranked = [ranked[number] for number in sorted(chosen)]
    return [one.passage for one in ranked[: mining.negatives]]


def _filters(positives: Sequence[Candidate], mining: Mining) -> Iterator[tuple[str, Callable[[Candidate], bool]]]:
    """Yields the filters that are set, by name: functions that return whether to drop a candidate."""
    least = min(one.passage.score for one in positives)
    groups = {one.group for one in positives if one.group is not None}
    drops: tuple[tuple[str, float | None, Callable[[float, Candidate], bool]], ...] = (
        ("absolute_margin", mining.absolute_margin, lambda bound, one: one.passage.score + bound > least),
        ("relative_margin", mining.relative_margin, lambda bound, one: one.passage.score > least - abs(least) * bound),
        ("max_score", mining.max_score, lambda bound, one: one.passage.score > bound),
        ("min_score", mining.min_score, lambda bound, one: one.passage.score < bound),
        ("not_nearer_than", mining.not_nearer_than, lambda bound, one: (one.nearness or -1) >= bound - _ROUNDING),
    )
    for name, bound, drop in drops:
        if bound is not None:
            yield name, functools.partial(drop, bound)
    if groups:
        yield "group", lambda one: one.group in groups
