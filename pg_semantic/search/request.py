"""What one search asks for, as data; the statement that answers it, and its rows as hits. Executes nothing.

The query is a parameter of the statement, so that searches of one `Shape` are one statement, built and compiled once.
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
from pg_semantic.index import bm25, distances
from pg_semantic.index.bm25 import Match
from pg_semantic.index.declare import BoundIndex
from pg_semantic.index.more_like_this import Examples
from pg_semantic.rerankers import Scores
from pg_semantic.search import fusion, postprocess, rankings, results, validation
from pg_semantic.search.fusion import Convex, Fusion, Rrf
from pg_semantic.search.postprocess import Diverse, Rerank
from pg_semantic.search.rankings import Leg, Where
from pg_semantic.search.results import Extras, Hit

T = TypeVar("T")

Mode = Literal["dense", "lexical", "hybrid"]

VECTOR, _TEXT = "semantic_query_vector", "semantic_query_text"


@dataclass(frozen=True, slots=True)
class Options:
    """How a search goes about it.

    ``fusion`` joins the legs of a hybrid one, ``depth`` is how many rows of each (by default a hundred; rows beyond
    come after these). ``match`` says which rows match by words. ``min_score`` leaves out hits of a lower score, on the
    scale of what they are ordered by; not when a reranker's time was up, since scores are then on another. In a hybrid
    search it leaves out rows beyond the depth, too, whose scores can not be compared with those within. ``passages`` is
    how many of its best chunks a hit has, ``snippets`` whether it has the part of the best one that has the query's
    words. ``rerank`` and ``diverse`` come after the first ranking.
    ``load`` are options of the ORM for the entities, as ``selectinload(Article.tags)``.
    """

    fusion: Fusion = Rrf()  # noqa: RUF009 - frozen
    match: Match = "any"
    depth: int | None = None
    min_score: float | None = None
    passages: int = 1
    snippets: bool = False
    rerank: Rerank | None = None
    diverse: Diverse | None = None
    load: Sequence[ExecutableOption] = ()

    def __post_init__(self) -> None:
        if self.passages < 1:
            raise errors.QueryError(f"Options(passages={self.passages}): give 1 or more.")
        if not isinstance(self.fusion, Rrf | Convex):
            raise errors.QueryError(f"Options(fusion={self.fusion!r}): give Rrf() or Convex().")
        if not isinstance(self.load, list | tuple):
            raise errors.QueryError("Options(load=...) takes a list, as load=[selectinload(Article.tags)].")


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """What a search is beside its query, its filters and what the ORM loads."""

    index: BoundIndex[T]
    mode: Mode
    exact: bool
    first: int
    skipped: int
    depth: int
    reach: int
    fusion: Fusion
    match: Match
    extras: Extras


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One search."""

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
            raise errors.QueryError(f"{self.index!r} is no semantic index: give Article.semantic, of the class.")
        if not isinstance(self.options, Options):
            raise errors.QueryError(f"options={self.options!r}: give Options(...).")
        validation.check_page(limit=self.limit, offset=self.offset)
        if self.mode not in get_args(Mode):
            raise errors.QueryError(f"mode={self.mode!r} is unknown: give one of {', '.join(get_args(Mode))}.")
        rankings.conditions(self.where)
        if not isinstance(self.query, Examples):
            bm25.check(validation.check_query_text(self.query), self.options.match)
        elif self.mode != "dense":
            raise errors.QueryError(f"mode={self.mode!r} needs a text; examples are searched for with mode='dense'.")
        elif self.options.rerank or self.options.snippets:
            raise errors.QueryError("Reranking and snippets need a text; the query is of examples.")

    @property
    def text(self) -> str:
        """The text that is asked with; only examples have none."""
        return self.query if isinstance(self.query, str) else ""

    @property
    def needs_encoder(self) -> bool:
        """Whether the text has to be encoded."""
        return self.mode != "lexical" and isinstance(self.query, str)

    @property
    def reach(self) -> int:
        """How many rows each leg gives.

        A hybrid ranking with a least score ends with the depth: beyond it, scores rise again from step to step.
        """
        if self.mode == "hybrid":
            depth = fusion.depth_of(self.options.depth)
            if self.options.min_score is not None and not self.options.rerank:
                return depth
            return fusion.reach(limit=self.first, offset=self.skipped, depth=depth)
        return self.first + self.skipped

    @property
    def first(self) -> int:
        """How many hits the statement gives: the page, or what the steps after it choose the page from."""
        steps = [step for step in (self.options.rerank, self.options.diverse) if step]
        return max(self.limit + self.offset, *map(self.seen_by, steps)) if steps else self.limit

    def seen_by(self, step: Rerank | Diverse) -> int:
        """How many hits a step has before it, the same for every page; what is beyond follows as it was."""
        return max(step.depth, self.limit)

    @property
    def skipped(self) -> int:
        """How many rows the statement leaves out before its first."""
        return 0 if self.options.rerank or self.options.diverse else self.offset

    def of(self, index: BoundIndex[T]) -> "Request[T]":
        """The same of another generation of the index."""
        query = self.query
        if not isinstance(query, str):
            if query.has_vectors and index.spec.encoder != self.index.spec.encoder:
                raise errors.EncoderMismatch(
                    f"Semantic index {index.name!r} has vectors of {index.spec.encoder.reference!r}, and the examples "
                    f"are vectors of {self.index.spec.encoder.reference!r}: give rows as examples, or their keys."
                )
            query = dataclasses.replace(query, tables=index.tables)
        return dataclasses.replace(self, index=index, query=query)

    @property
    def examples(self) -> Examples | None:
        """The query, when it is of examples."""
        return None if isinstance(self.query, str) else self.query

    def shape(self, *, exact: bool) -> Shape[T]:
        """What this search has in common with others."""
        options = self.options
        extras = Extras(options.passages, bool(options.diverse), options.snippets)
        numbers = (self.first, self.skipped, fusion.depth_of(options.depth), self.reach)
        return Shape(self.index, self.mode, exact, *numbers, options.fusion, options.match, extras)

    def values(self, vector: NDArray[np.float32] | None, connection: sa.Connection) -> dict[str, object]:
        """The parameters of the statement, as the server at the other end of a connection can take them."""
        values: dict[str, object] = {}
        if vector is not None:
            values[VECTOR] = distances.query_literal(self.index.spec, vector)
        if self.mode != "dense" or self.options.snippets:
            values[_TEXT] = database.searchable(self.text, connection)
        return values

    def is_short(self, found: Sequence[sa.Row[Any]]) -> bool:
        """Whether the scan of the vector index may have ended before all rows were found."""
        if self.mode == "lexical" or self.exact:
            return False
        return not found or found[0]._mapping["scanned"] < self.reach  # noqa: SLF001 - public in all but name


def statement(shape: Shape[T], *, where: Where = (), examples: Examples | None = None) -> "sa.Select[*tuple[Any, ...]]":
    """The one statement that answers a search, with what `Request.values` gives for parameters."""
    index, text = shape.index, sa.bindparam(_TEXT, type_=sa.Text)
    rankings.require_own(index, where)
    found: list[Leg] = []
    if shape.mode == "lexical":
        relevance = results.by_words(index, text)
    else:
        query = examples or distances.query_parameter(index.spec, VECTOR)
        relevance = results.by_meaning(index, query)
        found.append(rankings.dense(index, query, where=where, depth=shape.reach, exact=shape.exact))
    if shape.mode != "dense":
        found.append(rankings.lexical(index, text, where=where, depth=shape.reach, match=shape.match))
    ranking = fusion.fused(found, shape.fusion, depth=shape.depth, reach=shape.reach)
    best = validation.paginate(ranking, limit=shape.first, offset=shape.skipped)
    scanned = sa.select(sa.func.count()).select_from(found[0].rows).scalar_subquery().label("scanned")
    found_rows = best.add_columns(scanned, *_markers(index)).subquery()
    return results.statement(index, found_rows, relevance, text=text, extras=shape.extras)


def _markers(index: BoundIndex[Any]) -> list[sa.ColumnElement[Any]]:
    """What every row says of the generation that was asked: which one is live now, and whose vectors were compared."""
    asked, declared = index.tables.generation, index.tables.declared
    assert asked is not None  # noqa: S101 - a searcher asks a generation
    assert declared is not None  # noqa: S101 - that it looked up by the declaration
    return [registry.live_of(declared).label("live"), registry.fingerprint_of(asked).label("fingerprint")]


def page_of(asked: Request[T], found: list[Hit[T]], scores: Scores | None) -> list[Hit[T]]:
    """What the search answers, of hits that a reranker may have scored."""
    options, wanted = asked.options, asked.limit + asked.offset
    found = postprocess.rescored(found, scores)
    if options.min_score is not None and (scores is not None or not options.rerank):
        found = [hit for hit in found[: len(found if scores is None else scores)] if hit.score >= options.min_score]
    if options.diverse:
        seen = min(asked.seen_by(options.diverse), len(found if scores is None else scores))  # scores of one kind
        found = postprocess.diverse(found[:seen], options.diverse, limit=wanted) + found[seen:]
    if options.rerank or options.diverse:
        found = found[asked.offset : wanted]
    return found
