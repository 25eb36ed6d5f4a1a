"""How near a row's text is to a query vector, as SQL: the distance of chunks, and the settings of the scan for them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler

from pg_semantic import errors
from pg_semantic.index import chunk_tables
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import IndexSpec

Vector: TypeAlias = Sequence[float] | NDArray[Any]
Order: TypeAlias = Literal["strict_order", "relaxed_order"]

# pgvector's limit; what a scan looks at beyond limit + offset makes up for chunks of the same row and for recall.
_MAX_EF_SEARCH = 1000
_MIN_EF_SEARCH = 100
_EF_SEARCH_FACTOR = 2
# So many chunks are looked at before a scan gives up; pgvector's own 20,000 ends it when a filter lets few through.
_MAX_SCAN_TUPLES = 1_000_000
# Beyond these a number may not fit 16 bits, nor its square 32; the length of a vector does not matter to its cosine.
_LEAST, _MOST = 1e-3, 1e3
_SCAN_MEM_MULTIPLIER = 32  # of work_mem


def query_vector(spec: IndexSpec, vector: Vector) -> sa.ColumnElement[Any]:
    """A query vector as SQL. Raises what `checked_numbers` raises."""
    kind = chunk_tables.vector_type(spec)
    return QueryVector(sa.bindparam("query_vector", checked_numbers(spec, vector), type_=kind, unique=True), kind)


def query_parameter(spec: IndexSpec, name: str) -> sa.ColumnElement[Any]:
    """A query vector as SQL, given to a statement by name as it is executed: the `query_literal` of one."""
    return QueryVector(sa.bindparam(name, type_=sa.types.NullType()), chunk_tables.vector_type(spec))


def checked_numbers(spec: IndexSpec, vector: Vector) -> list[float]:
    """A query vector as it is sent; raises `errors.QueryError` for other dimensions, zeros, and what is not finite."""
    try:
        given = np.asarray(vector, np.float32)
    except (TypeError, ValueError) as error:
        raise errors.QueryError(f"The query vector can not be read as numbers: {error}.") from None
    dimensions = spec.encoder.dimensions
    if given.shape != (dimensions,):
        raise errors.QueryError(
            f"The query vector has shape {given.shape}; {spec.name!r} takes ({dimensions},), as made by "
            f"encoder {spec.encoder.reference!r}."
        )
    if not np.isfinite(given).all() or not given.any():
        raise errors.QueryError("The query vector must be finite and not all zeros.")
    longest = np.abs(given).max()
    if not _LEAST <= longest <= _MOST:
        given = given / longest
    found: list[float] = given.tolist()
    return found


def query_literal(spec: IndexSpec, vector: Vector) -> str:
    """A query vector as the server reads it, in a third of the time that pgvector's types take.

    Raises as `checked_numbers` does.
    """
    return vector_literal(checked_numbers(spec, vector), "[]")


def vector_literal(values: Sequence[float], brackets: str) -> str:
    """Numbers as a literal in brackets, with the digits that tell all of 32 bits apart."""
    return f"{brackets[0]}{','.join(['%.9g'] * len(values))}{brackets[1]}" % tuple(values)


def distance(vector: sa.ColumnElement[Any], asked: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """Cosine distance, 0 to 2, in the form that the vector index serves."""
    return vector.op("<=>", return_type=sa.Float())(asked)


def computed_distance(vector: sa.ColumnElement[Any], asked: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """The same in a form that the vector index can not serve, so that every distance is computed."""
    return distance(vector, asked) + sa.literal_column("0")


def same_encoder(tables: Tables) -> list[sa.ColumnElement[bool]]:
    """The condition that the vectors are of the encoder that is declared, an error of the server otherwise.

    It is asked once a statement. The views of a generation need none: the names say which encoder it is.
    """
    if tables.generation is not None:
        return []
    spec = tables.spec
    encoder = sa.bindparam("encoder", spec.encoder.reference, sa.Text, unique=True)
    dimensions = sa.bindparam("dimensions", spec.encoder.dimensions, sa.Integer, unique=True)
    same = sa.func.semantic.require_encoder_v1(
        chunk_tables.RegClass(tables.chunks), encoder, dimensions, type_=sa.Boolean
    )
    return [sa.select(same.label("same_encoder")).scalar_subquery()]


def same_table(tables: Tables) -> list[sa.ColumnElement[bool]]:
    """The condition that the source is the table that the index was made for, an error of the server otherwise.

    A table that is loaded beside another and takes its name has other rows by the same keys. It is asked once a
    statement.
    """
    declared = tables.chunks if tables.declared is None else tables.declared
    if tables.generation is not None and tables.declared is None:
        return []  # asked by a generation's number, with its source
    same = sa.func.semantic.require_source_v1(
        chunk_tables.RegClass(declared), chunk_tables.RegClass(tables.source), type_=sa.Boolean
    )
    return [sa.select(same.label("same_table")).scalar_subquery()]


def row_distance(tables: Tables, asked: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """The distance of a row's nearest chunk, NULL for a row that has none; correlated with the source."""
    chunks = tables.chunks.alias()
    same_row = (chunks.c[column.name] == column for column in tables.source_key)
    nearest = sa.select(sa.func.min(distance(chunks.c.vector, asked), type_=sa.Float)).where(
        *same_row, *same_encoder(tables)
    )
    return nearest.correlate(tables.source).scalar_subquery()


def with_scan_settings(asked: sa.ColumnElement[Any], *, wanted: int, order: Order) -> sa.ScalarSelect[Any]:
    """The query vector as a scalar subquery that sets the scan's settings when it is computed.

    It is computed once, before the index scan that takes its value begins. So the settings need no statement of
    their own, no event hook and no round trip, hold in AUTOCOMMIT, and end with the transaction.
    """
    done = (
        sa.func.set_config(name, value, sa.true(), type_=sa.Text).is_not(None)
        for name, value in scan_settings(wanted, order=order).items()
    )
    return sa.select(sa.case((sa.and_(*done), asked))).scalar_subquery()


def scan_settings(wanted: int, *, order: Order) -> Mapping[str, str]:
    """The settings of pgvector for a scan that is to give so many rows, however few a filter lets through."""
    ef_search = min(_MAX_EF_SEARCH, max(_MIN_EF_SEARCH, wanted * _EF_SEARCH_FACTOR))
    return {
        "hnsw.ef_search": str(ef_search),
        "hnsw.iterative_scan": order,
        "hnsw.max_scan_tuples": str(_MAX_SCAN_TUPLES),
        "hnsw.scan_mem_multiplier": str(_SCAN_MEM_MULTIPLIER),
    }


class QueryVector(sa.ColumnElement[Any]):
    """A query vector that is sent as text, whatever the driver has been told of pgvector's types.

    asyncpg asks the server for a parameter's type and encodes by that, and codecs that an application has registered
    (``pgvector.asyncpg.register_vector``) take no text. There it is read from a text, once, by a subquery.
    """

    __visit_name__ = "query_vector"
    _traverse_internals = [  # noqa: RUF012 - as SQLAlchemy has it
        ("given", visitors.InternalTraversal.dp_clauseelement),
        ("type", visitors.InternalTraversal.dp_type),
    ]
    inherit_cache = True

    def __init__(self, given: sa.BindParameter[Any], kind: sa.types.TypeEngine[Any]) -> None:
        self.given, self.type = given, kind

    @property
    def _from_objects(self) -> list[sa.FromClause]:
        return []


@compiles(QueryVector)
def _query_vector(element: QueryVector, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    return compiler.process(sa.cast(element.given, element.type), **options)


@compiles(QueryVector, "postgresql")
def _query_vector_of_driver(element: QueryVector, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    if compiler.dialect.driver != "asyncpg":
        return _query_vector(element, compiler, **options)
    read = sa.select(sa.cast(sa.cast(element.given, sa.Text), element.type)).scalar_subquery()
    return compiler.process(read, **options)


class IndexableDistance(sa.ColumnElement[float]):
    """The distance to order by: served by the vector index, or computed for every chunk if ``exact``."""

    __visit_name__ = "nearest"
    _traverse_internals = [  # noqa: RUF012 - as SQLAlchemy has it
        ("vector", visitors.InternalTraversal.dp_clauseelement),
        ("asked", visitors.InternalTraversal.dp_clauseelement),
        ("with_scan_settings", visitors.InternalTraversal.dp_clauseelement),
        ("exact", visitors.InternalTraversal.dp_boolean),
    ]
    inherit_cache = True
    type = sa.Float()

    def __init__(
        self, vector: sa.ColumnElement[Any], asked: sa.ColumnElement[Any], aimed: sa.ColumnElement[Any]
    ) -> None:
        self.vector, self.asked, self.aimed = vector, asked, aimed
        self.exact = False

    @property
    def _from_objects(self) -> list[sa.FromClause]:
        return self.vector._from_objects  # noqa: SLF001 - what any element says of itself


@compiles(IndexableDistance)
def _nearest(element: IndexableDistance, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    if element.exact:
        return compiler.process(computed_distance(element.vector, element.asked), **options)
    return compiler.process(distance(element.vector, element.aimed), **options)
