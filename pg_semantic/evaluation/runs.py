"""Runs variants: what each finds for every query, and how long it takes."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import orm

from pg_semantic import registry
from pg_semantic.database import own_transaction
from pg_semantic.encoders import BatchingEncoder
from pg_semantic.evaluation.variants import Variant
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from pg_semantic.search import Hit, Searcher, generation_tracker
from pg_semantic.search.generation_tracker import Target


@dataclass(frozen=True, slots=True)
class Run:
    """What a variant found.

    Attributes:
        variant: The way of searching.
        generation: The searched copy of the index.
        found: For each query, the keys of the rows that it found, best first.
        scores: For each query, the scores of these rows.
        milliseconds: For each query, the time of its search, with the time to encode it.
        zero: The queries whose vector is all zeros. They find nothing, and a search for them would be refused.
    """

    variant: Variant
    generation: Generation
    found: dict[str, list[str]]
    scores: dict[str, list[float]]
    milliseconds: dict[str, float]
    zero: set[str] = field(default_factory=set)


class Encoders:
    """The encoders of the compared generations, each loaded once.

    Args:
        given: An encoder that is loaded already, used for every generation whose vectors come from it.
        load: Loads another encoder.
    """

    def __init__(self, given: BatchingEncoder | None, load: Callable[[EncoderSpec], BatchingEncoder]) -> None:
        self._given = given
        self._load = load
        self._loaded: dict[int, BatchingEncoder] = {}

    def of(self, generation: Generation) -> BatchingEncoder:
        """Returns the encoder of a generation. Raises `errors.EncoderMismatch` if its vectors come from another one."""
        given = self._given
        if given is not None and given.fingerprint == generation.fingerprint:
            return given
        spec = generation.spec.encoder
        if spec.id not in self._loaded:
            self._loaded[spec.id] = self._load(spec)
        encoder = self._loaded[spec.id]
        if generation.fingerprint not in {None, encoder.fingerprint}:
            raise generation_tracker.mismatch(generation, encoder)
        return encoder


@dataclass(frozen=True, slots=True)
class _PreparedVariant:
    """A variant that is ready to be run."""

    variant: Variant
    index: BoundIndex[Any]
    generation: Generation
    searcher: Searcher
    limit: int

    def can_search(self, query: str) -> bool:
        """Returns whether the vector of a query, if there is one, isn't all zeros; it is in the cache afterwards."""
        encoder = self.searcher.encoder
        return encoder is None or bool(encoder.encode(query).any())

    def __call__(self, session: orm.Session, query: str) -> tuple[list[Hit[Any]], float]:
        """Returns what a query finds, and the time in milliseconds; the encoded query is in the cache."""
        variant = self.variant
        options = dataclasses.replace(variant.options, keys=True)
        limit = min(self.limit, variant.longest_page or self.limit)
        began = time.perf_counter()
        hits = self.searcher.search(
            session,
            self.index,
            query,
            limit=limit,
            where=variant.where,
            mode=variant.mode,
            exact=variant.exact,
            options=options,
        )
        return hits, (time.perf_counter() - began) * 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """What all variants are asked: the queries, and for how many rows each."""

    index: BoundIndex[Any]
    queries: Sequence[str]
    limit: int
    encoders: Encoders
    on_query: Callable[[], object]


def run(session: orm.Session, variants: Sequence[Variant], asked: Asked) -> list[Run]:
    """Runs all variants on all queries: each query on every variant in turn, so that they meet the same conditions.

    The time to encode a query is measured once for each encoder, and counts for all variants that need it. Encoders are
    loaded outside of a transaction, unless the session is in one already.

    Raises:
        errors.GenerationError: The index has no such generation.
    """
    with own_transaction.reading(session):
        generations = [_generation(session, variant, asked.index) for variant in variants]
    searches = [_prepared(*one, asked) for one in zip(variants, generations, strict=True)]
    with own_transaction.reading(session):
        connection = generation_tracker.connect(session, asked.index)
        with orm.Session(bind=connection) as own:  # not the caller's identity map
            return _run(own, searches, asked)


def _run(session: orm.Session, searches: Sequence[_PreparedVariant], asked: Asked) -> list[Run]:
    made = [Run(search.variant, search.generation, {}, {}, {}) for search in searches]
    for search in searches:  # compiles and plans, which no query should pay for
        if first := next(filter(search.can_search, asked.queries), None):
            search(session, first)
    for query in asked.queries:
        encoded: dict[int, float] = {}
        for search, into in zip(searches, made, strict=True):
            encoding = _encode(search.searcher.encoder, query, encoded)
            can_search = search.can_search(query)
            if not can_search:
                into.zero.add(query)
            hits, searching = search(session, query) if can_search else ([], 0.0)
            into.found[query], into.scores[query] = [str(hit.key) for hit in hits], [hit.score for hit in hits]
            into.milliseconds[query] = searching + encoding
        session.expunge_all()  # the rows of thousands of searches don't fit into memory
        asked.on_query()
    return made


def _encode(encoder: BatchingEncoder | None, query: str, encoded: dict[int, float]) -> float:
    """Encodes a query, unless this encoder has just done so, and returns the time in milliseconds."""
    if encoder is None:
        return 0.0
    if id(encoder) not in encoded:
        encoder.forget(query)  # which an earlier evaluation or the first search of a variant may have encoded
        began = time.perf_counter()
        encoder.encode(query)
        encoded[id(encoder)] = (time.perf_counter() - began) * 1000
    return encoded[id(encoder)]


def _generation(session: orm.Session, variant: Variant, index: BoundIndex[Any]) -> Generation:
    live, _ = generation_tracker.read_live(session, index)
    connection = generation_tracker.connect(session, index)
    return registry.of_role(connection, live.qualified_name, variant.generation)


def _prepared(variant: Variant, generation: Generation, asked: Asked) -> _PreparedVariant:
    """Returns a variant with its encoder, which may be loaded now."""
    encoder = None if variant.mode == "lexical" else asked.encoders.of(generation)
    searcher = Searcher.pinned(Target(generation, generation.tables, encoder))
    return _PreparedVariant(variant, asked.index, generation, searcher, asked.limit)
