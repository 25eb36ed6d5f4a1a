"""`tune`: finds the best fusion for an index on judged queries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.database import own_transaction
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.evaluation import Judgements, held_out_queries, measures, significance
from pg_semantic.evaluation.runs import Encoders
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from pg_semantic.search import Options, generation_tracker
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.tuned_options import documents_of
from pg_semantic.tuning import candidates, cross_validation
from pg_semantic.tuning.candidates import Candidates, LegOptions
from pg_semantic.tuning.grid import Setting, grid, smoothing

# A change is recommended if the lower end of this interval is above 0, so with 95% confidence.
LEVEL = 0.9

_FEWEST = 2
_AFTER_FUSION = ("rerank", "diverse", "min_score")  # options of a search


@dataclass(frozen=True, slots=True)
class TuningOptions:
    """How to tune.

    Args:
        measure: What is to be as high as possible, in the notation of ir-measures. Its cutoff is the page size.
        base: The options in use, which a change must beat; the defaults of a search by default. Its ``match`` is kept.
            Give it nothing that reorders or drops rows after the fusion, because that isn't measured.
        settings: The settings to try, with the ``match`` of the base; by default those of `grid`.
        folds: Into how many parts the queries are divided to cross-validate the choice.
        repeats: How many such divisions are averaged.
        exact: Computes every distance instead of scanning the vector index.
        seed: Seed of the divisions, the randomization test and the bootstrap.
    """

    measure: str = "nDCG@10"
    base: Options = Options()  # noqa: RUF009 - frozen
    settings: Sequence[Setting] | None = None
    folds: int = 5
    repeats: int = 10
    exact: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raises `errors.ConfigurationError` if the measure is unknown, or the options don't go with tuning."""
        measures.parse([self.measure])
        if later := [name for name in _AFTER_FUSION if getattr(self.base, name) is not None]:
            raise errors.ConfigurationError(
                f"The fusion is tuned without {' and '.join(later)}: leave them out of the base, and add them to the "
                "options that you get."
            )
        depth = min(setting.depth for setting in self.tried)
        if measures.cutoff(self.measure) > depth:
            raise errors.ConfigurationError(
                f"{self.measure} looks at more rows than the {depth} that each leg finds: use a lower cutoff."
            )

    @property
    def tried(self) -> Sequence[Setting]:
        """The settings, first the base, each once."""
        base = Setting.of(self.base)
        given = grid(base) if self.settings is None else [replace(one, match=base.match) for one in self.settings]
        return list(dict.fromkeys([base, *given]))


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was found.

    Attributes:
        index: Name of the index with its schema.
        generation_id: The generation that was searched.
        documents: What decides how its documents rank. The settings are for generations that have the same.
        fingerprint: The fingerprint of its encoder.
        measure: The measure.
        queries: How many queries were used.
        held_out: How many queries were left out, because they are held out for evaluation.
        base: The setting in use.
        best: The setting with the highest mean over all queries, smoothed over its neighbors (`grid.smoothing`).
        means: The mean of each setting over all queries. That of the best one is too high: it was chosen by it.
        base_mean: The mean of the base.
        fold_mean: The mean over the folds, each under the setting that was chosen on the other folds. What the choice
            can be expected to give on other queries.
        low: Lower end of the 90% interval of ``fold_mean`` minus ``base_mean``: with 95% confidence, the gain is
            higher.
        high: Upper end.
        p: Two-sided p value of the paired randomization test of that difference.
    """

    index: str
    generation_id: int
    documents: Mapping[str, Any]
    fingerprint: str | None
    measure: str
    queries: int
    held_out: int
    base: Setting
    best: Setting
    means: Mapping[Setting, float]
    base_mean: float
    fold_mean: float
    low: float
    high: float
    p: float

    @property
    def recommended(self) -> Setting:
        """The best setting if choosing it is shown to help on queries that it wasn't chosen by; otherwise the base."""
        return self.best if self.low > 0 and self.p < 1 - LEVEL else self.base

    @property
    def figures(self) -> dict[str, Any]:
        """The figures as data for JSON. Contains no query."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in {"base", "best", "means"}}
        settings = [{"code": setting.code, "mean": mean} for setting, mean in self.means.items()]
        named = {name: getattr(self, name).code for name in ("base", "best", "recommended")}
        return own | named | {"settings": settings}


def tune(  # noqa: PLR0913 - options
    session: orm.Session,
    index: BoundIndex[Any],
    judgements: Judgements,
    *,
    options: TuningOptions | None = None,
    encoder: Encoder | BatchingEncoder | None = None,
    load: Callable[[EncoderSpec], BatchingEncoder] = generation_tracker.load,
    on_query: Callable[[], object] = lambda: None,
) -> Tuning:
    """Finds the fusion and depth that rank best, and whether they are better than those in use.

    Takes one search per query, however many settings are tried. Queries that are held out for evaluation are left out;
    the others are recorded, so that no later split holds them out. The caller commits. With an AsyncSession: ``await
    session.run_sync(tuning.tune, ...)``.

    Args:
        session: If it is in no transaction, none is open while the encoder is loaded.
        judgements: The queries and the grades of rows.
        encoder: An encoder that is loaded already; by default that of the live generation is loaded.
        on_query: Called after each query.

    Raises:
        errors.QueryError: There are too few queries, one was held out meanwhile, or the index has no BM25.
        errors.ConfigurationError: The measure is unknown, or the base has options that the fusion is tuned without.
    """
    options = options or TuningOptions()
    options.check()
    given = encoder if encoder is None or isinstance(encoder, BatchingEncoder) else BatchingEncoder(encoder)
    with own_transaction.reading(session):
        live, _ = generation_tracker.read_live(session, index)
        judged, held_out = _free(session, index, judgements)
    search = _LegSearch(Target(live, live.tables, None).bound(index), Encoders(given, load).of(live), options)
    with own_transaction.reading(session):
        found = [search(session, query, on_query) for query in judged.queries]
    with database.translated():
        held_out_queries.record_training(session, index, judged.queries)
    return _tuning(live, options, matrix(found, judged, options), held_out=held_out)


def _free(session: orm.Session, index: BoundIndex[Any], judgements: Judgements) -> tuple[Judgements, int]:
    """Returns the queries to tune on, and how many are held out."""
    free = held_out_queries.without_held_out(session, index, judgements)
    distinct = free.judgements.distinct()
    judged = distinct.only(measures.answerable(distinct.grades))
    if len(judged) < _FEWEST:
        raise errors.QueryError("There is nothing to tune on: fewer than two queries have a relevant row.")
    return judged, free.held_out_queries


@dataclass(frozen=True, slots=True)
class _LegSearch:
    """Asks both legs for a query, to the greatest depth of all settings."""

    index: BoundIndex[Any]
    encoder: BatchingEncoder
    options: TuningOptions

    def __call__(self, session: orm.Session, query: str, on_query: Callable[[], object]) -> Candidates:
        depth = max(setting.depth for setting in self.options.tried)
        how = LegOptions(depth, self.options.base.match, exact=self.options.exact)
        found = candidates.find(session, self.index, query, vector=self.encoder.encode(query), how=how)
        on_query()
        return found


def matrix(found: Sequence[Candidates], judged: Judgements, options: TuningOptions) -> NDArray[np.float64]:
    """Returns the measure of each setting on each query, shape (settings, queries)."""
    limit = measures.cutoff(options.measure) or max(setting.depth for setting in options.tried)
    values = []
    for setting in options.tried:
        keys = [one.fused(setting.fusion, depth=setting.depth, limit=limit) for one in found]
        run = dict(zip(judged.queries, keys, strict=True))
        values.append(measures.per_query([options.measure], judged.grades, run)[options.measure])
    return np.array(values)


def _tuning(live: Generation, options: TuningOptions, values: NDArray[np.float64], *, held_out: int) -> Tuning:
    tried, near = options.tried, smoothing(options.tried)
    chosen = cross_validation.held_out(values, near, folds=options.folds, repeats=options.repeats, seed=options.seed)
    gains = chosen - values[0]
    low, high = significance.bootstrap_interval(gains, level=LEVEL, seed=options.seed)
    return Tuning(
        index=live.qualified_name,
        generation_id=live.id,
        documents=documents_of(live),
        fingerprint=live.fingerprint,
        measure=options.measure,
        queries=values.shape[1],
        held_out=held_out,
        base=tried[0],
        best=tried[cross_validation.best(values, near)],
        means=dict(zip(tried, map(float, values.mean(axis=1)), strict=True)),
        base_mean=float(values[0].mean()),
        fold_mean=float(chosen.mean()),
        low=low,
        high=high,
        p=significance.randomization_p(gains, seed=options.seed),
    )
