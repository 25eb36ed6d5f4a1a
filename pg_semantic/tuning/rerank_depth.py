"""`tune_rerank_depth`: how many hits a reranker should reorder, and whether it should be used at all."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import errors
from pg_semantic.database import own_transaction
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.evaluation import Judgements, measures, significance
from pg_semantic.evaluation.runs import Encoders
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from pg_semantic.rerankers import BatchingReranker, Reranker
from pg_semantic.search import Options, Rerank, generation_tracker
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.tuned_options import documents_of
from pg_semantic.tuning import cross_validation, judged_queries, scored_hits
from pg_semantic.tuning.cross_validation import LEVEL, ExpectedGain, Validation
from pg_semantic.tuning.grid import Setting
from pg_semantic.tuning.scored_hits import ScoredHits, Scoring

_RESAMPLES = 1_000  # of the interval that decides between two depths, computed again for each fold


@dataclass(frozen=True, slots=True)
class RerankTuningOptions:
    """How to tune the depth of a reranker.

    Args:
        depths: The depths to try, each at least the cutoff of the measure: a search reranks at least a page.
        measure: What is to be as high as possible, in the notation of ir-measures. Its cutoff is the page size.
        base: The options in use, whose hits are reranked; the defaults of a hybrid search by default.
        folds: Into how many parts the queries are divided to cross-validate the choice.
        repeats: How many such divisions are averaged.
        exact: Computes every distance instead of scanning the vector index.
        seed: Seed of the divisions, the randomization test and the bootstrap.
    """

    depths: Sequence[int] = (10, 20, 50)
    measure: str = "nDCG@10"
    base: Options = Options()  # noqa: RUF009 - frozen
    folds: int = 5
    repeats: int = 10
    exact: bool = False
    seed: int = 0

    @property
    def ordered(self) -> tuple[int, ...]:
        """The depths, each once, the shallowest first."""
        return tuple(sorted(set(self.depths)))

    def check(self, reranker: BatchingReranker) -> None:
        """Checks the options.

        Raises:
            errors.ConfigurationError: The measure is unknown or has no cutoff, there is no depth or one below the
                cutoff, a number is out of range, or the base has other steps after the fusion.
            errors.QueryError: A depth is out of range.
        """
        measures.parse([self.measure])
        Validation(self.folds, self.repeats, self.seed)  # checks them
        judged_queries.require_plain(self.base, "The depth of a reranker")
        page = measures.cutoff(self.measure)
        if not page:
            raise errors.ConfigurationError(
                f"{self.measure} has no cutoff, which stands for the page size here: use a measure such as nDCG@10."
            )
        if not self.depths:
            raise errors.ConfigurationError("There is no depth to try: name at least one, such as 20.")
        for depth in self.ordered:
            Rerank(reranker, depth=depth)
            if depth < page:
                raise errors.ConfigurationError(
                    f"A depth of {depth} is less than the {page} rows of {self.measure}, and a search reranks at least "
                    f"a page: use depths of {page} or more, or a measure with a lower cutoff."
                )


@dataclass(frozen=True, slots=True)
class RerankedDepth:
    """Figures of one depth.

    Attributes:
        depth: How many hits are reranked; None without a reranker.
        mean: The mean of the measure over all queries.
        low: Lower end of the 90% interval of its difference from a search without a reranker.
        high: Upper end.
        p50_ms: Median time in milliseconds: encoding the query, the search at the greatest depth, and reranking.
    """

    depth: int | None
    mean: float
    low: float
    high: float
    p50_ms: float


@dataclass(frozen=True, slots=True)
class RerankTuning:
    """What was found.

    Attributes:
        index: Name of the index with its schema.
        generation_id: The generation that was searched.
        documents: What decides how its documents rank. The depth is for generations that have the same.
        reranker: The reference of the reranker.
        measure: The measure.
        queries: How many queries were used.
        held_out: How many queries were left out, because they are held out for evaluation.
        zero: How many queries were left out, because their vector is all zeros, so that nothing is similar to them.
        base: The setting whose hits were reranked.
        depths: The figures, first without a reranker, then by depth.
        best: The depth with the highest mean.
        shallowest: The lowest depth that isn't shown to be worse than the best one, with 95% confidence.
        fold_mean: The mean over the folds, each with the depth that was chosen so on the other folds.
        low: Lower end of the 90% interval of ``fold_mean`` minus the mean without a reranker.
        high: Upper end.
        p: Two-sided p value of the paired randomization test of that difference.
    """

    index: str
    generation_id: int
    documents: Mapping[str, Any]
    reranker: str
    measure: str
    queries: int
    held_out: int
    zero: int
    base: Setting
    depths: tuple[RerankedDepth, ...]
    best: int
    shallowest: int
    fold_mean: float
    low: float
    high: float
    p: float

    @property
    def recommended(self) -> int | None:
        """The shallowest depth, if reranking is shown to help on queries that it wasn't chosen by; otherwise None."""
        return self.shallowest if ExpectedGain(self.fold_mean, self.low, self.high, self.p).is_shown else None

    @property
    def code(self) -> str:
        """The recommended options as Python, to paste."""
        if self.recommended is None:
            return self.base.code
        return f"{self.base.code[:-1]}, rerank=Rerank(reranker, depth={self.recommended}))"

    @property
    def kept(self) -> dict[str, Any]:
        """What `save` keeps as options, as data for JSON."""
        if self.recommended is None:
            return self.base.data
        return self.base.data | {"rerank": {"reranker": self.reranker, "depth": self.recommended}}

    @property
    def figures(self) -> dict[str, Any]:
        """The figures as data for JSON. Contains no query."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        depths = [dataclasses.asdict(one) for one in self.depths]
        return own | {"base": self.base.code, "depths": depths, "recommended": self.recommended, "code": self.code}


def tune_rerank_depth(  # noqa: PLR0913 - options
    session: orm.Session,
    index: BoundIndex[Any],
    judgements: Judgements,
    *,
    reranker: Reranker | BatchingReranker,
    options: RerankTuningOptions | None = None,
    encoder: Encoder | BatchingEncoder | None = None,
    load: Callable[[EncoderSpec], BatchingEncoder] = generation_tracker.load,
    on_query: Callable[[], object] = lambda: None,
) -> RerankTuning:
    """Finds the lowest depth at which a reranker is as good as at any, and whether it is better than none.

    Searches each query once, and scores each hit once, at the greatest depth: what lower depths give is computed from
    these scores. Queries that are held out for evaluation are left out; the others are recorded, so that no later split
    holds them out. The caller commits. With an AsyncSession: ``await session.run_sync(tuning.tune_rerank_depth, ...)``.

    Args:
        session: If it is in no transaction, none is open while the encoder is loaded or the reranker scores.
        reranker: The reranker, such as one from `rerankers.load`.
        encoder: The loaded encoder; by default that of the live generation is loaded.
        on_query: Called after each query.

    Raises:
        errors.QueryError: There are too few queries, one was held out meanwhile, or the index has no BM25.
        errors.ConfigurationError: The measure, a depth or the base doesn't fit.
    """
    options = options or RerankTuningOptions()
    given = encoder if encoder is None or isinstance(encoder, BatchingEncoder) else BatchingEncoder(encoder)
    with _shared(reranker) as shared:
        options.check(shared)
        with own_transaction.reading(session):
            live, _ = generation_tracker.read_live(session, index)
            judged, held_out = judged_queries.free(session, index, judgements)
        target = Target(live, live.tables, Encoders(given, load).of(live))
        how = Scoring(target, shared, options.ordered, options.base, options.exact)
        found = dict(scored_hits.search(session, index, judged.queries, how=how, on_query=on_query))
    used, zero = judged_queries.with_direction(judged, found)
    judged_queries.record(session, index, used)
    return _tuning(live, options, found, judged=used, left_out=_LeftOut(held_out, zero), reranker=reranker.reference)


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """How many queries were left out, and why; see `RerankTuning`."""

    held_out: int
    zero: int


@contextlib.contextmanager
def _shared(reranker: Reranker | BatchingReranker) -> Iterator[BatchingReranker]:
    """Yields a reranker that searches share; one that is made for this is closed afterwards."""
    if isinstance(reranker, BatchingReranker):
        yield reranker
    else:
        with BatchingReranker(reranker) as made:
            yield made


def rerank_matrix(found: Sequence[ScoredHits], judged: Judgements, options: RerankTuningOptions) -> NDArray[np.float64]:
    """Returns the measure on each query without a reranker and with each depth, shape (1 + depths, queries)."""
    page = measures.cutoff(options.measure)
    values = []
    for depth in (0, *options.ordered):
        run = dict(zip(judged.queries, (one.reranked(depth, limit=page) for one in found), strict=True))
        values.append(measures.per_query([options.measure], judged.grades, run)[options.measure])
    return np.array(values)


def shallowest(values: NDArray[np.float64]) -> int:
    """Returns the first of all depths that isn't shown to be worse than the best one, with 95% confidence.

    Args:
        values: The measure of each depth on each query, shape (depths, queries), the shallowest first.
    """
    best = cross_validation.first_highest(values.mean(axis=1))
    for depth in range(best):
        low, _ = significance.bootstrap_interval(values[best] - values[depth], level=LEVEL, resamples=_RESAMPLES)
        if low <= 0:
            return depth
    return best


def _tuning(
    live: Generation,
    options: RerankTuningOptions,
    found: Mapping[str, ScoredHits],
    *,
    judged: Judgements,
    left_out: _LeftOut,
    reranker: str,
) -> RerankTuning:
    values = rerank_matrix(list(found.values()), judged, options)
    validation = Validation(options.folds, options.repeats, options.seed)
    gain = cross_validation.expected_gain(values, lambda seen: 1 + shallowest(seen[1:]), validation)
    times = np.median([one.milliseconds for one in found.values()], axis=0)
    depths = []
    for depth, measured, milliseconds in zip((None, *options.ordered), values, times, strict=True):
        interval = significance.bootstrap_interval(measured - values[0], level=LEVEL, seed=options.seed)
        depths.append(RerankedDepth(depth, float(measured.mean()), *interval, float(milliseconds)))
    return RerankTuning(
        index=live.qualified_name,
        generation_id=live.id,
        documents=documents_of(live),
        reranker=reranker,
        measure=options.measure,
        queries=len(judged),
        held_out=left_out.held_out,
        zero=left_out.zero,
        base=Setting.of(options.base),
        depths=tuple(depths),
        best=options.ordered[cross_validation.first_highest(values[1:].mean(axis=1))],
        shallowest=options.ordered[shallowest(values[1:])],
        fold_mean=gain.fold_mean,
        low=gain.low,
        high=gain.high,
        p=gain.p,
    )
