"""Search as SQL: pure functions that return a `Select` and never execute it.

Both shapes rank each row by its best chunk, within the one query level where a caller's ``where()`` and joins land,
so filters apply before the limit. `knn` walks the vector index; `exact` computes every distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from pg_semantic import errors, schema
from pg_semantic.declare import BoundIndex

T = TypeVar("T")

_SORTS_FURTHER = (17,)

# pgvector's limit; what a scan looks at beyond limit + offset makes up for chunks of the same row and for recall.
_MAX_EF_SEARCH = 1000
_MIN_EF_SEARCH = 100
_EF_SEARCH_FACTOR = 2
_MOST_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Ranked(Generic[T]):
    """A statement, and the columns of the best chunk that can be added to it."""

    statement: "sa.Select[T, float]"
    content: sa.ColumnElement[str]
    ordinal: sa.ColumnElement[int]


def knn(
    index: BoundIndex[T], vector: Sequence[float] | NDArray[Any], *, limit: int = 10, offset: int = 0
) -> "sa.Select[T, float]":
    """The rows nearest to a vector by cosine, best first, with their scores, found through the vector index.

    The score is the cosine similarity of the row's best chunk, -1 to 1; equal scores are ordered by key, before
    PostgreSQL 17 by nothing. The statement brings its own index settings, for the transaction that it runs in:
    ``hnsw.ef_search`` to suit limit and offset, and iterative scan, so that a filter does not starve the result. Under
    a filter that matches almost nothing far away from the vector, the scan may still end early
    (``hnsw.max_scan_tuples``): `exact` does not.

    Raises `errors.QueryError` for a vector of other dimensions, of zeros, or not finite.
    """
    return ranked_knn(index, vector, limit=limit, offset=offset).statement


def exact(
    index: BoundIndex[T], vector: Sequence[float] | NDArray[Any], *, limit: int = 10, offset: int = 0
) -> "sa.Select[T, float]":
    """As `knn`, computing every distance: no approximation, and time in proportion to the rows that match."""
    return ranked_exact(index, vector, limit=limit, offset=offset).statement


def ranked_knn(index: BoundIndex[T], vector: Sequence[float] | NDArray[Any], *, limit: int, offset: int) -> Ranked[T]:
    """As `knn`, with the chunk's columns at hand."""
    tables, chunks = index.tables, index.tables.chunks.c
    query = _query(index, vector)
    aimed = _aimed(query, wanted=limit + offset)
    statement = (
        sa.select(index.entity, (1 - _distance(chunks.vector, query)).label("score"))
        .join(tables.chunks, _same_row(tables.chunk_key, tables.source_key))
        .where(_is_best_chunk(tables, query))
        .order_by(_distance(chunks.vector, aimed), *(_tie_break(column) for column in tables.source_key))
    )
    return Ranked(_cut(statement, limit, offset=offset), chunks.content, chunks.ordinal)


def ranked_exact(index: BoundIndex[T], vector: Sequence[float] | NDArray[Any], *, limit: int, offset: int) -> Ranked[T]:
    """As `exact`, with the chunk's columns at hand."""
    tables = index.tables
    chunks = tables.chunks.alias()
    distance = _computed_distance(chunks.c.vector, _query(index, vector)).label("distance")
    chunk_key = [chunks.c[column.name] for column in tables.source_key]
    best = (
        sa.select(distance, chunks.c.content, chunks.c.ordinal)
        .where(_same_row(chunk_key, tables.source_key))
        .order_by(distance, chunks.c.ordinal)
        .limit(1)
        .lateral()
    )
    statement = (
        sa.select(index.entity, (1 - best.c.distance).label("score"))
        .join(best, sa.true())
        .order_by(best.c.distance, *tables.source_key)
    )
    return Ranked(_cut(statement, limit, offset=offset), best.c.content, best.c.ordinal)


def _query(index: BoundIndex[T], vector: Sequence[float] | NDArray[Any]) -> sa.ColumnElement[Any]:
    numbers = np.asarray(vector, np.float32)
    dimensions = index.spec.encoder.dimensions
    if numbers.shape != (dimensions,):
        raise errors.QueryError(
            f"The query vector has shape {numbers.shape}; {index.name!r} takes ({dimensions},), as made by "
            f"encoder {index.spec.encoder.reference!r}."
        )
    if not np.isfinite(numbers).all() or not numbers.any():
        raise errors.QueryError("The query vector must be finite and not all zeros.")
    kind = schema.vector_type(index.spec)
    return sa.cast(sa.bindparam("query_vector", numbers.tolist(), type_=kind, unique=True), kind)


def _aimed(query: sa.ColumnElement[Any], *, wanted: int) -> sa.ScalarSelect[Any]:
    """The query vector as a scalar subquery that sets the scan's settings when it is computed.

    It is computed once, before the index scan that takes its value begins. So the settings need no statement of
    their own, no event hook and no round trip, hold in AUTOCOMMIT, and end with the transaction.
    """
    ef_search = min(_MAX_EF_SEARCH, max(_MIN_EF_SEARCH, wanted * _EF_SEARCH_FACTOR))
    settings = {"hnsw.ef_search": str(ef_search), "hnsw.iterative_scan": "strict_order"}
    done = (sa.func.set_config(name, value, sa.true(), type_=sa.Text).is_not(None) for name, value in settings.items())
    return sa.select(sa.case((sa.and_(*done), query))).scalar_subquery()


def _is_best_chunk(tables: schema.Tables, query: sa.ColumnElement[Any]) -> sa.ScalarSelect[bool]:
    """Whether a chunk is its row's nearest; one that lies as near and stands earlier wins.

    It is a boolean subquery, not a comparison with one, so that the planner expects it to let half of the rows
    through; a comparison it takes for so selective that it would rather not use the vector index.
    """
    other = tables.chunks.alias()
    other_key = [other.c[column.name] for column in tables.chunk_key]
    return (
        sa.select(other.c.ordinal == tables.chunks.c.ordinal)
        .where(_same_row(other_key, tables.chunk_key))
        .order_by(_computed_distance(other.c.vector, query), other.c.ordinal)
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
    if version is not None and version < _SORTS_FURTHER:
        return "CAST(NULL AS integer)"
    return compiler.process(element.clauses, **options)


def _distance(vector: sa.ColumnElement[Any], query: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """Cosine distance, 0 to 2, in the form that the vector index serves."""
    return vector.op("<=>", return_type=sa.Float())(query)


def _computed_distance(vector: sa.ColumnElement[Any], query: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """The same in a form that the vector index can not serve, so that every distance is computed."""
    return _distance(vector, query) + sa.literal_column("0")


def _same_row(a: Sequence[sa.ColumnElement[Any]], b: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    return sa.and_(*(left == right for left, right in zip(a, b, strict=True)))


def _cut(statement: "sa.Select[T, float]", limit: int, *, offset: int) -> "sa.Select[T, float]":
    if limit < 1 or offset < 0 or limit + offset > _MOST_ROWS:
        raise errors.QueryError(
            f"limit={limit}, offset={offset}: limit must be 1 or more, offset 0 or more, and both together "
            f"{_MOST_ROWS} at most."
        )
    cut = statement.limit(limit)
    return cut.offset(offset) if offset else cut
