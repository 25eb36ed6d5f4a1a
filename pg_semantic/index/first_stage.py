"""SQL for the first stage of a search: what the vector index contains, and the distance that it orders by.

With `Compressed`, that is less than the vector, and the distance is approximate: it chooses candidates, which `vector`
then orders. Otherwise it is the vector itself.
"""

from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import VECTOR

from pg_semantic.index import chunk_tables, distances, vector_index
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.vector_types import StoredHalfVector

MAX_WIDTH = 1000  # pgvector's limit


def distance(tables: Tables, chunks: sa.FromClause, aimed: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """Returns the distance that the vector index orders by.

    Args:
        tables: The tables of the semantic index.
        chunks: Its chunk table, or an alias of that.
        aimed: What `aimed` returned.
    """
    indexed, compressed = of_chunk(tables, chunks), tables.spec.compressed
    if compressed is not None and compressed.bits:
        return indexed.op("<~>", return_type=sa.Float())(aimed)
    return distances.distance(indexed, aimed)


def aimed(tables: Tables, query: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Returns a query vector in the form that the vector index contains.

    The database rotates it, which takes it less than 0.1 ms: so every statement has the basis of its generation. NULL
    while there is none.
    """
    compressed = tables.spec.compressed
    if compressed is None:
        return query
    if compressed.bits:
        return vector_index.signs(tables.spec, query)
    rotated = sa.func.semantic.rotated_v1(*_generation(tables), sa.cast(query, VECTOR()), type_=VECTOR())
    return sa.cast(rotated, StoredHalfVector(compressed.prefix))


def of_chunk(tables: Tables, chunks: sa.FromClause) -> sa.ColumnElement[Any]:
    """Returns what the vector index contains of a chunk, given its table or an alias of that."""
    compressed = tables.spec.compressed
    if compressed is None:
        return chunks.c.vector
    return vector_index.signs(tables.spec, chunks.c.vector) if compressed.bits else chunks.c.prefix


def candidates(tables: Tables, wanted: int, *, ef_search: int | None = None) -> sa.ColumnElement[int]:
    """Returns how many candidates the first stage hands on, for a LIMIT: as many as the scan keeps.

    That is ``ef_search``, a third more, and ``wanted``, because the first stage ranks some rows too low: with that, the
    recall of both stages is about that of an index on vectors, for the same CPU time. It is NULL, which is no limit,
    until all chunks have a prefix: then the second stage orders all of them, and the result is exact. It is a stable
    function, not a subquery, because the planner computes it in advance.

    Args:
        tables: The tables of the semantic index.
        wanted: How many rows the search should find.
        ef_search: The number instead of the one that was chosen for the index.
    """
    numbers = (sa.cast(wanted, sa.Integer), sa.cast(ef_search, sa.Integer))
    has_prefixes = sa.true() if tables.spec.prefix is not None else sa.false()
    return sa.func.semantic.candidates_v1(*_generation(tables), has_prefixes, *numbers, type_=sa.Integer)


def handed_on(
    chunks: "sa.Select[*tuple[Any, ...]]",
    order: sa.ColumnElement[float],
    count: sa.ColumnElement[int],
    *,
    has_prefixes: bool,
) -> "sa.CompoundSelect[*tuple[Any, ...]] | sa.Select[*tuple[Any, ...]]":
    """Selects what the first stage hands on: the ``count`` nearest of these chunks, or all if that is NULL.

    All of them are another SELECT, without an order: to avoid a sort, the planner may otherwise scan the vector index
    for all chunks, and such a scan ends when it has used up its memory.
    """
    if not has_prefixes:
        return chunks.order_by(order).limit(count)
    every = chunks.limit(sa.case((count.is_(None), sa.cast(sa.null(), sa.Integer)), else_=sa.literal_column("0")))
    return sa.union_all(chunks.order_by(order).limit(sa.func.coalesce(count, sa.literal_column("0"))), every)


def width(tables: Tables, wanted: int, *, ef_search: int | None = None) -> sa.ColumnElement[str]:
    """Returns the value of ``hnsw.ef_search`` for a scan that hands on `candidates`, as text."""
    if ef_search is not None:
        return sa.literal(str(width_of(wanted, ef_search)), sa.Text)
    return sa.cast(sa.func.least(candidates(tables, wanted), MAX_WIDTH), sa.Text)


def width_of(wanted: int, ef_search: int) -> int:
    """Returns what `candidates` is in SQL, at most pgvector's limit."""
    return min(MAX_WIDTH, wanted + ef_search + ef_search // 3)


def _generation(tables: Tables) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """The generation by its number, or by its chunk table; the other one is NULL."""
    if tables.generation is None:
        return sa.cast(sa.null(), sa.Integer), chunk_tables.RegClass(tables.chunks)
    return sa.literal(tables.generation, sa.Integer), sa.cast(sa.null(), chunk_tables.KeyType("regclass"))
