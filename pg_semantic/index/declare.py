"""`SemanticIndex` on a mapped class: from the declaration to the spec, the tables and the mapped class `Chunk`."""

import operator
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Self, TypeVar, cast, overload

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.dialects import postgresql

from pg_semantic import errors
from pg_semantic.index import chunk_tables, distances, keys, more_like_this, table_requirements
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import EncoderSpec, Hnsw, IndexSpec, KeyColumn, Lexical, Storage

T = TypeVar("T")

# Where a MetaData keeps the semantic indexes of its tables. Not in a Table's own `info`, which Alembic writes down.
_INFO = "pg_semantic"

# What chunk and receipt tables are known by in a MetaData that was filled by reflection.
_OWN_COLUMNS = ({"ordinal", "content_hash", "encoder_id"}, {"source_hash", "chunk_count"})


class Chunk:
    """Base of the mapped classes of chunk tables; each also has the key columns of its source.

    ``vector`` is deferred: it is loaded when asked for, never with the chunk. ``source`` is the row that the chunk
    is a piece of, a read-only relationship.
    """

    ordinal: orm.Mapped[int]
    content: orm.Mapped[str]
    vector: orm.Mapped[list[float]]
    content_hash: orm.Mapped[bytes]
    encoder_id: orm.Mapped[int]
    token_count: orm.Mapped[int]
    truncated: orm.Mapped[bool]
    embedded_at: orm.Mapped[datetime]
    source: orm.Mapped[Any]


@dataclass(frozen=True, slots=True)
class BoundIndex(Generic[T]):
    """A semantic index of a mapped class, as ``Article.semantic`` gives it."""

    entity: type[T]
    tables: chunk_tables.Tables
    Chunk: type[Chunk]

    @property
    def spec(self) -> IndexSpec:
        """The semantic index as data."""
        return self.tables.spec

    @property
    def name(self) -> str:
        """Its name: that of the chunk table."""
        return self.tables.spec.name

    def distance(self, vector: distances.Vector) -> sa.ColumnElement[float]:
        """The cosine distance, 0 to 2, of a row's nearest chunk, as a column of any statement on the mapped class.

        NULL for a row that has no vectors. It is computed for every row that the statement looks at, and no index
        serves it: to find the nearest rows of many, `search.knn` is the statement.
        """
        return distances.row_distance(self.tables, distances.query_vector(self.spec, vector))

    def similar_to(self, *, positive: Sequence[Any], negative: Sequence[Any] = ()) -> more_like_this.Examples:
        """More like this: a query for `search.knn` and `Searcher` in place of a vector; the examples are not found.

        An example is a key (a tuple where the key has several columns), an instance, or a vector (an array or a list).
        """
        if isinstance(positive, str | bytes) or isinstance(negative, str | bytes):
            raise errors.QueryError("Examples are a list: give positive=[key], also for one.")
        return more_like_this.Examples(self.tables, tuple(positive), tuple(negative))

    def of(self, alias: type[T]) -> "BoundIndex[T]":
        """The same index for an alias of the class, as ``Article.semantic.of(aliased(Article))``, to join it twice."""
        chunk = orm.aliased(self.Chunk)
        # An alias has the columns of a table, which is all that statements ask of these three.
        source, chunks = (cast("sa.Table", sa.inspect(one).selectable) for one in (alias, chunk))
        if not {column.name for column in self.spec.key} <= {column.name for column in source.c}:
            raise errors.QueryError(
                f"{alias} is an alias of a join of tables, which can not be searched: "
                f"give one of the class that table {self.spec.table!r} is of."
            )
        receipts = cast("sa.Table", self.tables.receipts.alias())
        return BoundIndex(alias, chunk_tables.Tables(self.spec, source, chunks, receipts), chunk)


class SemanticIndex:
    """Declares, in the body of a mapped class, that rows are searchable by the meaning of these text columns.

    ::

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str]
            body: Mapped[str]
            semantic = SemanticIndex("title", "body", encoder="sentence-transformers/all-MiniLM-L6-v2")

    ``columns`` are attribute names; a row's text is those that are not blank, a blank line between two. ``encoder``
    is a hub name, a folder, or ``hashed:N``. ``dimensions`` is needed for an encoder that the catalog does not know.
    ``query_prompt`` and ``document_prompt`` are put before texts in place of the encoder's own prompts; an empty text
    is no prompt. ``chunking`` of None makes one chunk of a row, truncated at the encoder's limit. ``lexical`` says how
    the words of rows are indexed for BM25, which suits English by default; None leaves that out. ``rights_by`` is the
    attribute that the table's row-level security compares (docs/rights.md). ``name`` is that of the chunk table, by
    default the table's name and the attribute's (``article_semantic``).

    On the class, ``Article.semantic`` is a `BoundIndex`. Raises `errors.DeclarationError` as the class is mapped
    when a column is unknown or not text, when there is no primary key, or when a name is taken.
    """

    def __init__(  # noqa: PLR0913 - what can be declared
        self,
        *columns: str,
        encoder: str,
        dimensions: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        chunking: Chunking | None = Chunking(),  # noqa: B008 - frozen
        storage: Storage = "halfvec",
        hnsw: Hnsw = Hnsw(),  # noqa: B008 - frozen
        lexical: Lexical | None = Lexical(),  # noqa: B008 - frozen
        rights_by: str | None = None,
        name: str | None = None,
    ) -> None:
        self._columns = columns
        self._encoder = EncoderSpec.resolve(
            encoder, dimensions, query_prompt=query_prompt, document_prompt=document_prompt
        )
        if lacking := self._encoder.lacking:
            warnings.warn(lacking.advice, stacklevel=2)
        self._chunking = chunking
        self._storage: Storage = storage
        self._hnsw = hnsw
        self._lexical = lexical
        self._rights_by = rights_by
        self._name = name
        self._attribute = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._attribute = name

    @overload
    def __get__(self, instance: None, owner: type[T]) -> BoundIndex[T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> Self: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Any:
        """The bound index of the class; an instance has none, since a semantic index is of all rows."""
        if instance is not None:
            return self
        mapper = sa.inspect(owner, raiseerr=False)
        if mapper and not self._attribute:
            raise errors.DeclarationError(
                f"{owner.__name__} has a SemanticIndex set after the class was mapped, too late for its tables: "
                "declare it in the body of the class."
            )
        return (mapper and self._bound(mapper)) or self  # itself on a mixin, which has no table

    def _bound(self, mapper: orm.Mapper[Any]) -> BoundIndex[Any] | None:
        """The index on the class's own table, or the one that it inherits with its parent's table."""
        for ancestor in mapper.iterate_to_root():
            table = ancestor.local_table
            if isinstance(table, sa.Table) and self in (bound := _bound_to(table)):
                return bound[self]
            if ancestor.concrete:
                break
        return None

    def bind(self, mapper: orm.Mapper[Any], attribute: str) -> None:
        """Binds it to the class of a new mapper, which has it under this attribute."""
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
        elif bound.entity is entity:  # mapped again, since its mappers were cleared
            tables = bound.tables
        else:
            return  # inherited: the parent's index covers the child's rows
        name = f"{entity.__name__}{attribute.title().replace('_', '')}Chunk"
        bound = BoundIndex(entity, tables, _map_chunk(mapper, tables, name=name))
        table.metadata.info.setdefault(_INFO, {}).setdefault(table, {})[self] = bound

    def _spec(self, mapper: orm.Mapper[Any], table: sa.Table) -> IndexSpec:
        return IndexSpec(
            name=self._name or f"{table.name}_{self._attribute}",
            table=table.name,
            schema=table.schema,
            key=tuple(_key_column(column) for column in table.primary_key.columns),
            columns=tuple(_text_column(mapper, table, name) for name in self._columns),
            encoder=self._encoder,
            chunking=self._chunking,
            storage=self._storage,
            hnsw=self._hnsw,
            lexical=self._lexical,
            rights_by=None if self._rights_by is None else _rights_column(mapper, table, self._rights_by),
        )


@event.listens_for(orm.Mapper, "after_mapper_constructed")
def _bind_declared(mapper: orm.Mapper[Any], entity: type[Any]) -> None:
    """Binds what a class declares or inherits, however it came by it: in its body, from a mixin or `declared_attr`."""
    attributes = {name: value for base in reversed(entity.__mro__) for name, value in vars(base).items()}
    for name, value in attributes.items():
        if isinstance(value, SemanticIndex):
            value.bind(mapper, name)


def indexes(metadata: sa.MetaData) -> Iterator[BoundIndex[Any]]:
    """Every semantic index declared on classes mapped to this MetaData's tables."""
    for table in metadata.tables.values():
        yield from _bound_to(table).values()


def _bound_to(table: sa.Table) -> dict[SemanticIndex, BoundIndex[Any]]:
    """The semantic indexes of a table, by their declarations."""
    return cast("dict[SemanticIndex, BoundIndex[Any]]", table.metadata.info.get(_INFO, {}).get(table, {}))


def bind(spec: IndexSpec) -> BoundIndex[Any]:
    """The index of a spec from the registry, on a class made up for it: its attributes are key and text columns."""
    tables = chunk_tables.build(spec)
    entity = type("Row", (), {"__doc__": f"A row of {tables.source.fullname}."})
    mapper: orm.Mapper[Any] = orm.registry(metadata=tables.source.metadata).map_imperatively(entity, tables.source)
    return BoundIndex(entity, tables, _map_chunk(mapper, tables, name="RowChunk"))


def _require_table(table: sa.Table) -> None:
    """Refuses what the declaration says of a source that the database would refuse later."""
    if getattr(table, "is_view", False):  # as of SQLAlchemy 2.1
        raise errors.DeclarationError(
            f"{table.fullname} is a view, and a semantic index needs a table: declare it on the class of a table that "
            "the view reads."
        )
    if table.primary_key.deferrable:
        raise errors.DeclarationError(table_requirements.deferrable(table.fullname))


def _forget(table: sa.Table, entity: type[Any]) -> None:
    """Takes out what was declared before on a table that is declared again, as a notebook or a reload does."""
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
            table.metadata.remove(known)  # as it was found in the database: the one that is declared says more
        elif known is not None:
            raise errors.DeclarationError(
                f"Semantic index {spec.name!r} on table {table.fullname!r}: a table {full_name!r} is declared "
                "already; pass another name=..."
            )


def _is_reflected(table: sa.Table) -> bool:
    """Whether a table is a chunk or receipt table that `MetaData.reflect` or automap has found in the database."""
    others = (one.tables for bound in table.metadata.info.get(_INFO, {}).values() for one in bound.values())
    declared = any(table in {tables.chunks, tables.receipts} for tables in others)
    return not declared and any(names <= {*table.c.keys()} for names in _OWN_COLUMNS)


def _key_column(column: sa.Column[Any]) -> KeyColumn:
    if isinstance(column.type, sa.types.NullType):
        raise errors.DeclarationError(
            f"The type of key column {column.name!r} of {column.table.name!r} comes from a table that is declared "
            "later: state it, as in mapped_column(Integer, ForeignKey(...), primary_key=True)."
        )
    of = column.type
    return KeyColumn(column.name, keys.type_name(of.data_type if isinstance(of, postgresql.DOMAIN) else of))


def _rights_column(mapper: orm.Mapper[Any], table: sa.Table, attribute: str) -> str:
    column = dict(mapper.columns.items()).get(attribute)
    if not isinstance(column, sa.Column) or column.table is not table:
        raise errors.DeclarationError(
            f"{mapper.class_.__name__}: rights_by={attribute!r} is not a column of its table; name the column that the "
            "policies of the table compare."
        )
    return column.name


def _text_column(mapper: orm.Mapper[Any], table: sa.Table, attribute: str) -> str:
    where = f"{mapper.class_.__name__}: the semantic index names {attribute!r}"
    # Not `mapper.attrs`: that configures all mappers, while classes that they name are still to be declared.
    columns: dict[str, sa.ColumnElement[Any]] = dict(mapper.columns.items())
    column = columns.get(attribute)
    if not isinstance(column, sa.Column):
        known = ", ".join(name for name, one in columns.items() if isinstance(one, sa.Column))
        raise errors.DeclarationError(f"{where}, which is not a column. Columns are: {known}.")
    if column.table is not table:
        raise errors.DeclarationError(f"{where}, which is a column of another table ({column.table}).")
    if not chunk_tables.is_text(column.type):
        kind = type(column.type).__name__
        way_out = chunk_tables.not_text(table.fullname, column.name, kind)
        raise errors.DeclarationError(f"{where}, which is not text but {column.type!r}: {way_out}")
    return column.name


def _map_chunk(mapper: orm.Mapper[Any], tables: chunk_tables.Tables, *, name: str) -> type[Chunk]:
    about = {"__doc__": f"A chunk of a row of {tables.source.fullname}.", "__module__": mapper.class_.__module__}
    chunk_class = type(name, (Chunk,), about)
    mapper.registry.map_imperatively(
        chunk_class,
        tables.chunks,
        properties={
            "vector": orm.deferred(tables.chunks.c.vector),
            "source": orm.relationship(
                mapper.class_,
                # Not before mappers are configured: a class that is declared again gives its table other columns.
                primaryjoin=lambda: sa.and_(*map(operator.eq, tables.chunk_key, tables.source_key)),
                foreign_keys=tables.chunk_key,
                viewonly=True,
                lazy="select",
            ),
        },
    )
    return chunk_class
