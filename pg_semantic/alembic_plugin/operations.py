"""The operations of migrations as Alembic objects: what they execute, what reverses them, how they are called."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import sqlalchemy as sa
from alembic.operations import MigrateOperation, Operations
from sqlalchemy.schema import ExecutableDDLElement

from pg_semantic import database
from pg_semantic.alembic_plugin import arguments
from pg_semantic.index import ddl, supported_tables, triggers
from pg_semantic.index.spec import IndexSpec


class SemanticIndexOp(MigrateOperation):
    """A change that a migration makes to a semantic index."""

    NAME: ClassVar[str]  # the name of its method on ``op``

    def __init__(self, spec: IndexSpec) -> None:
        self.spec = spec

    def statements(self) -> list[ExecutableDDLElement]:
        """Returns the statements to execute, in order."""
        raise NotImplementedError

    def require_table(self, connection: sa.Connection) -> None:
        """Checks that the source is what the operation needs.

        Raises:
            errors.DeclarationError: It is not.
        """

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Returns the positional and the keyword arguments with which a migration calls it."""
        given = arguments.written(self.spec)
        return [self.spec.name, self.spec.table, given.pop("columns")], given

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Returns what ``alembic check`` reports."""
        return (self.NAME, self.spec.schema, self.spec.table, self.spec.name)


class CreateSemanticIndexOp(SemanticIndexOp):
    """Creates a semantic index: tables, triggers, registry entry."""

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
        """Creates a semantic index on text ``columns`` of ``table``. A migration writes out every setting."""
        operations.invoke(cls(arguments.spec(name, table, columns, **declared)))

    def statements(self) -> list[ExecutableDDLElement]:
        """Returns the statements to execute, in order."""
        return ddl.create(self.spec)

    def require_table(self, connection: sa.Connection) -> None:
        """Checks that the source can have a semantic index.

        Raises:
            errors.DeclarationError: It cannot.
        """
        supported_tables.key_of(connection, self.spec.schema, self.spec.table)

    def reverse(self) -> "DropSemanticIndexOp":
        """Returns the operation that undoes it."""
        return DropSemanticIndexOp(self.spec)


class DropSemanticIndexOp(SemanticIndexOp):
    """Drops a semantic index and its vectors."""

    NAME = "drop_semantic_index"

    @classmethod
    def drop_semantic_index(cls, operations: Operations, name: str, table: str, *, schema: str | None = None) -> None:
        """Drops a semantic index of ``table`` and its vectors. The table keeps its columns and rows."""
        operations.invoke(cls(arguments.nameplate(name, table, schema)))

    def statements(self) -> list[ExecutableDDLElement]:
        """Returns the statements to execute, in order."""
        return ddl.drop(self.spec)

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Returns the names of the index and its table, which are enough."""
        return [self.spec.name, self.spec.table], {}

    def reverse(self) -> CreateSemanticIndexOp:
        """Returns the operation that creates the index again. A worker then encodes all rows."""
        return CreateSemanticIndexOp(self.spec)


class _ChangeOp(SemanticIndexOp):
    """A change from one spec to another."""

    def __init__(self, target: IndexSpec, was: IndexSpec) -> None:
        super().__init__(target)
        self.was = was

    @classmethod
    def _invoke(cls, operations: Operations, target: IndexSpec, was: Mapping[str, Any]) -> None:
        operations.invoke(cls(target, arguments.changed_back(target, was)))

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Returns the arguments of the target, and in ``was`` the old value of each that changed."""
        positional, named = super().call()
        return positional, named | {"was": arguments.changed(self.spec, self.was)}

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Returns what ``alembic check`` reports."""
        was, now = arguments.changed(self.spec, self.was), arguments.of(self.spec)
        return (*super().to_diff_tuple(), {name: f"{value!r} -> {now[name]!r}" for name, value in was.items()})


class AlterSemanticIndexOp(_ChangeOp):
    """Starts to build a changed copy next to the live one."""

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
        """Starts to build a changed copy next to the live one. ``was`` holds the old values."""
        cls._invoke(operations, arguments.spec(name, table, columns, **declared), was)

    def statements(self) -> list[ExecutableDDLElement]:
        """Returns the statements to execute, in order."""
        return ddl.begin(self.spec, self.was)

    def reverse(self) -> "RevertSemanticIndexOp":
        """Returns the operation that undoes it."""
        return RevertSemanticIndexOp(self.spec, self.was)


class RevertSemanticIndexOp(_ChangeOp):
    """Undoes an `AlterSemanticIndexOp` that had the same arguments."""

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
        """Undoes ``alter_semantic_index`` with the same arguments."""
        cls._invoke(operations, arguments.spec(name, table, columns, **declared), was)

    def statements(self) -> list[ExecutableDDLElement]:
        """Returns the statements to execute, in order."""
        return ddl.withdraw(self.spec, self.was)

    def reverse(self) -> AlterSemanticIndexOp:
        """Returns the operation that undoes it."""
        return AlterSemanticIndexOp(self.spec, self.was)


class SetRecallObjectiveOp(SemanticIndexOp):
    """Changes the recall objective of a semantic index, in all its copies."""

    NAME = "set_recall_objective"

    def __init__(self, target: IndexSpec, was: float | None) -> None:
        super().__init__(target)
        self.was = was

    @classmethod
    def set_recall_objective(  # noqa: PLR0917 - Alembic gives the first
        cls,
        operations: Operations,
        name: str,
        table: str,
        objective: float | None,
        *,
        was: float | None,
        schema: str | None = None,
    ) -> None:
        """Sets the recall objective of a semantic index, or removes it with None. Nothing is built again."""
        operations.invoke(cls(arguments.nameplate(name, table, schema, recall_objective=objective), was))

    def statements(self) -> list[ExecutableDDLElement]:
        """Returns the statements to execute, in order."""
        return ddl.set_recall_objective(self.spec)

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Returns the names of the index and its table with the new objective, and the old one."""
        return [self.spec.name, self.spec.table, self.spec.recall_objective], {"was": self.was}

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Returns what ``alembic check`` reports."""
        return (*super().to_diff_tuple(), {"recall_objective": f"{self.was!r} -> {self.spec.recall_objective!r}"})

    def reverse(self) -> "SetRecallObjectiveOp":
        """Returns the operation that undoes it."""
        before = dataclasses.replace(self.spec, recall_objective=self.was)
        return SetRecallObjectiveOp(before, self.spec.recall_objective)


KINDS: tuple[type[SemanticIndexOp], ...] = (
    CreateSemanticIndexOp,
    DropSemanticIndexOp,
    AlterSemanticIndexOp,
    RevertSemanticIndexOp,
    SetRecallObjectiveOp,
)


def run(operations: Operations, operation: SemanticIndexOp) -> None:
    """Executes an operation on the connection of the migration, or prints it in an offline migration."""
    with database.translated():
        if not operations.migration_context.as_sql:
            database.require_installed(operations.get_bind())
            database.require_pgvector_found(operations.get_bind())
            operation.require_table(operations.get_bind())
        for statement in operation.statements():
            operations.execute(statement)
        if isinstance(operation, CreateSemanticIndexOp) and not operations.migration_context.as_sql:
            triggers.say_privileges(operations.get_bind(), operation.spec.schema, operation.spec.name)
