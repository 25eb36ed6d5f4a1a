"""`Evaluation`: the figures of the variants, what they are worth, and the checks on them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.evaluation import pool_file, significance
from pg_semantic.index.chunk_tables import Role

SIGNIFICANT = 0.05
_LEAST_LOSS = 1e-9  # that is accepted: a difference of 0 is then above it

PerQuery = Mapping[str, NDArray[np.float64]]  # by measure; one value per query


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How the first measure of a variant differs from that of the base, over the same queries.

    Attributes:
        queries: How many queries were compared.
        mean: The mean difference, variant minus base.
        low: Lower end of its 95% interval (`significance.bootstrap_interval`).
        high: Upper end.
        p: Two-sided p value of the paired randomization test (`significance.randomization_p`).
        adjusted_p: The p value after Holm's correction for the number of variants.
        better: How many queries have a higher value.
        worse: How many have a lower one.
    """

    queries: int
    mean: float
    low: float
    high: float
    p: float
    adjusted_p: float
    better: int
    worse: int


@dataclass(frozen=True, slots=True)
class VariantFigures:
    """The figures of one variant.

    Attributes:
        name: Its name.
        generation: The copy of the index that it searched.
        generation_id: The copy's number in the database, which it keeps when its role changes.
        encoder: Reference of that copy's encoder.
        fingerprint: The encoder's fingerprint, None if the copy has no vectors yet.
        settings: How it searched, as in `Variant.settings`.
        measures: The mean of each measure over all queries.
        judged: Mean share of its first results that were judged (``Judged@k``). The others count as not relevant.
        condensed: The first measure on the judged results alone (Sakai 2007), None if it has no condensed form.
        p50_ms: Median time of a search, with the time to encode its query.
        p95_ms: 95th percentile of these times.
        difference: The difference from the base, None for the base itself.
        seen: The same over the queries that have a relevant row in the training judgements, None without these.
        unseen: The same over the other queries.
    """

    name: str
    generation: Role
    generation_id: int
    encoder: str
    fingerprint: str | None
    settings: Mapping[str, Any]
    measures: Mapping[str, float]
    judged: float
    condensed: float | None
    p50_ms: float
    p95_ms: float
    difference: PairedDifference | None = None
    seen: PairedDifference | None = None
    unseen: PairedDifference | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """What the figures were computed from: by variant, the values of each measure and the keys found.

    ``given`` are the judgements as they were passed, ``grades`` those of rows that exist. They contain the text of the
    queries, so they aren't kept in the registry and not printed.
    """

    queries: tuple[str, ...]
    given: Mapping[str, Mapping[str, int]]
    grades: Mapping[str, Mapping[str, int]]
    values: Mapping[str, PerQuery]
    found: Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        index: Name of the index with its schema.
        measure: The measure that differences are about: the first of ``measures``.
        queries: How many queries the figures are means of: those with a relevant row that exists.
        judgements: How many judgements these queries have.
        gone: How many judgements were left out because their rows don't exist.
        unanswerable: How many queries were left out because none of their relevant rows exists.
        implicit: Whether the judgements were estimated from clicks.
        limit: How many rows each search returned, at most.
        variants: The figures, first those of the base.
        warnings: What keeps the figures from carrying a conclusion.
        details: The values of each query.
    """

    index: str
    measure: str
    queries: int
    judgements: int
    gone: int
    unanswerable: int
    implicit: bool
    limit: int
    variants: tuple[VariantFigures, ...]
    warnings: tuple[str, ...]
    details: Details = field(repr=False)

    def __getitem__(self, name: str) -> VariantFigures:
        """Returns the figures of a variant. Raises `errors.QueryError` if there is none of this name."""
        for one in self.variants:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in self.variants)
        raise errors.QueryError(f"No variant {name!r} was evaluated: use one of {names}.")

    @property
    def base(self) -> VariantFigures:
        """The variant that the others are compared with: the first."""
        return self.variants[0]

    @property
    def figures(self) -> dict[str, Any]:
        """Everything but the values of each query, as data for JSON. Contains no query."""
        names = [one.name for one in fields(self) if one.name not in {"variants", "details"}]
        return {name: getattr(self, name) for name in names} | {"variants": [asdict(one) for one in self.variants]}

    def require(self, measure: str, least: float, *, variant: str | None = None) -> None:
        """Raises AssertionError if a measure of a variant is below ``least``; the base by default."""
        one = self[variant] if variant else self.base
        if measure not in one.measures:
            raise errors.QueryError(f"{measure} was not measured: use one of {', '.join(one.measures)}.")
        if one.measures[measure] < least:
            raise AssertionError(
                f"{measure} of {one.name!r} is {one.measures[measure]:.4f} over {self.queries} queries of "
                f"{self.index}, less than the required {least}."
            )

    def require_better(self, variant: str) -> None:
        """Raises AssertionError unless a variant is shown to be better than the base.

        The interval of the difference must lie above 0, and the adjusted p value below .05. With few queries, the
        interval alone would mean little: that of two gains always lies above 0.
        """
        found = self._difference(variant)
        if not (found.low > 0 and found.adjusted_p < SIGNIFICANT):
            raise AssertionError(f"{variant!r} isn't shown to be better than {self.base.name!r}: {_said(self, found)}.")

    def require_not_worse(self, variant: str, *, by: float = 0.01) -> None:
        """Raises AssertionError unless a variant is shown to be at most ``by`` worse than the base.

        The interval of the difference must lie above ``-by``, and so must its mean by more than chance (p < .05). With
        0, a variant that is not worse on any query is accepted too.
        """
        found = self._difference(variant)
        values = self.details.values
        paired = values[variant][self.measure] - values[self.base.name][self.measure]
        loss = max(by, _LEAST_LOSS)
        if not by and (paired >= 0).all():
            return
        if not (found.low > -loss and significance.randomization_p(paired + loss) < SIGNIFICANT):
            raise AssertionError(
                f"{variant!r} isn't shown to be at most {by} worse than {self.base.name!r}: {_said(self, found)}."
            )

    def _difference(self, variant: str) -> PairedDifference:
        found = self[variant].difference
        if found is None:
            raise errors.QueryError(f"{variant!r} is the base, which the others are compared with.")
        return found

    def per_query(self, variant: str) -> list[dict[str, Any]]:
        """Returns one record per query, the worst losses first.

        A record has the ``query``, the first measure as ``base_value`` and ``variant_value``, their ``difference``, and
        how many of the variant's results, up to the limit, are ``unjudged``.
        """
        details, base = self.details, self.base.name
        self[variant]  # a name that doesn't exist is an error
        pairs = zip(*(details.values[name][self.measure] for name in (base, variant)), strict=True)
        records = [
            {
                "query": query,
                "base_value": float(before),
                "variant_value": float(after),
                "difference": float(after - before),
                "unjudged": sum(key not in details.grades[query] for key in details.found[variant][query]),
            }
            for query, (before, after) in zip(details.queries, pairs, strict=True)
        ]
        return sorted(records, key=lambda one: (one["difference"], one["query"]))

    def pool(self, *, depth: int = 10, seed: int = 0) -> list[tuple[str, str]]:
        """Returns the pairs of a query and a row that a person should judge next.

        These are the rows among the first ``depth`` of any variant that have no judgement. They come in random order,
        and without the variant that found them, so that a person judges each for itself. With them judged, the variants
        have no holes up to that depth.
        """
        details = self.details
        holes = {
            (query, key)
            for found in details.found.values()
            for query, keys in found.items()
            for key in keys[:depth]
            if key not in details.grades[query]
        }
        ordered = sorted(holes)
        random.Random(seed).shuffle(ordered)  # noqa: S311 - an order that doesn't depend on the ranks
        return ordered

    def write_pool(self, path: Path, *, depth: int = 10, seed: int = 0) -> int:
        """Writes the pool as CSV with the columns query, key and grade, the last one empty, and returns its length.

        The file has the text of the queries, so only its owner can read it. Fill in the grades, and read it with
        `Judgements.read`.

        Raises:
            errors.ConfigurationError: The file cannot be written, or exists with grades or anything else in it.
        """
        pool = self.pool(depth=depth, seed=seed)
        pool_file.write(path, pool)
        return len(pool)


def _said(evaluation: Evaluation, found: PairedDifference) -> str:
    return (
        f"the difference in {evaluation.measure} is {found.mean:+.4f}, 95% interval {found.low:+.4f} to "
        f"{found.high:+.4f}, p {found.adjusted_p:.3f}, over {found.queries} queries"
    )
