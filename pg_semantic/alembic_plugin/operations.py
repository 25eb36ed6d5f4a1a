"""The operations of migrations, as Alembic's objects: what they execute, what undoes them, and how they are called."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import sqlalchemy as sa
from alembic.operations import MigrateOperation, Operations
from sqlalchemy.schema import ExecutableDDLElement

from pg_semantic import database
from pg_semantic.alembic_plugin import arguments
from pg_semantic.index import ddl, table_requirements, triggers
from pg_semantic.index.spec import IndexSpec


class SemanticIndexOp(MigrateOperation):
    """Something that a migration does to a semantic index."""

    NAME: ClassVar[str]  # of the method of ``op``

    def __init__(self, spec: IndexSpec) -> None:
        self.spec = spec

    def statements(self) -> list[ExecutableDDLElement]:
        """What it executes."""
        raise NotImplementedError

    def require_source(self, connection: sa.Connection) -> None:
        """Raises `errors.DeclarationError` if the source cannot be what the operation takes it to be."""

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the named arguments with which a migration calls it."""
        given = arguments.written(self.spec)
        return [self.spec.name, self.spec.table, given.pop("columns")], given

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` reports."""
        return (self.NAME, self.spec.schema, self.spec.table, self.spec.name)


class CreateSemanticIndexOp(SemanticIndexOp):
    """Makes a semantic index: tables, triggers, entry in the registry."""

    NAME = "create_semantic_index"

    @classmethod
    def create_semantic_index(  # noqa: PLR0917 - Alembic gives the first
        cls,
        operations: Operations,
        name: str,
        table: str,
        columns: Sequence[str],
        **declared: Any,  # noqa: ANN401 - as `arguments.spec` takes them
    ) -> None:
        """Makes a semantic index on text ``columns`` of ``table``; nothing that it is has a default."""
        operations.invoke(cls(arguments.spec(name, table, columns, **declared)))

    def statements(self) -> list[ExecutableDDLElement]:
        """What it executes."""
        return ddl.create(self.spec)

    def require_source(self, connection: sa.Connection) -> None:
        """Raises `errors.DeclarationError` for a source that can have no semantic index."""
        table_requirements.key_of(connection, self.spec.schema, self.spec.table)

    def reverse(self) -> "DropSemanticIndexOp":
        """The operation that undoes it."""
        return DropSemanticIndexOp(self.spec)


class DropSemanticIndexOp(SemanticIndexOp):
    """Removes a semantic index, its vectors included."""

    NAME = "drop_semantic_index"

    @classmethod
    def drop_semantic_index(cls, operations: Operations, name: str, table: str, *, schema: str | None = None) -> None:
        """Removes a semantic index of ``table``, its vectors included; the table is left as it is."""
        operations.invoke(cls(arguments.nameplate(name, table, schema)))

    def statements(self) -> list[ExecutableDDLElement]:
        """What it executes."""
        return ddl.drop(self.spec)

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Its names are enough."""
        return [self.spec.name, self.spec.table], {}

    def reverse(self) -> CreateSemanticIndexOp:
        """The operation that undoes it, but for the vectors: a worker makes them anew."""
        return CreateSemanticIndexOp(self.spec)


class _ChangeOp(SemanticIndexOp):
    """From one spec to another."""

    def __init__(self, target: IndexSpec, was: IndexSpec) -> None:
        super().__init__(target)
        self.was = was

    @classmethod
    def _invoke(cls, operations: Operations, target: IndexSpec, was: Mapping[str, Any]) -> None:
        operations.invoke(cls(target, arguments.changed_back(target, was)))

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """All that the target is, and what of it was another before."""
        positional, named = super().call()
        return positional, named | {"was": arguments.changed(self.spec, self.was)}

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` reports."""
        was, now = arguments.changed(self.spec, self.was), arguments.of(self.spec)
        return (*super().to_diff_tuple(), {name: f"{value!r} -> {now[name]!r}" for name, value in was.items()})


class AlterSemanticIndexOp(_ChangeOp):
    """Begins to build a changed copy beside the live one."""

    NAME = "alter_semantic_index"

    @classmethod
    def alter_semantic_index(  # noqa: PLR0917 - Alembic gives the first
        cls,
        operations: Operations,
        name: str,
        table: str,
        columns: Sequence[str],
        *,
        was: Mapping[str, Any],
        **declared: Any,  # noqa: ANN401 - as `arguments.spec` takes them
    ) -> None:
        """Begins to build a copy as declared now beside the live one; ``was`` has the values that were others."""
        cls._invoke(operations, arguments.spec(name, table, columns, **declared), was)

    def statements(self) -> list[ExecutableDDLElement]:
        """What it executes."""
        return ddl.begin(self.spec, self.was)

    def reverse(self) -> "RevertSemanticIndexOp":
        """The operation that undoes it."""
        return RevertSemanticIndexOp(self.spec, self.was)


class RevertSemanticIndexOp(_ChangeOp):
    """Takes back what an `AlterSemanticIndexOp` of the same arguments began."""

    NAME = "revert_semantic_index"

    @classmethod
    def revert_semantic_index(  # noqa: PLR0917 - Alembic gives the first
        cls,
        operations: Operations,
        name: str,
        table: str,
        columns: Sequence[str],
        *,
        was: Mapping[str, Any],
        **declared: Any,  # noqa: ANN401 - as `arguments.spec` takes them
    ) -> None:
        """Takes back ``alter_semantic_index`` with the same arguments: the index is again what it was."""
        cls._invoke(operations, arguments.spec(name, table, columns, **declared), was)

    def statements(self) -> list[ExecutableDDLElement]:
        """What it executes."""
        return ddl.withdraw(self.spec, self.was)

    def reverse(self) -> AlterSemanticIndexOp:
        """The operation that undoes it."""
        return AlterSemanticIndexOp(self.spec, self.was)


KINDS: tuple[type[SemanticIndexOp], ...] = (
    CreateSemanticIndexOp,
    DropSemanticIndexOp,
    AlterSemanticIndexOp,
    RevertSemanticIndexOp,
)


def run(operations: Operations, operation: SemanticIndexOp) -> None:
    """Executes an operation on the migration's connection, or prints it when offline."""
    with database.translated():
        if not operations.migration_context.as_sql:
            database.require_installed(operations.get_bind())
            database.require_pgvector_found(operations.get_bind())
            operation.require_source(operations.get_bind())
        for statement in operation.statements():
            operations.execute(statement)
        if isinstance(operation, CreateSemanticIndexOp) and not operations.migration_context.as_sql:
            triggers.say_rights(operations.get_bind(), operation.spec.schema, operation.spec.name)
