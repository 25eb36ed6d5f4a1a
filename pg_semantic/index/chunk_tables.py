"""Builds the tables of a spec: chunk table, receipt table and vector index, in the schema of the source.

``metadata.create_all()`` creates them like any other table, and `triggers` adds the triggers and the registry row. The
vector index is the exception: it is declared here, but a worker builds it once most vectors have been written.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import DOMAIN, TSVECTOR
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import UserDefinedType

from pg_semantic.index import keys, partitions, triggers, vector_index
from pg_semantic.index.spec import IndexSpec
from pg_semantic.index.vector_types import StoredHalfVector, StoredVector

# The role of a generation; see docs/explanation/generations.md.
Role = Literal["live", "next", "previous"]

# The dimension of a lexeme in a sparse vector is a hash of the lexeme; see `semantic.lexeme_position_v1`.
PLACES = 1_000_000_000

_INTEGERS = {"smallint", "integer", "bigint"}

# The operators of a B-tree, in the order of their strategy numbers.
_ORDER = (operators.lt, operators.le, operators.eq, operators.ge, operators.gt)

_BLANK = " \t\n\r\f\v"


class _OnlyThisTable(sa.Table):
    """A table that FROM reads with ONLY, without the tables that inherit from it."""


@compiles(_OnlyThisTable)
def _only(element: _OnlyThisTable, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    name: str = compiler.visit_table(element, **options)  # type: ignore[no-untyped-call]
    return f"ONLY {name}" if options.get("asfrom") else name


class KeyType(UserDefinedType[Any]):
    """A key column's Postgres type by name, for tables without a mapped class.

    Statements select values as text, which works for any type and for dates that Python cannot represent. Integers
    stay integers. ``operators`` are the SQL for <, <=, =, >= and > of a type whose operators are not in `pg_catalog`.
    """

    cache_ok = True

    class Comparator(UserDefinedType.Comparator[Any]):
        """Compares with the operators of the type."""

        def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> sa.ColumnElement[Any]:  # noqa: ANN401
            """Returns the expression with the type's own operator, if it has one."""
            kind: Any = self.type
            if kind.operators is not None and op in _ORDER:
                op = operators.custom_op(kind.operators[_ORDER.index(op)], is_comparison=True, return_type=sa.Boolean())
            return super().operate(op, *other, **kwargs)

    comparator_factory = Comparator

    def __init__(self, name: str, operators: tuple[str, ...] | None = None) -> None:
        self.name = name
        self.operators = operators

    def get_col_spec(self, **_: object) -> str:
        """Returns the type's name, which `spec.KeyColumn` has validated."""
        return self.name

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        """Casts a bound value to the type: Postgres cannot infer the type of a record."""
        return sa.cast(bindvalue, self)

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Casts a selected value to text, unless it is an integer."""
        return colexpr if self.name in _INTEGERS else sa.cast(colexpr, sa.Text)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one generation of a semantic index.

    With a ``generation``, chunks and receipts are views whose names stay the same when its role changes, and
    ``declared`` may be the chunk table that a search named. Without one, they are the tables under the names that
    belong to their role.
    """

    spec: IndexSpec
    source: sa.Table
    chunks: sa.Table
    receipts: sa.Table
    generation: int | None = None
    declared: sa.Table | None = None

    @property
    def source_key(self) -> list[sa.ColumnElement[Any]]:
        """The key columns of the source, in key order."""
        return [keys.column(self.source, one.name) for one in self.spec.key]

    @property
    def chunk_key(self) -> list[sa.Column[Any]]:
        """The key columns of the chunk table, in key order."""
        return [self.chunks.c[column.name] for column in self.spec.key]

    @property
    def receipt_key(self) -> list[sa.Column[Any]]:
        """The key columns of the receipt table, in key order."""
        return [self.receipts.c[column.name] for column in self.spec.key]

    @property
    def vector_index(self) -> sa.Index:
        """The HNSW index of the chunk table."""
        return next(index for index in self.chunks.indexes if index.name == f"{self.chunks.name}_vector_idx")

    @property
    def lexical_index(self) -> sa.Index:
        """The GIN index of the receipt table. It exists only if `IndexSpec.lexical` is set."""
        return next(index for index in self.receipts.indexes if index.name == f"{self.chunks.name}_lexemes_idx")

    @property
    def late_indexes(self) -> list[sa.Index]:
        """The indexes that a worker builds once most rows have been written, in build order."""
        return [*([self.lexical_index] if self.spec.lexical else []), self.vector_index]


def build(spec: IndexSpec, source: sa.Table | None = None, *, role: Role = "live") -> Tables:
    """Returns the tables of a semantic index, in the source's MetaData.

    Args:
        spec: The semantic index.
        source: The source table. If None, it is derived from the spec.
        role: The generation whose tables to build. Only "live" adds triggers and the registry row.
    """
    if source is None:
        source = _source(spec)
    name = name_of(spec, role)
    receipts = _receipts(spec, source, name=name)
    chunks = _chunks(spec, source, name=name)
    chunks.add_is_dependent_on(receipts)
    if role == "live":
        triggers.attach(spec, source=source, chunks=chunks, receipts=receipts)
    return Tables(spec, source, chunks, receipts)


@functools.lru_cache(maxsize=256)
def views_of(
    spec: IndexSpec,
    generation: int,
    *,
    partitioned: bool = False,
    operators: tuple[tuple[str, ...] | None, ...] = (),
) -> Tables:
    """Returns the views of a generation, whose names stay the same when its role changes.

    Cached, because SQLAlchemy's statement cache only hits for the same table objects.

    Args:
        spec: The semantic index.
        generation: The generation's id.
        partitioned: Whether the source is partitioned. Otherwise tables that inherit from it are not read.
        operators: The operators of each key column, as in `KeyType`.
    """
    source = _source(spec, sa.Table if partitioned else _OnlyThisTable, operators)
    for column in _carried_column(spec):
        if column.name not in source.c:
            source.append_column(column)
    chunks, receipts = (
        sa.Table(
            f"{kind}_{generation}",
            sa.MetaData(),
            *_key_columns(spec, source),
            *columns,
            *_carried_column(spec),
            schema="semantic",
        )
        for kind, columns in (("chunks", _chunk_columns(spec)), ("receipts", _receipt_columns(spec)))
    )
    return Tables(spec, source, chunks, receipts, generation)


def name_of(spec: IndexSpec, role: Role) -> str:
    """Returns the name of a generation's chunk table, which is also the prefix of its other tables and indexes."""
    return spec.name if role == "live" else f"{spec.name}__{role}"


class RegClass(sa.ColumnElement[str]):
    """The OID of a table, looked up by name with the session's search path and `schema_translate_map`."""

    __visit_name__ = "named_table"
    _traverse_internals = [("table", visitors.InternalTraversal.dp_clauseelement)]  # noqa: RUF012 - as in SQLAlchemy
    inherit_cache = True
    type = sa.Text()

    def __init__(self, table: sa.FromClause) -> None:
        self.table = getattr(table, "element", table)  # the table behind an alias

    @property
    def _from_objects(self) -> list[sa.FromClause]:
        return []


@compiles(RegClass)
def _named(element: RegClass, compiler: SQLCompiler, **_: object) -> str:
    name = compiler.preparer.format_table(element.table).replace("'", "''")
    return f"to_regclass('{name}')"


def text_of(spec: IndexSpec, row: sa.FromClause) -> sa.ColumnElement[str]:
    """Returns the SQL expression of a row's text: its nonblank columns, separated by blank lines.

    Each element of an array is on its own line.
    """
    return sa.func.concat_ws("\n\n", *(unblank(text_in(row, name)) for name in spec.columns), type_=sa.Text)


def text_in(row: sa.FromClause, name: str) -> sa.ColumnElement[str]:
    """Returns the SQL expression of the text in a row's column."""
    return sa.func.semantic.value_as_text_v1(keys.column(row, name), type_=sa.Text)


def unblank(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Returns the SQL expression of a text without white space around it; NULL if it is blank."""
    return sa.func.nullif(sa.func.btrim(text, _BLANK), "", type_=sa.Text)


def octets_of(spec: IndexSpec, row: sa.FromClause) -> sa.ColumnElement[int]:
    """Returns the SQL expression of an upper bound on the size of a row's text, in bytes.

    It costs almost nothing: the server knows the size of a stored value without reading it.
    """
    sizes = (sa.func.octet_length(sa.cast(keys.column(row, name), sa.Text)) for name in spec.columns)
    return sum((sa.func.coalesce(size, 0, type_=sa.Integer) + 2 for size in sizes), sa.literal_column("0", sa.Integer))


def is_text(of: sa.types.TypeEngine[Any]) -> bool:
    """Returns whether a column of this type can be a text column of a semantic index.

    Looks inside decorated types, domains and arrays.
    """
    if isinstance(of, sa.types.TypeDecorator):
        return is_text(of.impl_instance)
    if isinstance(of, DOMAIN):
        return is_text(of.data_type)
    if isinstance(of, sa.ARRAY):
        return is_text(of.item_type)
    return isinstance(of, sa.String)


def not_text(table: str, name: str, kind: str) -> str:
    """Returns advice for a column that is not text."""
    example = f"{name}->>'summary'" if kind.lower().startswith("json") else f"CAST({name} AS text)"
    return (
        "name text columns, or add a generated text column and name that one: "
        f"ALTER TABLE {table} ADD COLUMN {name}_text text GENERATED ALWAYS AS ({example}) STORED."
    )


def source_hash(text: sa.ColumnElement[str]) -> sa.ColumnElement[bytes]:
    """Returns the SQL equivalent of `hashing.content_hash`."""
    return sa.func.sha256(sa.func.convert_to(text, "UTF8"), type_=sa.LargeBinary)


def vector_type(spec: IndexSpec) -> StoredHalfVector | StoredVector:
    """Returns the SQLAlchemy type of the vectors."""
    kind = StoredHalfVector if spec.storage == "halfvec" else StoredVector
    return kind(spec.encoder.dimensions)


def _source(spec: IndexSpec, kind: type[sa.Table] = sa.Table, own: tuple[tuple[str, ...] | None, ...] = ()) -> sa.Table:
    types = itertools.starmap(KeyType, zip((one.type for one in spec.key), own or [None] * len(spec.key), strict=True))
    key = [sa.Column(column.name, type_, primary_key=True) for column, type_ in zip(spec.key, types, strict=True)]
    names = {column.name for column in spec.key}
    texts = [sa.Column(name, sa.Text) for name in spec.columns if name not in names]
    return kind(spec.table, sa.MetaData(), *key, *texts, schema=spec.schema)


def _carried_column(spec: IndexSpec) -> list[sa.Column[Any]]:
    """Returns the carried column, without a type: statements only compare it, and Python never reads its values."""
    return [sa.Column(spec.carried, sa.types.NullType())] if spec.carried else []


def _key_columns(spec: IndexSpec, source: sa.Table) -> list[sa.Column[Any]]:
    return [
        sa.Column(one.name, keys.column(source, one.name).type, primary_key=True, autoincrement=False)
        for one in spec.key
    ]


def _to_source(spec: IndexSpec, source: sa.Table) -> sa.ForeignKeyConstraint:
    names = [column.name for column in spec.key]
    columns = [keys.column(source, name) for name in names]
    return sa.ForeignKeyConstraint(names, columns, ondelete="CASCADE", onupdate="CASCADE")


def _receipts(spec: IndexSpec, source: sa.Table, *, name: str) -> sa.Table:
    receipts = sa.Table(
        f"{name}_receipt",
        source.metadata,
        *_key_columns(spec, source),
        *_receipt_columns(spec),
        _to_source(spec, source),
        schema=source.schema,
        comment="One row per synced row: the hash of the text that its chunks come from, and the lexemes of that text",
    )
    if spec.lexical is not None:
        sa.Index(
            f"{name}_lexemes_idx",
            receipts.c.lexemes,
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},  # every search would have to read the pending list
            postgresql_concurrently=True,
        ).ddl_if(callable_=_built_by_the_worker)
    sa.Index(
        f"{name}_truncated_idx",
        *(receipts.c[column.name] for column in spec.key),
        postgresql_where=receipts.c.truncated,
    )
    return receipts


def _receipt_columns(spec: IndexSpec) -> list[sa.Column[Any]]:
    """Columns of a receipt. BM25 adds the lexemes, their weights, and the average length behind the weights."""
    columns: list[sa.Column[Any]] = [
        sa.Column("source_hash", sa.LargeBinary, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        sa.Column("truncated", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("embedded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    ]
    if spec.lexical is None:
        return columns
    return [
        *columns,
        sa.Column("lexemes", TSVECTOR, nullable=False),
        sa.Column("weights", SPARSEVEC(PLACES), nullable=False),
        sa.Column("weights_length", sa.Double, nullable=False),
    ]


def _chunk_columns(spec: IndexSpec) -> list[sa.Column[Any]]:
    return [
        sa.Column("ordinal", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("vector", vector_type(spec), nullable=False),
        sa.Column("content_hash", sa.LargeBinary, nullable=False),
        sa.Column("encoder_id", sa.BigInteger, nullable=False),
        sa.Column("token_count", sa.Integer, nullable=False),
        sa.Column("truncated", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("embedded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
        *([] if spec.prefix is None else [sa.Column("prefix", StoredHalfVector(spec.prefix))]),
    ]


def _chunks(spec: IndexSpec, source: sa.Table, *, name: str) -> sa.Table:
    chunks = sa.Table(
        name,
        source.metadata,
        *_key_columns(spec, source),
        *_chunk_columns(spec),
        _to_source(spec, source),
        sa.CheckConstraint(f"encoder_id = {spec.encoder.id:d}", name=f"{name}_encoder"),
        sa.Index(f"{name}_content_idx", "content_hash"),
        schema=source.schema,
        comment=f"Chunks and vectors of {source.fullname}, encoded by {spec.encoder.reference}",
        **partitions.options(spec),
    )
    for statement in partitions.creation(spec, chunks):
        event.listen(chunks, "after_create", statement)
    vector_index.add(spec, chunks, concurrently=True).ddl_if(callable_=_built_by_the_worker)
    return chunks


def _built_by_the_worker(*_: object, **__: object) -> bool:
    return False
