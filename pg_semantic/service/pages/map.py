"""A map of an index: a sample of its vectors as points on a plane, colored by a column or by cluster."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import sqlalchemy as sa
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from numpy.typing import NDArray
from pydantic import Field

from pg_semantic import database, errors, registry, sql
from pg_semantic.index import declare, seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import IndexSpec, Lexical
from pg_semantic.search import cluster_terms, k_means
from pg_semantic.service.dependencies import ServiceDep
from pg_semantic.service.pages import index_picker, projection, status, templates
from pg_semantic.service.pages.projection import Plane
from pg_semantic.service.request_limits import Name, RequestModel

router = APIRouter()

_PATIENCE = "60s"
_GROUPS = 8  # with a color of their own; the others share one
_OTHERS, _NONE = "others", "none"
_VALUE = 60  # characters
_COLUMN = "column:"
_CLUSTER = "cluster"


class MapForm(RequestModel):
    """The form of the map; ``color`` is ``cluster``, ``column:`` and a name, or empty."""

    index: Name
    sample: Annotated[int, Field(ge=2, le=2000)] = 500
    color: Annotated[str, Field(max_length=200)] = ""


@dataclass(frozen=True, slots=True)
class MapPoint:
    """A chunk on the map: its row's key, its group, and the start of its text."""

    key: str
    group: str
    text: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class VectorMap:
    """The points, sorted by group with the largest first, and the share of the vectors' variance that they show."""

    points: Sequence[MapPoint]
    groups: Sequence[str]
    variance: float
    by_cluster: bool


@router.get("/colors")
async def colors(shared: ServiceDep, index: Annotated[Name, Query()]) -> HTMLResponse:
    """Returns a menu of what the points of an index can be colored by."""
    columns = await asyncio.to_thread(_readable, index_picker.database(shared).engine, index)
    return templates.answer("map_colors", columns=columns, can_cluster=k_means.can_cluster())


@router.get("/map")
async def drawn(shared: ServiceDep, wanted: Annotated[MapForm, Query()]) -> HTMLResponse:
    """Returns the points of a sample."""
    drawn = await asyncio.to_thread(_drawn, index_picker.database(shared).engine, wanted)
    return templates.answer("map_points", drawn=drawn, wanted=wanted)


def _readable(engine: sa.Engine, name: str) -> list[str]:
    with database.translated(), status.read_only(engine) as connection:
        return _columns(connection, registry.find(connection, name).spec)


def _columns(connection: sa.Connection, spec: IndexSpec) -> list[str]:
    source = database.qualified_name(spec.schema, spec.table)
    return list(connection.scalars(sql.statement("registry", "readable_columns"), {"source": source}))


def _drawn(engine: sa.Engine, wanted: MapForm) -> VectorMap:
    column = wanted.color.removeprefix(_COLUMN) if wanted.color.startswith(_COLUMN) else None
    with database.translated(), status.read_only(engine) as connection:
        spec = registry.find(connection, wanted.index).spec
        if column is not None and column not in _columns(connection, spec):
            raise errors.QueryError(f"{spec.table} has no column of that name that the service's role can read.")
        connection.execute(sa.select(sa.func.set_config("statement_timeout", _PATIENCE, sa.true())))
        rows = connection.execute(_statement(declare.bind(spec), column, sample=wanted.sample)).all()
        if not rows:
            raise errors.QueryError(f"Nothing to draw: {wanted.index} has no vectors that the service's role can see.")
        vectors = np.asarray([np.asarray(row.vector, np.float32) for row in rows])
        plane = projection.project(vectors)
        by_cluster = wanted.color == _CLUSTER and k_means.can_cluster()
        if by_cluster:
            groups = _clusters(connection, vectors, [row.text for row in rows], lexical=spec.lexical)
        else:
            groups = [_NONE if row.value is None else str(row.value) for row in rows]
    key = [column.name for column in spec.key]
    named = [(_key(key, row), row.text) for row in rows]
    return _vector_map(plane, named, groups, by_cluster=by_cluster)


def _clusters(
    connection: sa.Connection, vectors: NDArray[np.float32], texts: Sequence[str], *, lexical: Lexical | None
) -> list[str]:
    """Returns the name of each text's cluster. It consists of words of these texts, which the role can see."""
    clusters = k_means.clustered(vectors, count=k_means.usual_count(len(vectors), most=_GROUPS))
    found = cluster_terms.of(connection, texts, clusters, lexical=lexical)
    names = [", ".join(terms) or f"cluster {number}" for number, terms in enumerate(found, start=1)]
    return [names[cluster] for cluster in clusters]


def _statement(index: BoundIndex[Any], column: str | None, *, sample: int) -> "sa.Select[*tuple[Any, ...]]":
    """Selects random chunks of rows that the role can see. The same rows always give the same sample."""
    chunks, keys = index.tables.chunks, index.tables.chunk_key
    names = dict.fromkeys([*(key.name for key in index.spec.key), *([column] if column is not None else [])])
    source = sa.table(index.spec.table, *map(sa.column, names), schema=index.spec.schema)
    same = sa.and_(*(source.c[key.name] == key for key in keys))
    name = sa.cast(sa.func.row(*keys, chunks.c.ordinal), sa.Text)
    order = seeds.order(name, 0)
    value = sa.null() if column is None else sa.func.left(sa.cast(source.c[column], sa.Text), _VALUE)
    chosen = sa.select(
        chunks.c.vector,
        sa.func.left(chunks.c.content, cluster_terms.LENGTH).label("text"),
        value.label("value"),
        *(key.label(f"key_{number}") for number, key in enumerate(keys)),
    )
    return chosen.select_from(chunks.join(source, same)).order_by(order, name).limit(sample)


def _vector_map(
    plane: Plane, named: Sequence[tuple[str, str]], groups: Sequence[str], *, by_cluster: bool
) -> VectorMap:
    largest = [group for group, _ in Counter(groups).most_common(_GROUPS)]
    groups = [group if group in largest else _OTHERS for group in groups]
    points = [
        MapPoint(key, group, text, float(x), float(y))
        for (key, text), group, (x, y) in zip(named, groups, plane.points, strict=True)
    ]
    order = list(dict.fromkeys([*largest, *groups]))
    points.sort(key=lambda point: order.index(point.group))
    return VectorMap(points, order, plane.variance, by_cluster)


def _key(names: Sequence[str], row: Any) -> str:  # noqa: ANN401 - its columns depend on the index
    return ", ".join(f"{name} {getattr(row, f'key_{number}')}" for number, name in enumerate(names))
