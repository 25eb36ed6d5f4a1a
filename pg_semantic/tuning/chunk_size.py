"""`tune_chunk_size`: the chunk size that ranks best by meaning, on a sample of rows that is encoded in memory."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import encoders, errors
from pg_semantic.database import own_transaction
from pg_semantic.encoders import BatchingEncoder, Encoder, Vectors
from pg_semantic.evaluation import Judgements, measures, significance
from pg_semantic.index import chunking
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from pg_semantic.search import generation_tracker
from pg_semantic.search.generation_tracker import Target
from pg_semantic.tuning import cross_validation, judged_queries, row_sample, sample_ranking
from pg_semantic.tuning.cross_validation import LEVEL, ExpectedGain, Validation
from pg_semantic.tuning.sample_ranking import DividedRows


@dataclass(frozen=True, slots=True)
class ChunkTuningOptions:
    """How to tune the chunk size.

    Args:
        sizes: The values of ``Chunking(max_tokens=...)`` to try, in tokens of the encoder. The overlap is that of the
            index.
        measure: What is to be as high as possible, in the notation of ir-measures.
        sample: How many rows to encode for each size: all judged ones, and random ones up to this number. The more
            there are, the harder it is to find the right ones, as in the whole table.
        folds: Into how many parts the queries are divided to cross-validate the choice.
        repeats: How many such divisions are averaged.
        seed: Seed of the sample, the divisions, the randomization test and the bootstrap.
    """

    sizes: Sequence[int]
    measure: str = "nDCG@10"
    sample: int = 2_000
    folds: int = 5
    repeats: int = 10
    seed: int = 0

    def check(self) -> None:
        """Raises `errors.ConfigurationError` if the measure is unknown, a number out of range, or no size given."""
        measures.parse([self.measure])
        Validation(self.folds, self.repeats, self.seed)  # checks them
        if not self.sizes:
            raise errors.ConfigurationError("There is no chunk size to try: name at least one, such as 128.")

    def recipes(self, today: Chunking | None, encoder: Encoder) -> list[Chunking | None]:
        """Returns the ways to divide a text, each once, with today's first.

        Raises:
            errors.ConfigurationError: A size is above what the encoder reads.
            errors.DeclarationError: A size has no room for new text.
        """
        if long := [size for size in self.sizes if size > encoder.max_tokens]:
            raise errors.ConfigurationError(
                f"Encoder {encoder.reference!r} reads {encoder.max_tokens} tokens, so its chunks can't have "
                f"{long[0]}: leave that size out."
            )
        overlap = today.overlap_tokens if today else 0
        given = [Chunking(size, overlap) for size in sorted(set(self.sizes))]
        for recipe in given:
            chunking.require_room(recipe, encoder)
        same = (
            None
            if today is None
            else Chunking(min(today.max_tokens or encoder.max_tokens, encoder.max_tokens), overlap)
        )
        return [today, *(one for one in given if one != same)]


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """Figures of one way to divide texts.

    Attributes:
        chunking: How texts are divided; None for one chunk per row.
        chunks: The number of chunks of the sample.
        times: How many times as many these are as today.
        mean: The mean of the measure over all queries.
        low: Lower end of the 90% interval of its difference from today's.
        high: Upper end.
    """

    chunking: Chunking | None
    chunks: int
    times: float
    mean: float
    low: float
    high: float

    @property
    def code(self) -> str:
        """The argument of `SemanticIndex` as Python, to paste."""
        given = {} if self.chunking is None else dataclasses.asdict(self.chunking)
        shown = ", ".join(f"{name}={value}" for name, value in given.items() if value)
        return f"chunking={None if self.chunking is None else f'Chunking({shown})'}"


@dataclass(frozen=True, slots=True)
class ChunkTuning:
    """What was found.

    Attributes:
        index: Name of the index with its schema.
        generation_id: The generation whose chunks are compared with others.
        measure: The measure.
        queries: How many queries were used.
        held_out: How many queries were left out, because they are held out for evaluation.
        zero: How many queries were left out, because their vector is all zeros, so that nothing is similar to them.
        rows: How many rows the sample has.
        sizes: The figures, with today's first.
        best: The size with the highest mean.
        fold_mean: The mean over the folds, each with the size that was best on the other folds.
        low: Lower end of the 90% interval of ``fold_mean`` minus the mean of today's size.
        high: Upper end.
        p: Two-sided p value of the paired randomization test of that difference.
    """

    index: str
    generation_id: int
    measure: str
    queries: int
    held_out: int
    zero: int
    rows: int
    sizes: tuple[ChunkSize, ...]
    best: ChunkSize
    fold_mean: float
    low: float
    high: float
    p: float

    @property
    def today(self) -> ChunkSize:
        """The figures of the present size."""
        return self.sizes[0]

    @property
    def recommended(self) -> ChunkSize:
        """The best size if choosing it is shown to help on queries that it wasn't chosen by; otherwise today's."""
        return self.best if ExpectedGain(self.fold_mean, self.low, self.high, self.p).is_shown else self.today

    @property
    def figures(self) -> dict[str, Any]:
        """The figures as data for JSON. Contains no query."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        sizes = [dataclasses.asdict(one) | {"code": one.code} for one in self.sizes]
        named = {name: getattr(self, name).code for name in ("today", "best", "recommended")}
        return own | named | {"sizes": sizes}


def tune_chunk_size(  # noqa: PLR0913 - options
    session: orm.Session,
    index: BoundIndex[Any],
    judgements: Judgements,
    *,
    options: ChunkTuningOptions,
    encoder: Encoder | None = None,
    load: Callable[[EncoderSpec], Encoder] | None = None,
    on_encoded: Callable[[int, int], object] = lambda *_: None,
) -> ChunkTuning:
    """Finds the chunk size that ranks best by meaning, and whether it is better than today's.

    Encodes a sample of the rows once for each size, in memory, and ranks it exactly. A figure is higher than on the
    whole table, but all sizes are measured on the same rows. Queries that are held out for evaluation are left out; the
    others are recorded, so that no later split holds them out. The caller commits. With an AsyncSession: ``await
    session.run_sync(tuning.tune_chunk_size, ...)``.

    Args:
        session: If it is in no transaction, none is open while texts are encoded.
        encoder: The loaded encoder; by default that of the live generation is loaded, with ``load``.
        on_encoded: Called now and then, with how many texts are encoded and how many will be.

    Raises:
        errors.QueryError: There are too few queries or rows in the sample, or a query was held out meanwhile.
        errors.ConfigurationError: The measure or a size doesn't fit.
        errors.EncoderMismatch: The encoder isn't that of the live generation.
    """
    options.check()
    with own_transaction.reading(session):
        live, _ = generation_tracker.read_live(session, index)
        judged, held_out = judged_queries.free(session, index, judgements)
        rows = frozenset(key for graded in judged.grades.values() for key in graded)
        bound = Target(live, live.tables, None).bound(index)
        sample = row_sample.read(session, bound, judged=rows, most=options.sample, seed=options.seed)
    how = _SampleSearch(_checked(live, encoder or (load or _load)(live.spec.encoder)), options, on_encoded)
    vectors = how.query_vectors(judged)
    used, zero = judged_queries.with_direction(judged, vectors)
    found = how.tuned(live, sample, used, queries=vectors)
    judged_queries.record(session, index, used)
    return dataclasses.replace(found, held_out=held_out, zero=zero)


def _load(spec: EncoderSpec) -> Encoder:
    return encoders.load(
        spec.reference,
        dimensions=spec.dimensions,
        query_prompt=spec.query_prompt,
        document_prompt=spec.document_prompt,
    )


def _checked(live: Generation, encoder: Encoder) -> Encoder:
    if live.fingerprint not in {None, encoder.fingerprint}:
        raise generation_tracker.mismatch(live, BatchingEncoder(encoder))
    return encoder


@dataclass(frozen=True, slots=True)
class _SampleSearch:
    """Divides, encodes and ranks a sample."""

    encoder: Encoder
    options: ChunkTuningOptions
    on_encoded: Callable[[int, int], object]

    def query_vectors(self, judged: Judgements) -> dict[str, Vectors]:
        """Returns the vector of each query that isn't all zeros, of unit length."""
        found = sample_ranking.unit(self.encoder.encode_queries(judged.queries))
        return {query: vector for query, vector in zip(judged.queries, found, strict=True) if vector.any()}

    def tuned(
        self, live: Generation, sample: Mapping[str, str], judged: Judgements, *, queries: Mapping[str, Vectors]
    ) -> ChunkTuning:
        options = self.options
        recipes = options.recipes(live.spec.chunking, self.encoder)
        divisions = [sample_ranking.divided(sample, recipe, self.encoder) for recipe in recipes]
        if not divisions[0].count:
            raise errors.QueryError("The rows of the sample have no text, so there is nothing to rank.")
        values = self._values(divisions, judged, np.stack([queries[query] for query in judged.queries]))
        sizes = tuple(self._figures(recipes, divisions, values))
        validation = Validation(options.folds, options.repeats, options.seed)
        highest = cross_validation.first_highest
        gain = cross_validation.expected_gain(values, lambda seen: highest(seen.mean(axis=1)), validation)
        return ChunkTuning(
            index=live.qualified_name,
            generation_id=live.id,
            measure=options.measure,
            queries=len(judged),
            held_out=0,
            zero=0,
            rows=len(sample),
            sizes=sizes,
            best=sizes[highest(values.mean(axis=1))],
            **dataclasses.asdict(gain),
        )

    def _values(self, divisions: Sequence[DividedRows], judged: Judgements, queries: Vectors) -> NDArray[np.float64]:
        """Returns the measure of each division on each query, shape (divisions, queries)."""
        vectors = sample_ranking.encoded(self.encoder, divisions, self.on_encoded)
        measure, values = self.options.measure, []
        for one in divisions:
            limit = measures.cutoff(measure) or len(one.keys)
            run = dict(zip(judged.queries, one.ranked(vectors, queries, limit=limit), strict=True))
            values.append(measures.per_query([measure], judged.grades, run)[measure])
        return np.array(values)

    def _figures(
        self, recipes: Sequence[Chunking | None], divisions: Sequence[DividedRows], values: NDArray[np.float64]
    ) -> Iterator[ChunkSize]:
        today = divisions[0].count
        for recipe, divided, measured in zip(recipes, divisions, values, strict=True):
            interval = significance.bootstrap_interval(measured - values[0], level=LEVEL, seed=self.options.seed)
            yield ChunkSize(recipe, divided.count, divided.count / today, float(measured.mean()), *interval)
