"""A search as data: the request, the statement that answers it, and the page made from its rows. Executes nothing.

The query is a bind parameter, so searches with the same `Shape` share a statement, which is built and compiled once.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.sql.base import ExecutableOption

from pg_semantic import database, errors, registry
from pg_semantic.index import bm25_expressions, distances
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.more_like_this import Examples
from pg_semantic.rerankers import Scores
from pg_semantic.search import fusion, legs, rerank_and_diversify, results, scan_settings, validation
from pg_semantic.search.fusion import Convex, Fusion, Rrf
from pg_semantic.search.legs import Leg, Where
from pg_semantic.search.rerank_and_diversify import Diverse, Rerank
from pg_semantic.search.results import Extras, Hit

T = TypeVar("T")

Mode = Literal["dense", "lexical", "hybrid"]

VECTOR, _TEXT = "semantic_query_vector", "semantic_query_text"


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a search.

    Args:
        fusion: How a hybrid search fuses its legs: `Rrf` or `Convex`.
        match: Which rows match by words: those with ``any`` of the words, with ``all`` of them, with the ``phrase``,
            or by ``websearch`` syntax (quotes, ``or``, ``-``).
        depth: How many rows of each leg a hybrid search fuses; 100 by default. Later pages go beyond it.
        ef_search: How many candidates the scan of the vector index keeps, 1 to 1000. By default, what was chosen for
            the recall of the index, or twice the rows that the search needs and at least 100. More take longer and
            miss fewer rows.
        min_score: Drops hits with a lower score, on the scale of the score that orders them. A hybrid search also
            drops the rows beyond the depth, since their scores are not comparable with the others. If a reranker runs
            out of time, no hit is dropped, since the scores are then on another scale.
        passages: How many of its best chunks a hit has.
        snippets: Whether a hit has a snippet: the part of its best chunk that has the words of the query.
        headlines: Whether a hit has a headline: the beginning of its row's first text column that isn't blank.
        keys: Whether a hit has its primary key as text, for logs and comparisons.
        rerank: Reorders the best hits of the first ranking with a cross-encoder.
        diverse: Picks hits that are not all alike, after reranking.
        load: ORM loader options for the entities, such as ``[selectinload(Article.tags)]``.

    Raises:
        errors.QueryError: An option is out of range or of the wrong type.
    """

    fusion: Fusion = Rrf()  # noqa: RUF009 - frozen
    match: Match = "any"
    depth: int | None = None
    ef_search: int | None = None
    min_score: float | None = None
    passages: int = 1
    snippets: bool = False
    headlines: bool = False
    keys: bool = False
    rerank: Rerank | None = None
    diverse: Diverse | None = None
    load: Sequence[ExecutableOption] = ()

    def __post_init__(self) -> None:
        scan_settings.check_ef_search(self.ef_search)
        if self.passages < 1:
            raise errors.QueryError(f"Options(passages={self.passages}): passages must be 1 or more.")
        if not isinstance(self.fusion, Rrf | Convex):
            raise errors.QueryError(f"Options(fusion={self.fusion!r}): fusion must be Rrf() or Convex().")
        if not isinstance(self.load, list | tuple):
            raise errors.QueryError("Options(load=...) takes a list, such as load=[selectinload(Article.tags)].")


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """What searches must have in common to share a statement: all but the query, the filters and loader options."""

    index: BoundIndex[T]
    mode: Mode
    exact: bool
    first: int
    skipped: int
    depth: int
    reach: int
    fusion: Fusion
    match: Match
    ef_search: int | None
    extras: Extras


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """The arguments of one search. Raises `errors.QueryError` if one is not valid."""

    index: BoundIndex[T]
    query: str | Examples
    limit: int
    offset: int
    where: Where
    mode: Mode
    exact: bool
    options: Options

    def __post_init__(self) -> None:
        if not isinstance(self.index, BoundIndex):
            raise errors.QueryError(
                f"{self.index!r} is not a semantic index: pass the attribute of the class, as in Article.semantic."
            )
        if not isinstance(self.options, Options):
            raise errors.QueryError(f"options={self.options!r}: options must be Options(...).")
        validation.check_page(limit=self.limit, offset=self.offset)
        if self.mode not in get_args(Mode):
            raise errors.QueryError(f"mode={self.mode!r} is unknown: use one of {', '.join(get_args(Mode))}.")
        legs.conditions(self.where)
        if not isinstance(self.query, Examples):
            bm25_expressions.check(validation.check_query_text(self.query), self.options.match)
        elif self.mode != "dense":
            raise errors.QueryError(f"mode={self.mode!r} needs a text query: search by examples with mode='dense'.")
        elif self.options.rerank or self.options.snippets:
            raise errors.QueryError(
                "Options(rerank=..., snippets=...) need a text query: leave them out of a search by examples."
            )

    @property
    def text(self) -> str:
        """The query text; empty in a search by examples."""
        return self.query if isinstance(self.query, str) else ""

    @property
    def needs_encoder(self) -> bool:
        """Whether the query must be encoded."""
        return self.mode != "lexical" and isinstance(self.query, str)

    @property
    def reach(self) -> int:
        """How many rows each leg contributes.

        A hybrid ranking with ``min_score`` ends at the depth: beyond it, each step starts with higher scores again.
        """
        if self.mode == "hybrid":
            depth = fusion.depth_of(self.options.depth)
            if self.options.min_score is not None and not self.options.rerank:
                return depth
            return fusion.reach(limit=self.first, offset=self.skipped, depth=depth)
        return self.first + self.skipped

    @property
    def first(self) -> int:
        """How many hits the statement returns: the page, or the candidates for reranking and picking diverse hits."""
        steps = [step for step in (self.options.rerank, self.options.diverse) if step]
        return max(self.limit + self.offset, *map(self.seen_by, steps)) if steps else self.limit

    def seen_by(self, step: Rerank | Diverse) -> int:
        """How many of the best hits a step processes, the same for every page; the others follow in their order."""
        return max(step.depth, self.limit)

    @property
    def skipped(self) -> int:
        """How many rows the statement skips."""
        return 0 if self.options.rerank or self.options.diverse else self.offset

    def of(self, index: BoundIndex[T]) -> "Request[T]":
        """Returns the same request for another generation of the index.

        Raises:
            errors.EncoderMismatch: The examples include vectors, and the generation has vectors from another encoder.
        """
        query = self.query
        if not isinstance(query, str):
            if query.has_vectors and index.spec.encoder != self.index.spec.encoder:
                raise errors.EncoderMismatch(
                    f"Semantic index {index.name!r} has vectors from {index.spec.encoder.reference!r}, but the example "
                    f"vectors come from {self.index.spec.encoder.reference!r}: use rows or keys as examples."
                )
            query = dataclasses.replace(query, tables=index.tables)
        return dataclasses.replace(self, index=index, query=query)

    @property
    def examples(self) -> Examples | None:
        """The examples; None in a search by text."""
        return None if isinstance(self.query, str) else self.query

    def shape(self, *, exact: bool) -> Shape[T]:
        """Returns the shape of the statement, which other searches can share."""
        options = self.options
        extras = Extras(options.passages, bool(options.diverse), options.snippets, options.headlines, options.keys)
        numbers = (self.first, self.skipped, fusion.depth_of(options.depth), self.reach)
        return Shape(self.index, self.mode, exact, *numbers, options.fusion, options.match, options.ef_search, extras)

    def values(self, vector: NDArray[np.float32] | None, connection: sa.Connection) -> dict[str, object]:
        """Returns the parameters of the statement, in a form that the server of this connection accepts."""
        values: dict[str, object] = {}
        if vector is not None:
            values[VECTOR] = distances.query_literal(self.index.spec, vector)
        if self.mode != "dense" or self.options.snippets:
            values[_TEXT] = database.searchable(self.text, connection)
        return values

    def is_short(self, found: Sequence[sa.Row[Any]]) -> bool:
        """Whether the index scan may have ended before it found all rows."""
        if self.mode == "lexical" or self.exact:
            return False
        if not found:
            return True
        scanned: int = found[0]._mapping["scanned"]  # noqa: SLF001 - public in all but name
        # Candidates of a compressed index are found without the source, whose policies may not be on its chunks yet.
        are_hidden = len(found) < min(self.first, scanned - self.skipped)
        return scanned < self.reach or are_hidden


def statement(shape: Shape[T], *, where: Where = (), examples: Examples | None = None) -> "sa.Select[*tuple[Any, ...]]":
    """Builds the statement that answers a search; `Request.values` returns its parameters."""
    index, text = shape.index, sa.bindparam(_TEXT, type_=sa.Text)
    legs.require_own(index, where)
    found: list[Leg] = []
    if shape.mode == "lexical":
        relevance = results.by_words(index, text)
    else:
        query = examples or distances.query_parameter(index.spec, VECTOR)
        relevance = results.by_meaning(index, query)
        found.append(
            legs.dense(index, query, where=where, depth=shape.reach, exact=shape.exact, ef_search=shape.ef_search)
        )
    if shape.mode != "dense":
        found.append(legs.lexical(index, text, where=where, depth=shape.reach, match=shape.match))
    ranking = fusion.fused(found, shape.fusion, depth=shape.depth, reach=shape.reach)
    best = validation.paginate(ranking, limit=shape.first, offset=shape.skipped)
    scanned = sa.select(sa.func.count()).select_from(found[0].rows).scalar_subquery().label("scanned")
    found_rows = best.add_columns(scanned, *_markers(index)).subquery()
    return results.statement(index, found_rows, relevance, text=text, extras=shape.extras)


def _markers(index: BoundIndex[Any]) -> list[sa.ColumnElement[Any]]:
    """Columns that tell which generation is live now, and which encoder the queried generation has."""
    asked, declared = index.tables.generation, index.tables.declared
    assert asked is not None  # noqa: S101 - a searcher always queries a generation
    assert declared is not None  # noqa: S101 - and looked it up by the declaration
    return [registry.live_of(declared).label("live"), registry.fingerprint_of(asked).label("fingerprint")]


def page_of(asked: Request[T], found: list[Hit[T]], scores: Scores | None) -> list[Hit[T]]:
    """Returns the page of a search: orders the hits by ``scores``, applies ``min_score`` and picks diverse hits.

    Args:
        scores: The reranker's scores of the first hits; None without a reranker, or if it ran out of time.
    """
    options, wanted = asked.options, asked.limit + asked.offset
    found = rerank_and_diversify.rescored(found, scores)
    if options.min_score is not None and (scores is not None or not options.rerank):
        found = [hit for hit in found[: len(found if scores is None else scores)] if hit.score >= options.min_score]
    if options.diverse:
        seen = min(asked.seen_by(options.diverse), len(found if scores is None else scores))  # with scores on one scale
        found = rerank_and_diversify.diverse(found[:seen], options.diverse, limit=wanted) + found[seen:]
    if options.rerank or options.diverse:
        found = found[asked.offset : wanted]
    return found
