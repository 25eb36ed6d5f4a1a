"""`evaluate`: measures variants on judgements, and compares them with the first one."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import errors
from pg_semantic.database import own_transaction
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.evaluation import measures, runs, significance
from pg_semantic.evaluation.judgements import Judgements
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.evaluation.report import Details, Evaluation, PairedDifference, PerQuery, VariantFigures
from pg_semantic.evaluation.runs import Asked, Encoders, Run
from pg_semantic.evaluation.variants import Variant
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from pg_semantic.search import generation_tracker

MEASURES = ("nDCG@10", "RR@10", "R@10", "AP@10")

_FEW_QUERIES = 50
_JUDGED = 10  # results that should be judged, if the first measure has no cutoff
_JUDGED_GAP = 0.05


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What to measure, and how.

    Args:
        measures: In the notation of ir-measures (https://ir-measur.es), such as ``nDCG@10`` or ``RR@10``. The first is
            the one that differences and p values are about.
        limit: How many rows each search returns; by default the largest cutoff of the measures. Use the page size of
            your application: how far a vector index is scanned and how much is reranked depend on it.
        training: What an encoder was trained on, or a search tuned on. Differences are then also reported apart for
            queries whose relevant rows it has, and for the others.
        seed: Seed of the randomization test and of the bootstrap.

    Raises:
        errors.ConfigurationError: A measure is unknown, or needs more rows than the limit.
        errors.MissingExtra: ir-measures is not installed.
    """

    measures: Sequence[str] = MEASURES
    limit: int | None = None
    training: Judgements | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        measures.parse(self.measures)
        if self.limit is None and (endless := [name for name in self.measures if not measures.cutoff(name)]):
            raise errors.ConfigurationError(
                f"{', '.join(endless)} looks at all results: add a cutoff, as in AP@100, or pass a limit."
            )
        if too_far := [name for name in self.measures if measures.cutoff(name) > self.rows]:
            raise errors.ConfigurationError(
                f"limit={self.limit} is too low for {', '.join(too_far)}: raise the limit, or measure less."
            )

    @property
    def rows(self) -> int:
        """How many rows each search returns."""
        return self.limit or max(map(measures.cutoff, self.measures))

    @property
    def computed(self) -> list[str]:
        """The measures, and those that tell how much unjudged results matter."""
        return list(dict.fromkeys([*self.measures, *self.about_holes]))

    @property
    def about_holes(self) -> list[str]:
        """The measures that tell how much unjudged results matter: ``Judged@k`` and the condensed first measure."""
        name, cutoff = self.measures[0].partition("@")[0], measures.cutoff(self.measures[0])
        condensed = [f"{name}(judged_only=True)@{cutoff}"] if name in {"nDCG", "RR", "AP", "P"} and cutoff else []
        return [f"Judged@{cutoff or min(_JUDGED, self.rows)}", *condensed]


def evaluate(  # noqa: PLR0913 - options
    session: orm.Session,
    index: BoundIndex[Any],
    judgements: Judgements,
    *,
    variants: Sequence[Variant] = (Variant("now"),),
    options: EvaluationOptions | None = None,
    encoder: Encoder | BatchingEncoder | None = None,
    load: Callable[[EncoderSpec], BatchingEncoder] = generation_tracker.load,
    on_query: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Measures variants on judgements, and compares each with the first.

    Takes one search per query and variant, and changes nothing. Measures rows, not chunks, so copies with other chunks
    or encoders can be compared. A row without judgement counts as not relevant. With an AsyncSession:
    ``await session.run_sync(evaluation.evaluate, ...)``.

    Args:
        session: If it is in no transaction, none is open while encoders are loaded. But if its isolation level makes a
            transaction a snapshot (REPEATABLE READ), everything is read in one.
        judgements: The queries and the grades of rows. Rows that don't exist are left out and counted. Queries that
            differ only in case, width or white space are one query.
        variants: Ways to search, with different names. The first is the base.
        encoder: An encoder that is loaded already; the others are loaded with ``load``.
        on_query: Called after each query.

    Raises:
        errors.QueryError: There is nothing to measure, or a variant cannot be searched.
        errors.GenerationError: The index has no generation that a variant names.
    """
    options = options or EvaluationOptions()
    _require_names(variants)
    given = encoder if encoder is None or isinstance(encoder, BatchingEncoder) else BatchingEncoder(encoder)
    with own_transaction.one_snapshot(session, {"mapper": sa.inspect(index.entity, raiseerr=True).mapper}):
        with own_transaction.reading(session):
            live, _ = generation_tracker.read_live(session, index)
            judged, gone = _answerable(session, index, judgements.distinct())
            options = dataclasses.replace(options, training=_resolved(session, index, options.training))
        found = runs.run(session, variants, Asked(index, judged.queries, options.rows, Encoders(given, load), on_query))
    return _evaluation(live, (judgements, judged), options, found=found, gone=gone)


def _resolved(session: orm.Session, index: BoundIndex[Any], training: Judgements | None) -> Judgements | None:
    return None if training is None else training.resolved(session, index)[0]


def _answerable(session: orm.Session, index: BoundIndex[Any], judgements: Judgements) -> tuple[Judgements, int]:
    """Returns the queries with a relevant row that exists, and how many judgements are about rows that don't."""
    existing, gone = judgements.resolved(session, index)
    judged = existing.only(query for query in existing.queries if existing.relevant(query))
    if not judged.queries:
        raise errors.QueryError(
            "There is nothing to measure: no query has a relevant row (grade 1 or higher) that exists. Check that the "
            f"keys are those of table {index.spec.table!r}."
        )
    return judged, gone


def _evaluation(
    live: Generation,
    judgements: tuple[Judgements, Judgements],
    options: EvaluationOptions,
    *,
    found: Sequence[Run],
    gone: int,
) -> Evaluation:
    """Puts the figures together; ``judgements`` are those that were given, and those that can be measured."""
    given, judged = judgements
    values = {run.variant.name: measures.per_query(options.computed, judged.grades, run.found) for run in found}
    compare = _Comparing(judged, options, values)
    figures = _holm([compare.figures(run) for run in found])
    keys = {run.variant.name: run.found for run in found}
    return Evaluation(
        index=live.qualified_name,
        measure=options.measures[0],
        queries=len(judged),
        judgements=judged.count,
        gone=gone,
        unanswerable=len(given.distinct()) - len(judged),
        implicit=judged.implicit,
        limit=options.rows,
        variants=tuple(figures),
        warnings=(
            *_about_judgements(given, judged, gone),
            *_unfilled(found),
            *_without_direction(found),
            *_doubts(figures),
            *_cut_short(found, options.rows),
        ),
        details=Details(judged.queries, given.distinct().grades, judged.grades, values, keys),
    )


def _require_names(variants: Sequence[Variant]) -> None:
    if not variants:
        raise errors.QueryError("Pass at least one variant.")
    if len({variant.name for variant in variants}) < len(variants):
        raise errors.QueryError("Two variants have the same name: give each its own.")


@dataclass(frozen=True, slots=True)
class _Comparing:
    """Computes the figures of variants, and compares them with the base, which is the first in ``values``."""

    judged: Judgements
    options: EvaluationOptions
    values: Mapping[str, PerQuery]  # by variant

    def figures(self, run: Run) -> VariantFigures:
        """Returns the figures of a variant; its p value is not adjusted yet."""
        variant, generation, times = run.variant, run.generation, list(run.milliseconds.values())
        means = {name: float(values.mean()) for name, values in self.values[variant.name].items()}
        judged, *condensed = self.options.about_holes
        every, seen, unseen = self._differences(variant.name)
        return VariantFigures(
            name=variant.name,
            generation=generation.role,
            generation_id=generation.id,
            encoder=generation.spec.encoder.reference,
            fingerprint=generation.fingerprint,
            settings=variant.settings,
            measures={name: means[name] for name in self.options.measures},
            judged=means[judged],
            condensed=means[condensed[0]] if condensed else None,
            p50_ms=float(np.percentile(times, 50)),
            p95_ms=float(np.percentile(times, 95)),
            difference=every,
            seen=seen,
            unseen=unseen,
        )

    def _differences(
        self, name: str
    ) -> tuple[PairedDifference | None, PairedDifference | None, PairedDifference | None]:
        """Returns the difference over all queries, over those seen in training, and over the others."""
        base, measure, training = next(iter(self.values)), self.options.measures[0], self.options.training
        if name == base:
            return None, None, None
        paired = self.values[name][measure] - self.values[base][measure]
        seed = self.options.seed
        everything = difference(paired, seed=seed)
        if training is None:
            return everything, None, None
        rows = {key for query in training.queries for key in training.relevant(query)}
        known = {query_hash(query) for query in training.queries}
        seen = np.array(
            [
                query_hash(query) in known or not rows.isdisjoint(self.judged.relevant(query))
                for query in self.judged.queries
            ]
        )
        return everything, difference(paired[seen], seed=seed), difference(paired[~seen], seed=seed)


def difference(paired: NDArray[np.float64], *, seed: int = 0) -> PairedDifference | None:
    """Returns what paired differences say, shape (queries,); None if there are none."""
    if not len(paired):
        return None
    low, high = significance.bootstrap_interval(paired, seed=seed)
    p = significance.randomization_p(paired, seed=seed)
    better, worse = int((paired > 0).sum()), int((paired < 0).sum())
    return PairedDifference(len(paired), float(paired.mean()), low, high, p, p, better, worse)


def _holm(figures: Sequence[VariantFigures]) -> list[VariantFigures]:
    """Returns the figures with p values that are corrected for the number of comparisons, in each part."""
    changes: list[dict[str, Any]] = [{} for _ in figures]
    for part in ("difference", "seen", "unseen"):
        compared = [(number, getattr(one, part)) for number, one in enumerate(figures) if getattr(one, part)]
        adjusted = significance.holm([found.p for _, found in compared])
        for (number, found), p in zip(compared, adjusted, strict=True):
            changes[number][part] = dataclasses.replace(found, adjusted_p=p)
    return [dataclasses.replace(one, **change) for one, change in zip(figures, changes, strict=True)]


def _about_judgements(given: Judgements, judged: Judgements, gone: int) -> Iterator[str]:
    """Yields what is to be known about the judgements."""
    if len(judged) < _FEW_QUERIES:
        yield f"Few queries ({len(judged)}): with fewer than {_FEW_QUERIES}, trust only large differences."
    if gone:
        yield f"Judgements left out because their rows don't exist: {gone}."
    if idle := len(given.distinct()) - len(judged):
        yield f"Queries left out because no row that exists is relevant to them: {idle}."
    if judged.implicit:
        yield "The grades are estimates from clicks: rows that were never shown have none."
    if given.below_zero:
        yield f"{given.below_zero} grades below 0 (spam) count as 0."
    if spellings := len(given) - len(given.distinct()):
        yield f"{spellings} queries differ from another one only in case, width or white space, and count as the same."


def _unfilled(found: Sequence[Run]) -> Iterator[str]:
    """Yields which variants were measured on a generation that a worker is still to fill."""
    for run in found:
        if not run.generation.backfilled:
            role = run.generation.role
            yield f"{run.variant.name!r} is too low: the {role} generation isn't filled yet. Run a worker first."


def _without_direction(found: Sequence[Run]) -> Iterator[str]:
    """Yields which variants cannot search for some queries, because of their encoder."""
    for run in found:
        if run.zero:
            yield (
                f"{run.variant.name!r} finds nothing for {len(run.zero)} queries, because their vectors are zero: the "
                "encoder knows none of their words."
            )


def _doubts(figures: Sequence[VariantFigures]) -> Iterator[str]:
    """Yields what keeps the differences from carrying a conclusion."""
    base = figures[0]
    for one in figures[1:]:
        if abs(one.judged - base.judged) > _JUDGED_GAP:
            yield (
                f"{one.judged:.0%} of the first results of {one.name!r} were judged, but {base.judged:.0%} of those of "
                f"{base.name!r}. The difference may come from unjudged rows, which count as not relevant: judge the "
                "pool."
            )


def _cut_short(found: Sequence[Run], limit: int) -> Iterator[str]:
    """Yields which variants were measured on a shorter page."""
    for run in found:
        if (longest := run.variant.longest_page or limit) < limit:
            yield f"{run.variant.name!r} reorders {longest} rows, so it was measured on these instead of {limit}."
