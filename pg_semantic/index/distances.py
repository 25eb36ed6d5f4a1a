"""SQL for the distance between chunks and a query vector."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from pgvector.sqlalchemy import VECTOR
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler

from pg_semantic import errors
from pg_semantic.compat import sqlalchemy_internals
from pg_semantic.index import chunk_tables
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import IndexSpec

Vector: TypeAlias = Sequence[float] | NDArray[Any]

# Beyond these limits a number may not fit in 16 bits, or its square in 32. Scaling a vector doesn't change its cosine.
_LEAST, _MOST = 1e-3, 1e3


def query_vector(spec: IndexSpec, vector: Vector) -> sa.ColumnElement[Any]:
    """Returns a query vector as SQL.

    Raises:
        errors.QueryError: As in `checked_numbers`.
    """
    kind = chunk_tables.vector_type(spec)
    return QueryVector(sa.bindparam("query_vector", checked_numbers(spec, vector), type_=kind, unique=True), kind)


def query_parameter(spec: IndexSpec, name: str) -> sa.ColumnElement[Any]:
    """Returns a query vector as a bind with this name; its value at execution is a `query_literal`."""
    return QueryVector(sa.bindparam(name, type_=sa.types.NullType()), chunk_tables.vector_type(spec))


def checked_numbers(spec: IndexSpec, vector: Vector) -> list[float]:
    """Returns a query vector as it is sent, scaled down or up if its numbers are too large or too small for 16 bits.

    Raises:
        errors.QueryError: The vector has other dimensions, is zero, or is not finite.
    """
    try:
        given = np.asarray(vector, np.float32)
    except (TypeError, ValueError) as error:
        raise errors.QueryError(f"The query vector cannot be read as numbers: {error}.") from None
    dimensions = spec.encoder.dimensions
    if given.shape != (dimensions,):
        raise errors.QueryError(
            f"The query vector has shape {given.shape}, but {spec.name!r} needs ({dimensions},): encode the query with "
            f"{spec.encoder.reference!r}."
        )
    if not np.isfinite(given).all() or not given.any():
        raise errors.QueryError("The query vector must be finite and not all zeros.")
    longest = np.abs(given).max()
    if not _LEAST <= longest <= _MOST:
        given = given / longest
    found: list[float] = given.tolist()
    return found


def query_literal(spec: IndexSpec, vector: Vector) -> str:
    """Returns a query vector as a pgvector literal, in a third of the time that pgvector's own types take.

    Raises:
        errors.QueryError: As in `checked_numbers`.
    """
    return vector_literal(checked_numbers(spec, vector), "[]")


def vector_literal(values: Sequence[float], brackets: str) -> str:
    """Returns numbers as a literal in brackets, with enough digits to preserve 32-bit floats."""
    return f"{brackets[0]}{','.join(['%.9g'] * len(values))}{brackets[1]}" % tuple(values)


def distance(vector: sa.ColumnElement[Any], asked: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """Returns the cosine distance, 0 to 2, in a form that the vector index supports."""
    return vector.op("<=>", return_type=sa.Float())(asked)


def computed_distance(vector: sa.ColumnElement[Any], asked: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """Returns the cosine distance in a form that the vector index does not support, so that all are computed."""
    return distance(vector, asked) + sa.literal_column("0")


def normalized(vector: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Returns a vector of type ``vector`` scaled to length 1; a zero vector stays as it is."""
    return sa.func.l2_normalize(vector, type_=VECTOR())


def same_encoder(tables: Tables) -> list[sa.ColumnElement[bool]]:
    """Returns a condition that fails with a server error unless the vectors come from the declared encoder.

    It is evaluated once per statement. The views of a generation don't need it: their names imply the encoder.
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
    """Returns a condition that fails with a server error unless the source is the table that was indexed.

    If another table was loaded and then renamed to replace the source, it may have other rows under the same keys.
    The condition is evaluated once per statement.
    """
    declared = tables.chunks if tables.declared is None else tables.declared
    if tables.generation is not None and tables.declared is None:
        return []  # the generation's id already implies the source
    same = sa.func.semantic.require_source_not_replaced_v1(
        chunk_tables.RegClass(declared), chunk_tables.RegClass(tables.source), type_=sa.Boolean
    )
    return [sa.select(same.label("same_table")).scalar_subquery()]


def row_distance(tables: Tables, asked: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """Returns the distance of a row's nearest chunk, as a subquery correlated with the source. NULL without chunks."""
    chunks = tables.chunks.alias()
    same_row = (chunks.c[column.name] == column for column in tables.source_key)
    nearest = sa.select(sa.func.min(distance(chunks.c.vector, asked), type_=sa.Float)).where(
        *same_row, *same_encoder(tables)
    )
    return nearest.correlate(tables.source).scalar_subquery()


class QueryVector(sa.ColumnElement[Any]):
    """A query vector that is sent as text, even if the driver has codecs for pgvector's types.

    asyncpg asks the server for a parameter's type and encodes accordingly, and codecs that an application registered
    (``pgvector.asyncpg.register_vector``) reject text. For asyncpg, a subquery casts the vector from text, once.
    """

    __visit_name__ = "query_vector"
    _traverse_internals = [  # noqa: RUF012 - as in SQLAlchemy
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
    """The distance to order by: supported by the vector index, or computed for every chunk if ``exact``."""

    __visit_name__ = "nearest"
    _traverse_internals = [  # noqa: RUF012 - as in SQLAlchemy
        ("vector", visitors.InternalTraversal.dp_clauseelement),
        ("asked", visitors.InternalTraversal.dp_clauseelement),
        ("aimed", visitors.InternalTraversal.dp_clauseelement),
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
        return sqlalchemy_internals.from_objects(self.vector)


@compiles(IndexableDistance)
def _nearest(element: IndexableDistance, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    if element.exact:
        return compiler.process(computed_distance(element.vector, element.asked), **options)
    return compiler.process(distance(element.vector, element.aimed), **options)
