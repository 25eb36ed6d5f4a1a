"""DDL that attaches a semantic index to its source: triggers that mark changed rows, and the registry row.

It runs when the chunk table is created, and before it is dropped. The SQL is in ``sql/triggers.sql``; this module fills
its placeholders with identifiers and literals that SQLAlchemy's compilers have quoted.
"""

import functools
import json
import logging
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler, IdentifierPreparer

from pg_semantic import database, errors, sql
from pg_semantic.index import keys, supported_tables
from pg_semantic.index.spec import IndexSpec

log = logging.getLogger("pg_semantic.privileges")
declarations = logging.getLogger("pg_semantic.index")


class _Step(ExecutableDDLElement):
    """A statement about one semantic index."""

    def __init__(self, spec: IndexSpec, tables: Sequence[sa.Table]) -> None:
        self.spec = spec
        self.source, self.chunks, self.receipts = tables


class CreateCaptureFunctions(_Step):
    """Creates the functions that mark changed rows, by statement and by row. The index must be in the registry."""


class LockSource(_Step):
    """Briefly blocks writers to the source, before tables that reference it are created."""


class Lock(_Step):
    """Locks the source and the tables of all generations, before these are dropped."""


class DropFunction(_Step):
    """Drops the capture functions with their triggers."""


class CreateTriggers(_Step):
    """Creates the triggers on the source, one for each kind of statement, and on its partitions."""


class Enable(CreateTriggers):
    """Creates the triggers, and enables those that were disabled."""


class Register(_Step):
    """Records the semantic index in the registry."""


class Unregister(_Step):
    """Removes the semantic index from the registry, and drops its other generations."""


class SetRecallObjective(_Step):
    """Gives all generations the recall objective of the spec."""


class Begin(_Step):
    """Records the generation ``next``, whose tables exist by now."""


class _Change(_Step):
    """A statement about a generation with ``spec``, next to a live one with the spec ``was``."""

    def __init__(self, spec: IndexSpec, tables: Sequence[sa.Table], was: IndexSpec) -> None:
        super().__init__(spec, tables)
        self.was = was


class Prepare(_Change):
    """Checks that the index matches ``was``. If its generation ``next`` does, drops that one."""


class Withdraw(_Change):
    """Drops that generation. If it is already live, makes the previous one live again."""


def attach(spec: IndexSpec, *, source: sa.Table, chunks: sa.Table, receipts: sa.Table) -> None:
    """Makes CREATE and DROP of the chunk table also create and drop the triggers and the registry row."""
    tables = (source, chunks, receipts)
    for table in (receipts, chunks):
        event.listen(table, "before_create", functools.partial(_require_ready, source))
        event.listen(table, "before_create", functools.partial(_require_original, table), propagate=True)
        event.listen(table, "before_create", LockSource(spec, tables))
    event.listen(source.metadata, "before_create", functools.partial(_require_as_stored, Register(spec, tables)))
    for step in created(spec, tables):
        event.listen(chunks, "after_create", step)
    event.listen(chunks, "after_create", _say_privileges)
    for step in dropped(spec, tables):
        event.listen(chunks, "before_drop", step)


def say_privileges(connection: sa.Connection, schema: str | None, chunks: str) -> None:
    """Logs which roles can read the semantic index with this chunk table."""
    binds = {"chunks": database.qualified_name(schema, chunks)}
    said = connection.scalar(sql.statement("privileges", "said_of_chunks"), binds)
    log.info("%s", said, extra={"event": "privileges"})


def _say_privileges(target: sa.Table, connection: object, **_: object) -> None:
    if isinstance(connection, sa.Connection):
        say_privileges(connection, target.schema, target.name)


def created(spec: IndexSpec, tables: Sequence[sa.Table]) -> list[ExecutableDDLElement]:
    """Returns the statements to run after the tables are created.

    Args:
        spec: The semantic index.
        tables: Source, chunk table and receipt table.
    """
    return [Register(spec, tables), *create_triggers(spec, tables)]


def dropped(spec: IndexSpec, tables: Sequence[sa.Table]) -> list[ExecutableDDLElement]:
    """Returns the statements to run before the tables are dropped."""
    return [kind(spec, tables) for kind in (Lock, DropFunction, Unregister)]


def create_triggers(spec: IndexSpec, tables: Sequence[sa.Table], *, enable: bool = False) -> list[ExecutableDDLElement]:
    """Returns the statements that install capture on the source and its partitions. Existing triggers are kept.

    Args:
        spec: The semantic index.
        tables: Source, chunk table and receipt table.
        enable: Whether to enable disabled triggers.
    """
    return [
        CreateCaptureFunctions(spec, tables),
        (Enable if enable else CreateTriggers)(spec, tables),
    ]


def _require_original(table: sa.Table, target: sa.Table, _connection: object, **_: object) -> None:
    """Rejects copies of a table, because the events that create a semantic index are not copied with it."""
    if target is not table:
        raise errors.DeclarationError(
            f"{target.fullname} was copied with Table.to_metadata, which cannot copy a semantic index. To create the "
            "same tables in another schema, use execution_options(schema_translate_map=...)."
        )


def _require_ready(source: sa.Table, _target: sa.Table, connection: object, **_: object) -> None:
    if isinstance(connection, sa.Connection):  # a mock connection only prints
        database.require_installed(connection)
        database.require_pgvector_found(connection)
        supported_tables.key_of(connection, connection.schema_for_object(source), source.name)


def _require_as_stored(step: Register, _target: sa.MetaData, connection: object, **_: object) -> None:
    """Rejects an existing table that is not the declared one, because `create_all` would silently keep it."""
    if not isinstance(connection, sa.Connection):
        return
    name = _qualified(connection, step.chunks)
    if connection.scalar(sa.select(sa.func.to_regclass(name))) is None:
        return
    database.require_installed(connection)
    source = _qualified(connection, step.source)
    binds = {"chunks": name, "source": source}
    known = connection.execute(sql.statement("registry", "stored"), binds).one_or_none()
    if known is None:
        raise errors.DeclarationError(
            f"Table {name} already exists and doesn't belong to a semantic index: pass another name=..."
        )
    if known.same_source is False and known.problem is not None:  # NULL if no table has that name
        raise errors.DeclarationError(f"Semantic index {step.spec.name!r}: {known.problem}.")
    if not known.same_source:
        receipts = _qualified(connection, step.receipts)
        raise errors.DeclarationError(
            f"The tables {name} and {receipts} are left over from a table {source} that was dropped: drop them too."
        )
    stored = IndexSpec.from_json(known.spec)
    _require_same_recipe(step.spec, stored)
    _warn_of_another_objective(step.spec, stored)


def _warn_of_another_objective(declared: IndexSpec, stored: IndexSpec) -> None:
    """Logs a difference that searches and the worker can live with, and that an operator may have made on purpose."""
    if declared.recall_objective != stored.recall_objective:
        wanted = "none" if declared.recall_objective is None else format(declared.recall_objective, "g")
        declarations.warning(
            "semantic index %s is declared with recall_objective=%s, but the database keeps %s. To change that: a "
            "migration, or `pg-semantic index objective %s %s`",
            declared.name,
            declared.recall_objective,
            stored.recall_objective,
            declared.name,
            wanted,
            extra={"event": "recall_objective_differs", "index": declared.name},
        )


def _require_same_recipe(declared: IndexSpec, stored: IndexSpec) -> None:
    way_out = (
        "change it with a migration (docs/how-to/alembic.md) or `pg-semantic generation begin "
        f"{declared.name}`, or correct the declaration."
    )
    if declared.encoder != stored.encoder:
        raise errors.EncoderMismatch(
            f"Semantic index {declared.name!r} is declared with {declared.encoder}, but its table has vectors "
            f"from {stored.encoder}: {way_out}"
        )
    keys.require_same(declared, stored)
    recipe = ("columns", "chunking", "storage", "compressed", "hnsw", "lexical", "policy_column")
    for name in (*recipe, "partitions", "partition_by"):
        if getattr(declared, name) != getattr(stored, name):
            raise errors.DeclarationError(
                f"Semantic index {declared.name!r} is declared with {name}={getattr(declared, name)}, but was created "
                f"with {getattr(stored, name)}: {way_out}"
            )


@compiles(CreateCaptureFunctions, "postgresql")
def _create_functions(step: CreateCaptureFunctions, compiler: DDLCompiler, **_: object) -> str:
    return _fill("create_functions", name=_literal(compiler, step.spec.name), source=_regclass(compiler, step.source))


@compiles(LockSource, "postgresql")
def _lock_source(step: LockSource, compiler: DDLCompiler, **_: object) -> str:
    return _fill("lock_source", source=_regclass(compiler, step.source))


@compiles(Lock, "postgresql")
def _lock(step: Lock, compiler: DDLCompiler, **_: object) -> str:
    source = _literal(compiler, _qualified(compiler.preparer, step.source))
    return _fill(
        "lock", source=source, chunks=_regclass(compiler, step.chunks), receipts=_regclass(compiler, step.receipts)
    )


@compiles(DropFunction, "postgresql")
def _drop_function(step: DropFunction, compiler: DDLCompiler, **_: object) -> str:
    names = {"function": step.spec.capture_name, "replica": step.spec.replica_name}
    return _fill("drop_function", **{place: _function(compiler, step, name) for place, name in names.items()})


@compiles(Enable, "postgresql")
@compiles(CreateTriggers, "postgresql")
def _create_triggers(step: CreateTriggers, compiler: DDLCompiler, **_: object) -> str:
    return _fill(
        "create_triggers",
        source=_regclass(compiler, step.source),
        function_name=_literal(
            compiler, database.qualified_name(compiler.preparer.schema_for_object(step.source), step.spec.capture_name)
        ),
        stem=_literal(compiler, step.spec.capture_name),
        enable=str(isinstance(step, Enable)).lower(),
    )


@compiles(Register, "postgresql")
def _register(step: Register, compiler: DDLCompiler, **_: object) -> str:
    return _fill("register", **_entry(step, compiler))


@compiles(Begin, "postgresql")
def _begin(step: Begin, compiler: DDLCompiler, **_: object) -> str:
    return _fill("begin", **_entry(step, compiler))


def _entry(step: Register | Begin, compiler: DDLCompiler) -> dict[str, str]:
    return {
        "name": _literal(compiler, step.spec.name),
        "source": _regclass(compiler, step.source),
        "chunks": _regclass(compiler, step.chunks),
        "receipts": _regclass(compiler, step.receipts),
        "encoder_id": str(step.spec.encoder.id),
        "spec": _literal(compiler, json.dumps(step.spec.to_json())),
    }


@compiles(Prepare, "postgresql")
def _prepare(step: Prepare, compiler: DDLCompiler, **_: object) -> str:
    return _fill("prepare", **_change(step, compiler))


@compiles(Withdraw, "postgresql")
def _withdraw(step: Withdraw, compiler: DDLCompiler, **_: object) -> str:
    return _fill("withdraw", **_change(step, compiler))


def _change(step: _Change, compiler: DDLCompiler) -> dict[str, str]:
    return {
        "name": _literal(compiler, step.spec.name),
        "source": _regclass(compiler, step.source),
        "target": _literal(compiler, json.dumps(step.spec.to_json())),
        "was": _literal(compiler, json.dumps(step.was.to_json())),
    }


@compiles(SetRecallObjective, "postgresql")
def _set_recall_objective(step: SetRecallObjective, compiler: DDLCompiler, **_: object) -> str:
    return _fill(
        "set_recall_objective",
        chunks=_regclass(compiler, step.chunks),
        objective="NULL" if step.spec.recall_objective is None else repr(float(step.spec.recall_objective)),
    )


@compiles(Unregister, "postgresql")
def _unregister(step: Unregister, compiler: DDLCompiler, **_: object) -> str:
    return _fill("unregister", chunks=_regclass(compiler, step.chunks))


def _fill(statement: str, /, **places: str) -> str:
    return sql.template("triggers", statement).substitute(places)


def _function(compiler: DDLCompiler, step: _Step, name: str) -> str:
    schema = compiler.preparer.schema_for_object(step.source)
    prefix = f"{compiler.preparer.quote(schema)}." if schema else ""
    return prefix + compiler.preparer.quote(name)


def _qualified(place: sa.Connection | IdentifierPreparer, table: sa.Table) -> str:
    """Returns a table's qualified name, after `schema_translate_map`."""
    return database.qualified_name(place.schema_for_object(table), table.name)


def _literal(compiler: DDLCompiler, value: str) -> str:
    return compiler.sql_compiler.render_literal_value(value, sa.String())


def _regclass(compiler: DDLCompiler, table: sa.Table) -> str:
    return f"CAST({_literal(compiler, _qualified(compiler.preparer, table))} AS regclass)"
