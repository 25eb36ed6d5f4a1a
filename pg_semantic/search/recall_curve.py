"""Recall against latency at different values of ``hnsw.ef_search``: `recall_curve`.

It measures chunks, and the vector index alone; `recall` measures rows, as searches find them.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pg_semantic import database, errors
from pg_semantic.index import chunk_tables, distances
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search.recall import interval

WIDTHS = (16, 32, 64, 100, 200, 400)  # values of hnsw.ef_search; a search for up to 50 rows uses 100

_SAME_DISTANCE = 1e-6
_WALKING = {"enable_seqscan": "off", "enable_sort": "off", "hnsw.iterative_scan": "off"}


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What was measured at one value of ``hnsw.ef_search``.

    Attributes:
        ef_search: The value.
        recall: The mean recall, 0 to 1.
        low: The lower end of its 95% interval.
        high: The upper end.
        ms: The median time of an index scan, in milliseconds.
    """

    ef_search: int
    recall: float
    low: float
    high: float
    ms: float


@dataclass(frozen=True, slots=True)
class RecallCurve:
    """Recall and latency of a vector index.

    Attributes:
        index: The name of the semantic index.
        queries: How many queries were measured.
        limit: How many chunks each query asked for.
        exact_ms: The median time to compute every distance, in milliseconds.
        points: One point per value of ``hnsw.ef_search``, in the order given; the lowest first by default.
    """

    index: str
    queries: int
    limit: int
    exact_ms: float
    points: tuple[CurvePoint, ...]


def recall_curve(
    connection: sa.Connection,
    index: BoundIndex[Any],
    *,
    sample: int = 20,
    limit: int = 10,
    widths: Sequence[int] = WIDTHS,
) -> RecallCurve:
    """Measures the recall and latency of the vector index at each width.

    Makes the planner use the vector index, however small the table is. Changes only settings of the transaction.
    Takes as long as ``sample`` exact searches and ``sample`` index scans per width.

    Args:
        sample: How many chunks to pick at random as queries. A chunk does not find itself.
        limit: How many chunks each query asks for.
        widths: Values of ``hnsw.ef_search``.

    Raises:
        errors.QueryError: The index has fewer than two chunks.
    """
    with database.translated():
        vectors = _picked(connection, index, sample=sample)
        walking, computing = (_nearest(index, limit=limit, exact=exact) for exact in (False, True))
        true = [_timed(connection, computing, vector) for vector in vectors]
        if not true or not true[0][0]:
            raise errors.QueryError(f"There is nothing to measure: {index.name!r} has fewer than two vectors.")
        connection.execute(_settings(**_WALKING))
        points = []
        for width in widths:
            connection.execute(_settings(**{"hnsw.ef_search": str(width)}))
            _timed(connection, walking, vectors[0])  # warms up: the first scan is always slower
            found = [_timed(connection, walking, vector) for vector in vectors]
            points.append(_point(width, found, true))
    return RecallCurve(index.name, len(vectors), limit, statistics.median(ms for _, ms in true), tuple(points))


def _picked(connection: sa.Connection, index: BoundIndex[Any], *, sample: int) -> list[Any]:
    """Vectors of random chunks, the same ones for the same rows."""
    tables = index.tables
    name = sa.cast(sa.func.row(*tables.chunk_key, tables.chunks.c.ordinal), sa.Text)
    order = sa.func.hashtextextended(name, sa.cast(0, sa.BigInteger))
    return list(connection.scalars(sa.select(tables.chunks.c.vector).order_by(order, name).limit(sample)))


def _nearest(index: BoundIndex[Any], *, limit: int, exact: bool) -> "sa.Select[float]":
    """Selects the distances of the chunks nearest to a vector. The first is the vector itself."""
    vector, kind = index.tables.chunks.c.vector, chunk_tables.vector_type(index.spec)
    asked = sa.cast(sa.bindparam("asked", type_=kind), kind)
    distance = distances.distance(vector, asked)
    order = distances.computed_distance(vector, asked) if exact else distance
    return sa.select(distance).order_by(order).limit(limit + 1)


def _settings(**values: str) -> "sa.Select[*tuple[Any, ...]]":
    return sa.select(*(sa.func.set_config(name, value, sa.true(), type_=sa.Text) for name, value in values.items()))


def _timed(connection: sa.Connection, statement: "sa.Select[float]", vector: object) -> tuple[Sequence[float], float]:
    """Returns the distances of other chunks than the vector's own, in order, and the milliseconds."""
    began = time.perf_counter()
    found = connection.scalars(statement, {"asked": vector}).all()
    return found[1:], (time.perf_counter() - began) * 1000


def _point(
    width: int, found: Sequence[tuple[Sequence[float], float]], true: Sequence[tuple[Sequence[float], float]]
) -> CurvePoint:
    shares = [
        sum(distance <= exact[-1] + _SAME_DISTANCE for distance in walked) / len(exact)
        for (walked, _), (exact, _) in zip(found, true, strict=True)
    ]
    mean = statistics.fmean(shares)
    return CurvePoint(width, mean, *interval(mean, len(shares)), statistics.median(ms for _, ms in found))
