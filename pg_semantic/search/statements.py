"""Search statements: pure functions that return a `Select` and never execute it.

`knn` ranks rows by their best chunk, found through the vector index. `exact` ranks by the best chunk too, but computes
every distance. `lexical` ranks by BM25. Each ranks in the outermost query, which is where a caller's ``where()`` and
joins go, so filters apply before the limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from pg_semantic import errors, registry
from pg_semantic.index import bm25_expressions, distances, first_stage
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.distances import Vector
from pg_semantic.index.more_like_this import Examples
from pg_semantic.search import scan_settings, short_results, validation
from pg_semantic.search.candidates import CandidateChunks

T = TypeVar("T")
QueryLike: TypeAlias = Vector | Examples | sa.ColumnElement[Any]  # the last is a query vector as SQL

SORTS_FURTHER = (17,)  # from this version, PostgreSQL can sort the output of an index scan by further columns


@dataclass(frozen=True, slots=True)
class Ranked(Generic[T]):
    """A statement, and the score that orders its rows."""

    statement: "sa.Select[T, float]"
    score: sa.ColumnElement[float]


def knn(
    index: BoundIndex[T], vector: Vector | Examples, *, limit: int = 10, offset: int = 0, ef_search: int | None = None
) -> "sa.Select[T, float]":
    """Selects the rows nearest to a vector, best first, through the vector index.

    You can add ``where()``, joins and ORM options as to any `Select`; filters apply before the limit. The statement
    sets up its own index scan, until the end of the transaction: it sets ``hnsw.ef_search`` to suit limit and offset,
    or to what was chosen for the recall of the index, and turns on iterative scans, so that filters don't leave the
    result short. If a Session or AsyncSession still gets
    fewer than ``limit`` rows, it reruns the statement with every distance computed, so a result is short only if no
    more rows match. A Core connection doesn't rerun it, and a `knn` inside a larger statement isn't rerun either.

    Args:
        index: The semantic index, such as ``Article.semantic``.
        vector: A query vector, which need not be normalized, or ``index.similar_to(...)`` for rows similar to examples.
        limit: How many rows to return. Set it here rather than with ``.limit()``, to set up the index scan for it.
        offset: How many rows to skip, for which the same holds.
        ef_search: How many candidates the scan keeps, 1 to 1000, instead of the number that it would choose.

    Returns:
        A statement for rows of the entity and its score: the cosine similarity of the row's best chunk, -1 to 1. Rows
        with equal scores are ordered by key, but before PostgreSQL 17 in no particular order. The vector index rounds:
        with 16-bit vectors, rows whose scores differ by less than 0.001 can be swapped.

    Raises:
        errors.QueryError: The vector has the wrong dimensions, is all zeros or is not finite, or limit, offset or
            ef_search is out of range.
    """
    ranked = ranked_knn(index, vector, limit=limit, offset=offset, ef_search=ef_search)
    return ranked.statement.options(short_results.RerunIfShort(limit))


def exact(
    index: BoundIndex[T], vector: Vector | Examples, *, limit: int = 10, offset: int = 0
) -> "sa.Select[T, float]":
    """Selects the rows nearest to a vector, best first, by computing every distance.

    The arguments, the result and the errors are those of `knn`, without its approximation. The time grows in
    proportion to the rows that match the filters.
    """
    return ranked_exact(index, vector, limit=limit, offset=offset).statement


def lexical(
    index: BoundIndex[T], text: str, *, match: Match = "any", limit: int = 10, offset: int = 0
) -> "sa.Select[T, float]":
    """Selects the rows that match the words of a text, best first by BM25.

    Args:
        index: The semantic index, such as ``Article.semantic``.
        text: The query. The text search configuration of the index reduces its words to lexemes. Only the 100 rarest
            lexemes count. A text of only stop words matches nothing.
        match: Which rows match: those with ``any`` of the words, with ``all`` of them, with the ``phrase``, or by
            ``websearch`` syntax (quotes, ``or``, ``-``).
        limit: How many rows to return.
        offset: How many rows to skip.

    Returns:
        A statement for rows of the entity and its BM25 score, 0 or more, whose scale depends on the corpus. Rows with
        equal scores are ordered by key. The score uses the statistics that the worker counted last.

    Raises:
        errors.QueryError: The text is empty or otherwise not valid, limit or offset is out of range, or the index
            was declared with ``lexical=None``.
    """
    return ranked_lexical(index, query_words(text, match), match=match, limit=limit, offset=offset).statement


def ranked_knn(
    index: BoundIndex[T],
    vector: QueryLike,
    *,
    limit: int,
    offset: int,
    order: scan_settings.Order = "strict_order",
    ef_search: int | None = None,
) -> Ranked[T]:
    """Ranks as `knn` does. ``relaxed_order`` finds more of the nearest rows, but not quite in order."""
    validation.check_page(limit=limit, offset=offset)
    scan_settings.check_ef_search(ef_search)
    tables, chunks = index.tables, index.tables.chunks.c
    query = query_vector(index, vector)
    nearness = _nearness(tables, query, wanted=limit + offset, order=order, ef_search=ef_search)
    score = 1 - distances.distance(chunks.vector, query)
    statement = _eligible(index, score, vector)
    if tables.spec.compressed is None:
        statement = statement.where(_is_best_chunk(tables, query)).order_by(nearness)
    else:
        count = first_stage.candidates(tables, limit + offset, ef_search=ef_search)
        place, best = [*tables.chunk_key, chunks.ordinal], _is_best_chunk(tables, query)
        chosen = CandidateChunks(
            place, nearness, count=count, eligible=best, has_prefixes=tables.spec.prefix is not None
        )
        statement = statement.where(chosen)
        statement = statement.order_by(distances.computed_distance(chunks.vector, query))
    statement = statement.order_by(*(_tie_break(column) for column in tables.source_key))
    return Ranked(validation.paginate(statement, limit=limit, offset=offset), score)


def candidates(
    index: BoundIndex[T],
    vector: QueryLike,
    *,
    where: Sequence[sa.ColumnExpressionArgument[bool]],
    limit: int,
    ef_search: int | None = None,
) -> "sa.CompoundSelect[*tuple[Any, ...]] | sa.Select[*tuple[Any, ...]]":
    """Selects the candidates of a compressed vector index. The ``limit`` ones with the best scores are the result.

    Without filters, it doesn't read the source: the policies on chunks are those on their rows. `Request.is_short`
    notices if they aren't.

    Returns:
        A statement for the columns ``key_0``, ``key_1`` and so on, and ``score``, in no particular order.
    """
    scan_settings.check_ef_search(ef_search)
    tables = index.tables
    query = query_vector(index, vector)
    score = (1 - distances.distance(tables.chunks.c.vector, query)).label("score")
    whole = bool(where) or isinstance(vector, Examples)
    columns = [column.label(f"key_{number}") for number, column in enumerate(tables.chunk_key)]
    if whole:
        found = _eligible(index, score, vector).with_only_columns(*columns, score, maintain_column_froms=True)
    else:
        found = sa.select(*columns, score).where(*distances.same_encoder(tables), *distances.same_table(tables))
    best = [] if tables.spec.chunking is None else [_is_best_chunk(tables, query)]
    nearness = _nearness(tables, query, wanted=limit, order="relaxed_order", ef_search=ef_search)
    count = first_stage.candidates(tables, limit, ef_search=ef_search)
    return first_stage.handed_on(
        found.where(*where, *best), nearness, count, has_prefixes=tables.spec.prefix is not None
    )


def _eligible(index: BoundIndex[T], score: sa.ColumnElement[float], vector: QueryLike) -> "sa.Select[T, float]":
    """Selects rows with their chunks."""
    tables = index.tables
    return (
        sa.select(index.entity, score.label("score"))
        .join(tables.chunks, _same_row(tables.chunk_key, tables.source_key))
        .where(*distances.same_encoder(tables), *distances.same_table(tables), *_wanted(vector))
    )


def _nearness(
    tables: Tables, query: sa.ColumnElement[Any], *, wanted: int, order: scan_settings.Order, ef_search: int | None
) -> sa.ColumnElement[float]:
    """Returns what the vector index orders by, with the settings of its scan."""
    aimed = first_stage.aimed(tables, query)
    if tables.spec.compressed is not None:
        width = first_stage.width(tables, wanted, ef_search=ef_search)
        return first_stage.distance(tables, tables.chunks, scan_settings.with_width(aimed, width, order=order))
    chosen = registry.ef_search_of(tables) if ef_search is None else ef_search
    asked = scan_settings.with_scan_settings(aimed, wanted=wanted, order=order, ef_search=chosen)
    return distances.IndexableDistance(tables.chunks.c.vector, query, asked)


def ranked_exact(index: BoundIndex[T], vector: QueryLike, *, limit: int, offset: int) -> Ranked[T]:
    """Ranks as `exact` does."""
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
        .order_by(score.desc(), *tables.source_key)  # not by distance: the subtraction rounds some of them alike
    )
    return Ranked(validation.paginate(statement, limit=limit, offset=offset), score)


def ranked_lexical(
    index: BoundIndex[T], text: sa.ColumnElement[str], *, match: Match, limit: int, offset: int
) -> Ranked[T]:
    """Ranks as `lexical` does. Raises `errors.QueryError` if the index has no BM25."""
    tables, receipts = index.tables, index.tables.receipts.c
    if index.spec.lexical is None:
        raise errors.QueryError(_without_words(index))
    query = bm25_expressions.query(tables, index.spec.lexical, text, match=match)
    # Sorted before the join with the source; otherwise the planner looks up the row of every match to return ten.
    value = bm25_expressions.score(receipts.weights, query).label("value")
    own_key = [column.label(f"key_{number}") for number, column in enumerate(tables.receipt_key)]
    matches = (
        sa.select(*own_key, value)
        .where(bm25_expressions.matches(receipts.lexemes, query))
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
    """Returns the query vector as SQL."""
    if isinstance(vector, sa.ColumnElement):
        return vector
    return vector.query() if isinstance(vector, Examples) else distances.query_vector(index.spec, vector)


def query_words(text: str, match: Match) -> sa.ColumnElement[str]:
    """Returns the query text as SQL. Raises `errors.QueryError` if it is not valid, or not with this ``match``."""
    bm25_expressions.check(validation.check_query_text(text), match)
    return sa.literal(text, sa.Text)


def _without_words(index: BoundIndex[Any]) -> str:
    if index.tables.generation is None:
        return (
            f"Semantic index {index.name!r} was declared with lexical=None, so it has no BM25: declare it with "
            "lexical=Lexical(...), or search by meaning only."
        )
    return (
        f"The live generation of semantic index {index.name!r} was built with lexical=None, so it has no BM25: build "
        f"one that has it (`pg-semantic generation begin {index.name} --lexical english`, or declare "
        "lexical=Lexical(...) and migrate), or search by meaning only."
    )


def _wanted(vector: QueryLike) -> list[sa.ColumnElement[bool]]:
    """Conditions of a search by examples: they have vectors that don't cancel out, and the row is none of them."""
    return [vector.is_not_zero(), vector.is_other()] if isinstance(vector, Examples) else []


def _is_best_chunk(tables: Tables, query: sa.ColumnElement[Any]) -> sa.ScalarSelect[bool]:
    """Whether a chunk is the nearest of its row; of equally near chunks, the first.

    This is a boolean subquery because the planner expects half of the rows to pass it. It takes a comparison with a
    subquery to be so selective that it avoids the vector index.
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


class _tie_break(FunctionElement[Any]):  # noqa: N801 - a SQL function, named as in SQLAlchemy
    """A column to order by after the distance, if the server can do that and still use the vector index.

    From PostgreSQL 17, the server can sort the output of a scan that is ordered by distance by further columns. Before,
    a second ORDER BY column means computing every distance.
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
