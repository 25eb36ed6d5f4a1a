"""`SemanticIndex` on a mapped class: turns the declaration into a spec, tables and a `BoundIndex`."""

import warnings
from collections.abc import Iterator
from typing import Any, Self, TypeVar, cast, overload

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.dialects import postgresql

from pg_semantic import errors
from pg_semantic.index import chunk_tables, keys, supported_tables
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.chunk_class import map_chunk
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import Compressed, EncoderSpec, Hnsw, IndexSpec, KeyColumn, Lexical, Storage

T = TypeVar("T")

# Key in `MetaData.info` for the semantic indexes of its tables. Not in `Table.info`, which Alembic renders.
_INFO = "pg_semantic"

_NAMED_COLUMNS = {
    "policy_column": "the column that the table's policies compare",
    "partition_by": "a column of its primary key",
}

# Columns that identify chunk and receipt tables in a reflected MetaData.
_OWN_COLUMNS = ({"ordinal", "content_hash", "encoder_id"}, {"source_hash", "chunk_count"})


class SemanticIndex:
    """Makes the rows of a mapped class searchable by the meaning of these text columns.

    Declare it in the body of the class::

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str]
            body: Mapped[str]
            semantic = SemanticIndex("title", "body", encoder="sentence-transformers/all-MiniLM-L6-v2")

    On the class, ``Article.semantic`` is a `BoundIndex`.

    Args:
        columns: Names of text attributes. A row's text is its nonblank columns, separated by blank lines.
        encoder: Encoder reference: a hub name, a folder, or ``hashed:N``.
        dimensions: Dimensions of the vectors; required for an encoder that is not in the built-in catalog.
        query_prompt: Prompt before each query, instead of the encoder's own; an empty string means no prompt.
        document_prompt: Prompt before each document; likewise.
        chunking: How to split texts. None makes one chunk per row, truncated at the encoder's limit.
        storage: pgvector type of the stored vectors, or `Compressed` for 16-bit ones whose vector index is smaller.
        hnsw: Parameters of the vector index.
        lexical: How to index the words of rows for BM25; the default suits English. None omits the lexical index.
        policy_column: The attribute that the table's row-level security compares (docs/reference/privileges.md).
        recall_objective: The share of the nearest chunks that the vector index should find, such as 0.95. A worker
            measures it and adjusts the scans to it (docs/how-to/keep-recall.md). It can change without a rebuild.
        partitions: How many hash partitions the chunk table and the vector index have, 1 to 256. The index is built
            one partition at a time, in that fraction of the memory; searches cost more
            (docs/how-to/build-a-large-index.md).
        partition_by: The attribute whose hash decides the partition, such as the tenant, instead of the whole key, of
            which it must be a part. Searches that filter on it scan only its partition.
        name: Name of the chunk table; by default the names of table and attribute (``article_semantic``).

    Raises:
        errors.DeclarationError: When the class is mapped: a column is unknown or not text, the table has no primary
            key, or a name is taken.
    """

    def __init__(  # noqa: PLR0913 - what can be declared
        self,
        *columns: str,
        encoder: str,
        dimensions: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        chunking: Chunking | None = Chunking(),  # noqa: B008 - frozen
        storage: Storage | Compressed = "halfvec",
        hnsw: Hnsw = Hnsw(),  # noqa: B008 - frozen
        lexical: Lexical | None = Lexical(),  # noqa: B008 - frozen
        policy_column: str | None = None,
        recall_objective: float | None = None,
        partitions: int = 1,
        partition_by: str | None = None,
        name: str | None = None,
    ) -> None:
        self._columns = columns
        self._encoder = EncoderSpec.resolve(
            encoder, dimensions, query_prompt=query_prompt, document_prompt=document_prompt
        )
        if lacking := self._encoder.lacking:
            warnings.warn(lacking.advice, stacklevel=2)
        self._chunking = chunking
        self._compressed = storage if isinstance(storage, Compressed) else None
        self._storage: Storage = "halfvec" if isinstance(storage, Compressed) else storage
        self._hnsw = hnsw
        self._lexical = lexical
        self._policy_column = policy_column
        self._recall_objective = recall_objective
        self._partitions = partitions
        self._partition_by = partition_by
        self._name = name
        self._attribute = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._attribute = name

    @overload
    def __get__(self, instance: None, owner: type[T]) -> BoundIndex[T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> Self: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Any:
        """Returns the bound index on the class, and the declaration itself on an instance or a mixin."""
        if instance is not None:
            return self
        mapper = sa.inspect(owner, raiseerr=False)
        if mapper and not self._attribute:
            raise errors.DeclarationError(
                f"{owner.__name__} got its SemanticIndex after the class was mapped, too late to add its tables: "
                "declare it in the body of the class."
            )
        return (mapper and self._bound(mapper)) or self  # a mixin has no table

    def _bound(self, mapper: orm.Mapper[Any]) -> BoundIndex[Any] | None:
        """Returns the index on the class's own table, or the one inherited with its parent's table."""
        for ancestor in mapper.iterate_to_root():
            table = ancestor.local_table
            if isinstance(table, sa.Table) and self in (bound := _bound_to(table)):
                return bound[self]
            if ancestor.concrete:
                break
        return None

    def bind(self, mapper: orm.Mapper[Any], attribute: str) -> None:
        """Binds the declaration to the class of a new mapper, under this attribute name.

        Raises:
            errors.DeclarationError: The declaration does not fit the class, or a table name is taken.
        """
        self._attribute = attribute
        table, entity, bound = mapper.local_table, mapper.class_, self._bound(mapper)
        if not isinstance(table, sa.Table):
            return
        if bound is None:
            _require_table(table)
            _forget(table, entity)
            spec = self._spec(mapper, table)
            _require_free(spec, table)
            tables = chunk_tables.build(spec, table)
        elif bound.entity is entity:  # mapped again after clear_mappers()
            tables = bound.tables
        else:
            return  # inherited: the parent's index covers the child's rows
        name = f"{entity.__name__}{attribute.title().replace('_', '')}Chunk"
        bound = BoundIndex(entity, tables, map_chunk(mapper, tables, name=name))
        table.metadata.info.setdefault(_INFO, {}).setdefault(table, {})[self] = bound

    def _spec(self, mapper: orm.Mapper[Any], table: sa.Table) -> IndexSpec:
        return IndexSpec(
            name=f"{table.name}_{self._attribute}" if self._name is None else self._name,
            table=table.name,
            schema=table.schema,
            key=tuple(_key_column(column) for column in table.primary_key.columns),
            columns=tuple(_text_column(mapper, table, name) for name in self._columns),
            encoder=self._encoder,
            chunking=self._chunking,
            storage=self._storage,
            compressed=self._compressed,
            hnsw=self._hnsw,
            lexical=self._lexical,
            policy_column=_column_name(mapper, self._policy_column, argument="policy_column"),
            recall_objective=self._recall_objective,
            partitions=self._partitions,
            partition_by=_column_name(mapper, self._partition_by, argument="partition_by"),
        )


@event.listens_for(orm.Mapper, "after_mapper_constructed")
def _bind_declared(mapper: orm.Mapper[Any], entity: type[Any]) -> None:
    """Binds the semantic indexes of a class, whether from its body, a parent, a mixin or a `declared_attr`."""
    attributes = {name: value for base in reversed(entity.__mro__) for name, value in vars(base).items()}
    for name, value in attributes.items():
        if isinstance(value, SemanticIndex):
            value.bind(mapper, name)


def indexes(metadata: sa.MetaData) -> Iterator[BoundIndex[Any]]:
    """Yields every semantic index that is declared on classes mapped to this MetaData's tables."""
    for table in metadata.tables.values():
        yield from _bound_to(table).values()


def _bound_to(table: sa.Table) -> dict[SemanticIndex, BoundIndex[Any]]:
    """The semantic indexes of a table, by their declarations."""
    return cast("dict[SemanticIndex, BoundIndex[Any]]", table.metadata.info.get(_INFO, {}).get(table, {}))


def bind(spec: IndexSpec) -> BoundIndex[Any]:
    """Returns a bound index for a spec from the registry.

    Its entity is a generated class with the key and text columns as attributes. A text column, which can be long, is
    loaded on first access.
    """
    tables = chunk_tables.build(spec)
    entity = type("Row", (), {"__doc__": f"A row of {tables.source.fullname}."})
    texts = {column.name: orm.deferred(column) for column in tables.source.c if not column.primary_key}
    registry = orm.registry(metadata=tables.source.metadata)
    mapper: orm.Mapper[Any] = registry.map_imperatively(entity, tables.source, properties=texts)
    return BoundIndex(entity, tables, map_chunk(mapper, tables, name="RowChunk"))


def _require_table(table: sa.Table) -> None:
    """Rejects sources that the database would reject later."""
    if getattr(table, "is_view", False):  # since SQLAlchemy 2.1
        raise errors.DeclarationError(
            f"{table.fullname} is a view, and a semantic index needs a table: declare it on the class of a table that "
            "the view reads."
        )
    if table.primary_key.deferrable:
        raise errors.DeclarationError(supported_tables.deferrable(table.fullname))


def _forget(table: sa.Table, entity: type[Any]) -> None:
    """Removes earlier declarations on a table that is declared again, as in a notebook or after a reload."""
    known = table.metadata.info.get(_INFO, {})
    for source, bound in known.items():
        if source.fullname != table.fullname:
            continue
        for declaration, one in list(bound.items()):
            is_anew = source is table and one.entity is not entity and _name(one.entity) == _name(entity)
            if is_anew or source is not table:
                table.metadata.remove(one.tables.chunks)
                table.metadata.remove(one.tables.receipts)
                del bound[declaration]


def _name(entity: type[Any]) -> tuple[str, str]:
    return entity.__module__, entity.__qualname__


def _require_free(spec: IndexSpec, table: sa.Table) -> None:
    for name in (spec.name, spec.receipts_name):
        full_name = f"{table.schema}.{name}" if table.schema else name
        known = table.metadata.tables.get(full_name)
        if known is not None and _is_reflected(known):
            table.metadata.remove(known)  # the declared table has more than the reflected one
        elif known is not None:
            raise errors.DeclarationError(
                f"Semantic index {spec.name!r} on table {table.fullname!r}: table {full_name!r} is already declared; "
                "pass another name=..."
            )


def _is_reflected(table: sa.Table) -> bool:
    """Returns whether `MetaData.reflect` or automap added this chunk or receipt table."""
    others = (one.tables for bound in table.metadata.info.get(_INFO, {}).values() for one in bound.values())
    declared = any(table in {tables.chunks, tables.receipts} for tables in others)
    return not declared and any(names <= {*table.c.keys()} for names in _OWN_COLUMNS)


def _key_column(column: sa.Column[Any]) -> KeyColumn:
    if isinstance(column.type, sa.types.NullType):
        raise errors.DeclarationError(
            f"The type of key column {column.name!r} of {column.table.name!r} depends on a table that is declared "
            "later: state the type, as in mapped_column(Integer, ForeignKey(...), primary_key=True)."
        )
    of = column.type
    return KeyColumn(column.name, keys.type_name(of.data_type if isinstance(of, postgresql.DOMAIN) else of))


def _column_name(mapper: orm.Mapper[Any], attribute: object, *, argument: str) -> str | None:
    if attribute is None:
        return None
    column = dict(mapper.columns.items()).get(attribute) if isinstance(attribute, str) else None
    if not isinstance(column, sa.Column) or column.table is not mapper.local_table:
        raise errors.DeclarationError(
            f"{mapper.class_.__name__}: {argument}={attribute!r} is not a column of its table: name "
            f"{_NAMED_COLUMNS[argument]}."
        )
    return column.name


def _text_column(mapper: orm.Mapper[Any], table: sa.Table, attribute: object) -> str:
    where = f"{mapper.class_.__name__}: the semantic index names {attribute!r}"
    # Not `mapper.attrs`, which configures all mappers, even those that refer to classes not yet declared.
    columns: dict[str, sa.ColumnElement[Any]] = dict(mapper.columns.items())
    column = columns.get(attribute) if isinstance(attribute, str) else None
    if not isinstance(column, sa.Column):
        known = ", ".join(name for name, one in columns.items() if isinstance(one, sa.Column))
        raise errors.DeclarationError(f"{where}, which is not a column. Its columns: {known}.")
    if column.table is not table:
        raise errors.DeclarationError(f"{where}, which is a column of another table ({column.table}).")
    if not chunk_tables.is_text(column.type):
        kind = type(column.type).__name__
        way_out = chunk_tables.not_text(table.fullname, column.name, kind)
        raise errors.DeclarationError(f"{where}, which is not text but {column.type!r}: {way_out}")
    return column.name
