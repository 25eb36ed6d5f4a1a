"""Search as SQL: pure functions that return a `Select` and never execute it.

Each ranks rows within the one query level where a caller's ``where()`` and joins land, so filters apply before the
limit: `knn` by the best chunk, found through the vector index, `exact` by the best chunk, every distance computed, and
`lexical` by BM25.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from pg_semantic import errors
from pg_semantic.index import bm25, distances
from pg_semantic.index.bm25 import Match
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.declare import BoundIndex
from pg_semantic.index.distances import Order, Vector
from pg_semantic.index.more_like_this import Examples
from pg_semantic.search import short_results, validation

T = TypeVar("T")
QueryLike: TypeAlias = Vector | Examples | sa.ColumnElement[Any]  # the last for a query vector as SQL

SORTS_FURTHER = (17,)  # the PostgreSQL that sorts what an index gives in order by more


@dataclass(frozen=True, slots=True)
class Ranked(Generic[T]):
    """A statement whose rows are in order, and the score that they are in order of."""

    statement: "sa.Select[T, float]"
    score: sa.ColumnElement[float]


def knn(index: BoundIndex[T], vector: Vector | Examples, *, limit: int = 10, offset: int = 0) -> "sa.Select[T, float]":
    """The rows nearest to a vector by cosine, best first, with their scores, found through the vector index.

    The score is the cosine similarity of the row's best chunk, -1 to 1; equal scores are ordered by key, before
    PostgreSQL 17 by nothing. The order is that of the vector index, whose distances are rounded: with 16-bit vectors,
    scores that differ by less than 0.001 may stand the other way round.

    The statement brings its own index settings, for the transaction that it runs in: ``hnsw.ef_search`` to suit limit
    and offset, and iterative scan, so that a filter does not starve the result. What a Session or AsyncSession gets
    fewer rows for than ``limit`` it runs again, exactly: so a result is short only when there are no more rows. A Core
    connection does not, nor is a part of a larger statement completed.

    Raises `errors.QueryError` for a vector of other dimensions, of zeros, or not finite.
    """
    ranked = ranked_knn(index, vector, limit=limit, offset=offset)
    return ranked.statement.options(short_results.RerunIfShort(limit))


def exact(
    index: BoundIndex[T], vector: Vector | Examples, *, limit: int = 10, offset: int = 0
) -> "sa.Select[T, float]":
    """As `knn`, computing every distance: no approximation, and time in proportion to the rows that match."""
    return ranked_exact(index, vector, limit=limit, offset=offset).statement


def lexical(
    index: BoundIndex[T], text: str, *, match: Match = "any", limit: int = 10, offset: int = 0
) -> "sa.Select[T, float]":
    """The rows that match a text's words, best first, with their BM25 scores; equal scores are ordered by key.

    ``match`` says which rows match: those with ``any`` of the words, with ``all`` of them, with the ``phrase``, or by
    the rules of search engines (``websearch``: quotes, ``or``, ``-``). Words are what the index's text search
    configuration makes of them; of a text with more than a hundred different ones the hundred rarest count. A text of
    stop words alone matches nothing. The score is 0 or more, its scale that of the corpus; the statistics it needs are
    the worker's, of the last time it counted.

    Raises `errors.QueryError` for an empty text, and for an index without ``lexical``.
    """
    return ranked_lexical(index, query_words(text, match), match=match, limit=limit, offset=offset).statement


def ranked_knn(
    index: BoundIndex[T], vector: QueryLike, *, limit: int, offset: int, order: Order = "strict_order"
) -> Ranked[T]:
    """As `knn`; with ``relaxed_order`` more of the nearest are found, and are not quite in order."""
    validation.check_page(limit=limit, offset=offset)
    tables, chunks = index.tables, index.tables.chunks.c
    query = query_vector(index, vector)
    aimed = distances.with_scan_settings(query, wanted=limit + offset, order=order)
    score = 1 - distances.distance(chunks.vector, query)
    statement = (
        sa.select(index.entity, score.label("score"))
        .join(tables.chunks, _same_row(tables.chunk_key, tables.source_key))
        .where(*distances.same_encoder(tables), *distances.same_table(tables))
        .where(_is_best_chunk(tables, query), *_wanted(vector))
        .order_by(
            distances.IndexableDistance(chunks.vector, query, aimed),
            *(_tie_break(column) for column in tables.source_key),
        )
    )
    return Ranked(validation.paginate(statement, limit=limit, offset=offset), score)


def ranked_exact(index: BoundIndex[T], vector: QueryLike, *, limit: int, offset: int) -> Ranked[T]:
    """As `exact`."""
    tables = index.tables
    chunks = tables.chunks.alias()
    distance = distances.computed_distance(chunks.c.vector, query_vector(index, vector)).label("distance")
    chunk_key = [chunks.c[column.name] for column in tables.source_key]
    best = sa.select(distance).where(_same_row(chunk_key, tables.source_key)).order_by(distance).limit(1).lateral()
    score = 1 - best.c.distance
    statement = (
        sa.select(index.entity, score.label("score"))
        .join(best, sa.true())
        .where(*distances.same_encoder(tables), *distances.same_table(tables), *_wanted(vector))
        .order_by(best.c.distance, *tables.source_key)
    )
    return Ranked(validation.paginate(statement, limit=limit, offset=offset), score)


def ranked_lexical(
    index: BoundIndex[T], text: sa.ColumnElement[str], *, match: Match, limit: int, offset: int
) -> Ranked[T]:
    """As `lexical`."""
    tables, receipts = index.tables, index.tables.receipts.c
    if index.spec.lexical is None:
        raise errors.QueryError(_without_words(index))
    query = bm25.query(tables, index.spec.lexical, text, match=match)
    # Sorted before they are joined with the source: the planner would look up the row of every match, to show ten.
    value = bm25.score(receipts.weights, query).label("value")
    own_key = [column.label(f"key_{number}") for number, column in enumerate(tables.receipt_key)]
    matches = (
        sa.select(*own_key, value)
        .where(bm25.matches(receipts.lexemes, query))
        .order_by(value.desc(), *tables.receipt_key)
        .subquery()
    )
    key = [matches.c[column.name] for column in own_key]
    found: sa.ColumnElement[float] = matches.c.value
    statement = (
        sa.select(index.entity, found.label("score"))
        .join(matches, _same_row(key, tables.source_key))
        .where(*distances.same_table(tables))
        .order_by(found.desc(), *key)
    )
    return Ranked(validation.paginate(statement, limit=limit, offset=offset), found)


def query_vector(index: BoundIndex[Any], vector: QueryLike) -> sa.ColumnElement[Any]:
    """The query vector as SQL."""
    if isinstance(vector, sa.ColumnElement):
        return vector
    return vector.query() if isinstance(vector, Examples) else distances.query_vector(index.spec, vector)


def query_words(text: str, match: Match) -> sa.ColumnElement[str]:
    """The text of a query as SQL; raises `errors.QueryError` for one that can not be searched for."""
    bm25.check(validation.check_query_text(text), match)
    return sa.literal(text, sa.Text)


def _without_words(index: BoundIndex[Any]) -> str:
    if index.tables.generation is None:
        return (
            f"Semantic index {index.name!r} was declared with lexical=None, so it has no BM25: declare it with "
            "lexical=Lexical(...), or search by vector alone."
        )
    return (
        f"The live copy of semantic index {index.name!r} was made with lexical=None, so it has no BM25: make another "
        f"that has (`pg-semantic generation begin {index.name} --lexical english`, or a declaration with "
        "lexical=Lexical(...) and its migration), or search by vector alone."
    )


def _wanted(vector: QueryLike) -> list[sa.ColumnElement[bool]]:
    """What rows have to be beside near: no examples; none at all when no example has a vector, or they cancel out."""
    return [vector.points_somewhere(), vector.is_other()] if isinstance(vector, Examples) else []


def _is_best_chunk(tables: Tables, query: sa.ColumnElement[Any]) -> sa.ScalarSelect[bool]:
    """Whether a chunk is its row's nearest; one that lies as near and stands earlier wins.

    It is a boolean subquery, not a comparison with one, so that the planner expects it to let half of the rows
    through; a comparison it takes for so selective that it would rather not use the vector index.
    """
    other = tables.chunks.alias()
    other_key = [other.c[column.name] for column in tables.chunk_key]
    return (
        sa.select(other.c.ordinal == tables.chunks.c.ordinal)
        .where(_same_row(other_key, tables.chunk_key))
        .order_by(distances.computed_distance(other.c.vector, query), other.c.ordinal)
        .limit(1)
        .correlate(tables.chunks)
        .scalar_subquery()
    )


class _tie_break(FunctionElement[Any]):  # noqa: N801 - a function of SQL, written as SQLAlchemy writes them
    """A column to order by after the distance, where the server can do that and still walk the vector index.

    PostgreSQL 17 learnt to sort what comes in order of distance further; before, a second thing to order by means
    computing every distance.
    """

    inherit_cache = True


@compiles(_tie_break)
def _render_tie_break(element: _tie_break, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    version = getattr(compiler.dialect, "server_version_info", None)
    if version is not None and version < SORTS_FURTHER:
        return "CAST(NULL AS integer)"
    return compiler.process(element.clauses, **options)


def _same_row(a: Sequence[sa.ColumnElement[Any]], b: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    return sa.and_(*(left == right for left, right in zip(a, b, strict=True)))
