"""The life cycle of a semantic index as DDL statements, for a connection, a migration or printing. Executes nothing.

``create`` and ``drop`` create and remove an index. ``begin`` starts a generation next to the live one for a changed
declaration, and ``withdraw`` undoes that. All of them need only specs.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable, ExecutableDDLElement, SetTableComment

from pg_semantic import errors
from pg_semantic.index import chunk_tables, partitions, triggers
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import IndexSpec


def create(spec: IndexSpec) -> list[ExecutableDDLElement]:
    """Returns the statements that create a semantic index: its tables, triggers on the source, and registry entry."""
    tables = chunk_tables.build(spec)
    return [triggers.LockSource(spec, _of(tables)), *_create_tables(tables), *triggers.created(spec, _of(tables))]


def drop(spec: IndexSpec) -> list[ExecutableDDLElement]:
    """Returns the statements that remove a semantic index with all its generations. The source is unchanged."""
    tables = chunk_tables.build(spec)
    return [*triggers.dropped(spec, _of(tables)), DropTable(tables.chunks), DropTable(tables.receipts)]


def begin(target: IndexSpec, was: IndexSpec) -> list[ExecutableDDLElement]:
    """Returns the statements that start the generation ``next`` of a semantic index.

    In the database, the statements fail if the index does not match ``was``.

    Args:
        target: The spec of the new generation.
        was: The present spec of the index, or of its generation ``next``, which the new one then replaces.

    Raises:
        errors.DeclarationError: The two specs differ in name, schema, table or key.
    """
    _require_alike(target, was)
    tables = chunk_tables.build(target, role="next")
    return [
        triggers.Prepare(target, _of(tables), was=was),
        *_create_tables(tables),
        triggers.Begin(target, _of(tables)),
        *create_triggers(target),
    ]


def withdraw(target: IndexSpec, was: IndexSpec) -> list[ExecutableDDLElement]:
    """Returns the statements that undo `begin`.

    They drop the generation ``next``. If it is already live, the previous generation becomes live again; if that one
    was dropped, the statements fail in the database.

    Args:
        target: The spec that `begin` was called with.
        was: The spec to return to.

    Raises:
        errors.DeclarationError: The two specs differ in name, schema, table or key.
    """
    _require_alike(target, was)
    return [triggers.Withdraw(target, _of(chunk_tables.build(was)), was=was), *create_triggers(was)]


def set_recall_objective(spec: IndexSpec) -> list[ExecutableDDLElement]:
    """Returns the statement that gives all copies of a semantic index the recall objective of ``spec``."""
    return [triggers.SetRecallObjective(spec, _of(chunk_tables.build(spec)))]


def create_triggers(spec: IndexSpec, *, functions: bool = True, enable: bool = False) -> list[ExecutableDDLElement]:
    """Returns the statements that install capture for the columns of all generations. Existing triggers are kept.

    Args:
        spec: The semantic index.
        functions: Whether to replace the capture functions too, which only their owner can.
        enable: Whether to enable disabled triggers.
    """
    tables = _of(chunk_tables.build(spec))
    if functions:
        return triggers.create_triggers(spec, tables, enable=enable)
    return [triggers.LockSource(spec, tables), triggers.CreateTriggers(spec, tables)]


def _require_alike(target: IndexSpec, was: IndexSpec) -> None:
    for name in ("name", "schema", "table", "key"):
        if getattr(target, name) != getattr(was, name):
            raise errors.DeclarationError(
                f"Semantic index {was.name!r}: {name} cannot be changed from {getattr(was, name)!r} to "
                f"{getattr(target, name)!r}: drop the index and create it again."
            )


def _of(tables: Tables) -> tuple[sa.Table, sa.Table, sa.Table]:
    return tables.source, tables.chunks, tables.receipts


def _create_tables(tables: Tables) -> Iterator[ExecutableDDLElement]:
    for table in (tables.receipts, tables.chunks):
        yield CreateTable(table)
        if table is tables.chunks:
            yield from partitions.creation(tables.spec, table)
        yield from (CreateIndex(index) for index in _built_at_once(tables, table))
        yield SetTableComment(table)


def _built_at_once(tables: Tables, table: sa.Table) -> list[sa.Index]:
    late = tables.late_indexes
    return sorted((index for index in table.indexes if index not in late), key=lambda index: str(index.name))
