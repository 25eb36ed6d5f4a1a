"""`tune`: finds the best fusion for an index on judged queries, and on demand the best depth and match."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import errors
from pg_semantic.database import own_transaction
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.evaluation import Judgements, measures
from pg_semantic.evaluation.runs import Encoders
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from pg_semantic.search import Options, fusion, generation_tracker
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.tuned_options import documents_of
from pg_semantic.tuning import candidates, cross_validation, judged_queries
from pg_semantic.tuning.candidates import Candidates, LegOptions
from pg_semantic.tuning.cross_validation import ExpectedGain, Validation
from pg_semantic.tuning.grid import Setting, grid, smoothing


@dataclass(frozen=True, slots=True)
class TuningOptions:
    """How to tune.

    Each depth and each match multiplies the number of settings. The more there are, the more the choice between them
    depends on chance, and the more queries it takes to show a gain. So they are tuned only if you ask for it.

    Args:
        measure: What is to be as high as possible, in the notation of ir-measures. Its cutoff is the page size.
        base: The options in use, which a change must beat; the defaults of a search by default. Give it nothing that
            reorders or drops rows after the fusion, because that isn't measured.
        settings: The settings to try, with the ``match`` of the base; by default those of `grid`.
        depths: Try each setting with each of these depths, which must not be lower than the cutoff of the measure. By
            default, settings keep their own.
        matches: Try each setting with each of these values of ``match``; by default with that of the base.
        folds: Into how many parts the queries are divided to cross-validate the choice.
        repeats: How many such divisions are averaged.
        exact: Computes every distance instead of scanning the vector index.
        seed: Seed of the divisions, the randomization test and the bootstrap.
    """

    measure: str = "nDCG@10"
    base: Options = Options()  # noqa: RUF009 - frozen
    settings: Sequence[Setting] | None = None
    depths: Sequence[int] = ()
    matches: Sequence[Match] = ()
    folds: int = 5
    repeats: int = 10
    exact: bool = False
    seed: int = 0

    def check(self) -> None:
        """Checks the options.

        Raises:
            errors.ConfigurationError: The measure or a match is unknown, a number is out of range, or the options don't
                go with tuning.
            errors.QueryError: A depth is out of range.
        """
        measures.parse([self.measure])
        Validation(self.folds, self.repeats, self.seed)  # checks them
        if unknown := [match for match in self.matches if match not in get_args(Match)]:
            raise errors.ConfigurationError(
                f"match={unknown[0]!r} is unknown: use one of {', '.join(get_args(Match))}."
            )
        judged_queries.require_plain(self.base, "The fusion")
        depth = min(fusion.depth_of(setting.depth) for setting in self.tried)
        if measures.cutoff(self.measure) > depth:
            raise errors.ConfigurationError(
                f"{self.measure} looks at more rows than the {depth} that each leg finds: use a lower cutoff."
            )

    @property
    def tried(self) -> Sequence[Setting]:
        """The settings, first the base, each once."""
        base = Setting.of(self.base)
        given = grid(base) if self.settings is None else self.settings
        tried = [
            replace(one, depth=one.depth if depth is None else depth, match=match)
            for match in self.matches or (base.match,)
            for depth in self.depths or (None,)
            for one in given
        ]
        return list(dict.fromkeys([base, *tried]))


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
        zero: How many queries were left out, because their vector is all zeros, so that nothing is similar to them.
        base: The setting in use.
        best: The setting with the highest mean over all queries, smoothed over its neighbors (`grid.smoothing`).
        means: The mean of each setting over all queries. That of the best one is too high: it was chosen by it.
        base_mean: The mean of the base.
        fold_mean: The mean over the folds, each under the setting that was chosen on the other folds. What the choice
            can be expected to give on other queries.
        low: Lower end of the 90% interval of ``fold_mean`` minus ``base_mean``: with 95% confidence, the gain is
            higher.
        high: Upper end.
        p: Two-sided p value of the paired randomization test of that difference. If depths or matches were tuned too,
            it is at least that of `cross_validation.family_p`, which accounts for the number of settings.
    """

    index: str
    generation_id: int
    documents: Mapping[str, Any]
    fingerprint: str | None
    measure: str
    queries: int
    held_out: int
    zero: int
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
        return self.best if ExpectedGain(self.fold_mean, self.low, self.high, self.p).is_shown else self.base

    @property
    def kept(self) -> dict[str, Any]:
        """What `save` keeps as options, as data for JSON."""
        return self.recommended.data

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
    """Finds the fusion that ranks best, and whether it is better than the one in use; on demand also depth and match.

    Takes one search per query, however many settings are tried: each leg is asked once, at the greatest depth. Queries
    that are held out for evaluation are left out; the others are recorded, so that no later split holds them out. The
    caller commits. With an AsyncSession: ``await session.run_sync(tuning.tune, ...)``.

    Args:
        session: If it is in no transaction, none is open while the encoder is loaded.
        judgements: The queries and the grades of rows.
        encoder: An encoder that is loaded already; by default that of the live generation is loaded.
        on_query: Called after each query.

    Raises:
        errors.QueryError: There are too few queries, one was held out meanwhile, or the index has no BM25.
        errors.ConfigurationError: The measure or a match is unknown, or the base has options that the fusion is tuned
            without.
    """
    options = options or TuningOptions()
    options.check()
    given = encoder if encoder is None or isinstance(encoder, BatchingEncoder) else BatchingEncoder(encoder)
    with own_transaction.reading(session):
        live, _ = generation_tracker.read_live(session, index)
        judged, held_out = judged_queries.free(session, index, judgements)
    search = _LegSearch(Target(live, live.tables, None).bound(index), Encoders(given, load).of(live), options)
    with own_transaction.reading(session):
        found = {query: one for query in judged.queries if (one := search(session, query, on_query)) is not None}
    used, zero = judged_queries.with_direction(judged, found)
    judged_queries.record(session, index, used)
    return _tuning(live, options, matrix(list(found.values()), used, options), held_out=held_out, zero=zero)


@dataclass(frozen=True, slots=True)
class _LegSearch:
    """Asks all legs for a query, at the greatest depth of all settings."""

    index: BoundIndex[Any]
    encoder: BatchingEncoder
    options: TuningOptions

    def __call__(self, session: orm.Session, query: str, on_query: Callable[[], object]) -> Candidates | None:
        """Returns what the legs find; None if the vector of the query is all zeros."""
        vector, how = self.encoder.encode(query), legs_of(self.options)
        found = candidates.find(session, self.index, query, vector=vector, how=how) if vector.any() else None
        on_query()
        return found


def matrix(found: Sequence[Candidates], judged: Judgements, options: TuningOptions) -> NDArray[np.float64]:
    """Returns the measure of each setting on each query, shape (settings, queries)."""
    limit = measures.cutoff(options.measure) or max(setting.depth for setting in options.tried)
    values = []
    for setting in options.tried:
        how, depth, match = setting.fusion, setting.depth, setting.match
        keys = [one.fused(how, depth=depth, limit=limit, match=match) for one in found]
        run = dict(zip(judged.queries, keys, strict=True))
        values.append(measures.per_query([options.measure], judged.grades, run)[options.measure])
    return np.array(values)


def _tuning(
    live: Generation, options: TuningOptions, values: NDArray[np.float64], *, held_out: int, zero: int
) -> Tuning:
    tried, near, is_large = options.tried, smoothing(options.tried), bool(options.depths or options.matches)
    validation = Validation(options.folds, options.repeats, options.seed)
    gain = cross_validation.expected_gain(values, lambda seen: cross_validation.best(seen, near), validation)
    return Tuning(
        index=live.qualified_name,
        generation_id=live.id,
        documents=documents_of(live),
        fingerprint=live.fingerprint,
        measure=options.measure,
        queries=values.shape[1],
        held_out=held_out,
        zero=zero,
        base=tried[0],
        best=tried[cross_validation.best(values, near)],
        means=dict(zip(tried, map(float, values.mean(axis=1)), strict=True)),
        base_mean=float(values[0].mean()),
        fold_mean=gain.fold_mean,
        low=gain.low,
        high=gain.high,
        p=max(gain.p, cross_validation.family_p(values, near, seed=options.seed)) if is_large else gain.p,
    )


def legs_of(options: TuningOptions) -> LegOptions:
    """Returns how the legs are asked, so that all settings can be computed from what they find."""
    depth, matches = max(one.depth for one in options.tried), tuple(dict.fromkeys(one.match for one in options.tried))
    return LegOptions(depth, matches, exact=options.exact)
