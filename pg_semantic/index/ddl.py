"""The life of a semantic index as statements: for a connection, for a migration, and to be printed. Executes nothing.

``create`` and ``drop`` make and remove it; ``begin`` builds another copy of it beside the live one, as a changed
declaration asks for, and ``withdraw`` takes that back. All of them start from specs alone.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable, ExecutableDDLElement, SetTableComment

from pg_semantic import errors
from pg_semantic.index import chunk_tables, triggers
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import IndexSpec


def create(spec: IndexSpec) -> list[ExecutableDDLElement]:
    """What makes a semantic index: its tables, its triggers on the source, and its entry in the registry."""
    tables = chunk_tables.build(spec)
    return [triggers.LockSource(spec, _of(tables)), *_create_tables(tables), *triggers.created(spec, _of(tables))]


def drop(spec: IndexSpec) -> list[ExecutableDDLElement]:
    """What removes a semantic index, all copies of it; the source is left as it is."""
    tables = chunk_tables.build(spec)
    return [*triggers.dropped(spec, _of(tables)), DropTable(tables.chunks), DropTable(tables.receipts)]


def begin(target: IndexSpec, was: IndexSpec) -> list[ExecutableDDLElement]:
    """What begins to build the copy ``next``, made as ``target`` says, of an index that is as ``was`` says.

    ``was`` may also be the spec of a copy ``next``, which is then abandoned for this one. In the database this is an
    error when the index is otherwise.
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
    """What takes `begin` back: the copy ``next`` is dropped; when it is live by now, the one before is live again.

    In the database this is an error when the index is live as ``target`` says and the copy before was dropped.
    """
    _require_alike(target, was)
    return [triggers.Withdraw(target, _of(chunk_tables.build(was)), was=was), *create_triggers(was)]


def create_triggers(spec: IndexSpec, *, functions: bool = True, enable: bool = False) -> list[ExecutableDDLElement]:
    """What has rows marked when a column changes that any copy is made of; what hangs already is left alone.

    Without ``functions``, those of capture are taken as they are: only their owner can make them again. Triggers that
    somebody disabled stay so, unless they are to be enabled.
    """
    tables = _of(chunk_tables.build(spec))
    if functions:
        return triggers.hang(spec, tables, enable=enable)
    return [triggers.LockSource(spec, tables), triggers.CreateTriggers(spec, tables)]


def _require_alike(target: IndexSpec, was: IndexSpec) -> None:
    for name in ("name", "schema", "table", "key"):
        if getattr(target, name) != getattr(was, name):
            raise errors.DeclarationError(
                f"Semantic index {was.name!r}: its {name} can not be changed from {getattr(was, name)!r} to "
                f"{getattr(target, name)!r}; drop the index and create it anew."
            )


def _of(tables: Tables) -> tuple[sa.Table, sa.Table, sa.Table]:
    return tables.source, tables.chunks, tables.receipts


def _create_tables(tables: Tables) -> Iterator[ExecutableDDLElement]:
    for table in (tables.receipts, tables.chunks):
        yield CreateTable(table)
        yield from (CreateIndex(index) for index in _built_at_once(tables, table))
        yield SetTableComment(table)


def _built_at_once(tables: Tables, table: sa.Table) -> list[sa.Index]:
    late = tables.late_indexes
    return sorted((index for index in table.indexes if index not in late), key=lambda index: str(index.name))
