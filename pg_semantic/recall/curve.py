"""Recall against latency at different values of ``hnsw.ef_search``: `recall_curve`.

It measures chunks, and the vector index alone; `search.recall` measures rows, as searches find them. The worker
measures with the same two steps: `nearest_of_sample`, then `scanned`.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pg_semantic import database, errors
from pg_semantic.index import chunk_tables, distances, first_stage
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.recall import random_chunks
from pg_semantic.recall.score_interval import interval

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


def recall_curve(  # noqa: PLR0913 - options
    connection: sa.Connection,
    index: BoundIndex[Any],
    *,
    sample: int = 20,
    limit: int = 10,
    widths: Sequence[int] = WIDTHS,
    until: float | None = None,
    on_point: Callable[[], object] = lambda: None,
) -> RecallCurve:
    """Measures the recall and latency of the vector index at each width.

    Makes the planner use the vector index, however small the table is. Leaves the settings of the transaction as they
    were.
    Takes as long as ``sample`` exact searches and ``sample`` index scans per width.

    Args:
        sample: How many chunks to pick at random as queries. A chunk does not find itself.
        limit: How many chunks each query asks for.
        widths: Values of ``hnsw.ef_search``.
        until: Ends with the first width whose interval is not below this recall.
        on_point: Called after each width.

    Raises:
        errors.QueryError: The index has fewer than two chunks; or see `scanned`.
    """
    with database.translated():
        true = nearest_of_sample(connection, index.tables, sample=sample, limit=limit)
        if not true or not true[0].distances:
            raise errors.QueryError(f"There is nothing to measure: {index.name!r} has fewer than two vectors.")
        points: list[CurvePoint] = []
        for width in widths:
            points.append(_point(width, scanned(connection, index.tables, true, ef_search=width), true))
            on_point()
            if until is not None and points[-1].low >= until:
                break
    return RecallCurve(index.name, len(true), limit, statistics.median(one.ms for one in true), tuple(points))


@dataclass(frozen=True, slots=True)
class NearestChunks:
    """The chunks nearest to the vector of a stored chunk, with every distance computed.

    Attributes:
        vector: The vector.
        distances: The distances of the nearest other chunks, in order.
        ms: How long it took, in milliseconds.
    """

    vector: Any
    distances: Sequence[float]
    ms: float


def nearest_of_sample(
    connection: sa.Connection,
    tables: Tables,
    *,
    sample: int,
    limit: int,
    seed: int = 0,
    seconds: float = math.inf,
) -> list[NearestChunks]:
    """Picks chunks at random, the same ones for the same rows and seed, and computes what is nearest to each.

    Args:
        connection: Finds pgvector on its search_path.
        tables: The tables of a semantic index.
        sample: How many chunks to pick. Picking reads all keys.
        limit: How many chunks each query asks for.
        seed: Which chunks are picked.
        seconds: Ends early when this time has passed, after one query at least.
    """
    statement, ends_at = _nearest(tables, limit=limit), time.perf_counter() + seconds
    found: list[NearestChunks] = []
    for vector in connection.scalars(random_chunks.picked(tables, sample=sample, seed=seed)).all():
        found.append(NearestChunks(vector, *_timed(connection, statement, vector)))
        if time.perf_counter() > ends_at:
            break
    return found


def scanned(
    connection: sa.Connection, tables: Tables, true: Sequence[NearestChunks], *, ef_search: int
) -> list[tuple[int, float]]:
    """Scans the vector index for the same queries.

    Changes settings of the transaction meanwhile, so that the planner uses the index.

    Args:
        connection: In the transaction that computed ``true``; with REPEATABLE READ, no change counts as a miss.
        tables: The tables of the semantic index.
        true: What `nearest_of_sample` returned.
        ef_search: The value of ``hnsw.ef_search``.

    Returns:
        For each query, how many of the nearest chunks it found, and the milliseconds. A chunk at the distance of the
        last of the nearest ones counts as found, since it is chance which of them comes last.

    Raises:
        errors.QueryError: The connection commits each statement, so the settings would have no effect.
    """
    statement = _nearest(tables, limit=len(true[0].distances), ef_search=ef_search)
    wanted = _WALKING | {"hnsw.ef_search": str(_width(tables, len(true[0].distances), ef_search))}
    now = sa.select(*(sa.func.current_setting(name, sa.true()).label(name) for name in wanted))
    before = connection.execute(now).mappings().one()
    connection.execute(settings(**wanted))
    if connection.scalar(sa.select(sa.func.current_setting("enable_sort"))) != "off":
        raise errors.QueryError(
            "Recall is measured with settings of a transaction, and this connection commits each statement: use "
            "another isolation level than AUTOCOMMIT."
        )
    _timed(connection, statement, true[0].vector)  # warms up: the first scan is always slower
    found = []
    for one in true:
        walked, ms = _timed(connection, statement, one.vector)
        found.append((sum(distance <= one.distances[-1] + _SAME_DISTANCE for distance in walked), ms))
    connection.execute(settings(**before))  # after an error, the caller's rollback does this
    return found


def _width(tables: Tables, limit: int, ef_search: int) -> int:
    """Returns how many candidates a scan keeps: with a compressed index, as many as it hands on."""
    return ef_search if tables.spec.compressed is None else first_stage.width_of(limit + 1, ef_search)


def _nearest(tables: Tables, *, limit: int, ef_search: int | None = None) -> "sa.Select[float]":
    """Selects the distances of the chunks nearest to a vector, exactly without ``ef_search``. It finds itself first."""
    vector, kind = tables.chunks.c.vector, chunk_tables.vector_type(tables.spec)
    asked = sa.cast(sa.bindparam("asked", type_=kind), kind)
    distance = distances.distance(vector, asked)
    if ef_search is None:
        return sa.select(distance).order_by(distances.computed_distance(vector, asked)).limit(limit + 1)
    if tables.spec.compressed is None:
        return sa.select(distance).order_by(distance).limit(limit + 1)
    aimed = sa.select(first_stage.aimed(tables, asked)).scalar_subquery()
    nearness = first_stage.distance(tables, tables.chunks, aimed)
    count = first_stage.candidates(tables, limit + 1, ef_search=ef_search)
    found = sa.select(distance.label("distance")).order_by(nearness).limit(count).subquery()
    return sa.select(found.c.distance).order_by(found.c.distance).limit(limit + 1)


def settings(**values: str) -> "sa.Select[*tuple[Any, ...]]":
    """Returns a statement that changes settings of the transaction."""
    return sa.select(*(sa.func.set_config(name, value, sa.true(), type_=sa.Text) for name, value in values.items()))


def _timed(connection: sa.Connection, statement: "sa.Select[float]", vector: object) -> tuple[Sequence[float], float]:
    """Returns the distances of other chunks than the vector's own, in order, and the milliseconds."""
    began = time.perf_counter()
    found = connection.scalars(statement, {"asked": vector}).all()
    return found[1:], (time.perf_counter() - began) * 1000


def _point(width: int, found: Sequence[tuple[int, float]], true: Sequence[NearestChunks]) -> CurvePoint:
    shares = [count / len(one.distances) for (count, _), one in zip(found, true, strict=True)]
    mean = statistics.fmean(shares)
    return CurvePoint(width, mean, *interval(mean, len(shares)), statistics.median(ms for _, ms in found))
