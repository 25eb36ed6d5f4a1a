"""Hash partitions of a chunk table: their names, the statements that create them, and an index on one of them.

The key of a row, or one column of it, decides which partition holds its chunks. Statements name only the partitioned
table; a worker alone names partitions, because it builds their vector indexes one by one.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, ExecutableDDLElement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import DDLCompiler

from pg_semantic.index.spec import IndexSpec


class CreatePartition(ExecutableDDLElement):
    """Creates one partition of a chunk table, next to it and with its indexes, constraints and triggers."""

    def __init__(self, chunks: sa.Table, number: int, *, partitions: int) -> None:
        self.chunks = chunks
        self.partition = sa.Table(f"{chunks.name}_p{number}", sa.MetaData(), schema=chunks.schema)
        self.number = number
        self.partitions = partitions


def creation(spec: IndexSpec, chunks: sa.Table) -> list[CreatePartition]:
    """Returns the statements that create the partitions of a chunk table; none if it has no partitions."""
    count = spec.partitions if spec.partitions > 1 else 0
    return [CreatePartition(chunks, number, partitions=count) for number in range(count)]


def options(spec: IndexSpec) -> dict[str, Any]:
    """Returns the options of the chunk table that make it partitioned, if the spec says so."""
    if spec.partitions == 1:
        return {}
    quote = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]
    names = [spec.partition_by] if spec.partition_by else [column.name for column in spec.key]
    columns: Sequence[str] = [quote(name) for name in names]
    return {"postgresql_partition_by": f"HASH ({', '.join(columns)})"}


def index_on(partition: str, index: sa.Index) -> sa.Index:
    """Returns the index that a partition needs as its part of an index of the partitioned table.

    Args:
        partition: The name of the partition, which is in the schema of its table.
        index: An index of the partitioned table.
    """
    return _copy(index, partition, concurrently=True)


def is_used(index: sa.Index, names: Collection[str]) -> bool:
    """Returns whether an index, or its part on a partition, is one of those with these names."""
    part = re.compile(rf"{re.escape(_table_of(index).name)}_p\d+{re.escape(suffix(index))}")
    return index.name in names or any(part.fullmatch(name) for name in names)


def is_partitioned(table: sa.FromClause | None) -> bool:
    """Returns whether a table is one that `options` made partitioned."""
    return isinstance(table, sa.Table) and bool(table.dialect_options["postgresql"].get("partition_by"))


def suffix(index: sa.Index) -> str:
    """Returns what the name of an index has after the name of its table. Its parts on partitions have it too."""
    return str(index.name).removeprefix(_table_of(index).name)


class CreateIndexOnOnly(CreateIndex):
    """Creates an index of a partitioned table without building it: it is invalid until each partition has its part."""

    def __init__(self, index: sa.Index) -> None:
        super().__init__(_copy(index, _table_of(index).name, concurrently=False), if_not_exists=True)


def _copy(index: sa.Index, table_name: str, *, concurrently: bool) -> sa.Index:
    """Returns an index like this one on a table with this name."""
    of = _table_of(index)
    table = sa.Table(table_name, sa.MetaData(), *(sa.Column(one.name, one.type) for one in of.c), schema=of.schema)

    def moved(part: Any, **_: Any) -> sa.ColumnElement[Any] | None:  # noqa: ANN401 - any part of an expression
        return table.c[part.name] if isinstance(part, sa.Column) and part.table is of else None

    traverse: Any = visitors.replacement_traverse  # its types don't admit a function that leaves parts as they are
    expressions: list[Any] = [traverse(one, {}, moved) for one in index.expressions]
    own: Any = index.dialect_options["postgresql"]
    chosen = {f"postgresql_{name}": own[name] for name in ("using", "with", "ops")}
    return sa.Index(table_name + suffix(index), *expressions, postgresql_concurrently=concurrently, **chosen)


def _table_of(index: sa.Index) -> sa.Table:
    assert index.table is not None  # noqa: S101 - the index belongs to a table
    return index.table


@compiles(CreatePartition, "postgresql")
def _create_partition(statement: CreatePartition, compiler: DDLCompiler, **_: object) -> str:
    partition, chunks = map(compiler.preparer.format_table, (statement.partition, statement.chunks))
    bounds = f"FOR VALUES WITH (MODULUS {statement.partitions:d}, REMAINDER {statement.number:d})"
    return f"CREATE TABLE {partition} PARTITION OF {chunks} {bounds}"


@compiles(CreateIndexOnOnly, "postgresql")
def _create_index_on_only(statement: CreateIndexOnOnly, compiler: DDLCompiler, **options: Any) -> str:  # noqa: ANN401
    table = compiler.preparer.format_table(_table_of(statement.element))
    text: str = compiler.visit_create_index(statement, **options)  # type: ignore[no-untyped-call]
    return text.replace(f" ON {table} ", f" ON ONLY {table} ", 1)
