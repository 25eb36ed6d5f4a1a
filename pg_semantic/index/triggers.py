"""DDL that hangs a semantic index on a user's table: triggers that mark changed rows, and the registry row.

It runs as the chunk table is created and before it is dropped. The SQL is in ``sql/capture.sql``; here its places
are filled with identifiers and literals that SQLAlchemy's compilers have quoted.
"""

import functools
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler, IdentifierPreparer

from pg_semantic import database, errors, sql
from pg_semantic.index import keys, table_requirements
from pg_semantic.index.spec import IndexSpec

log = logging.getLogger("pg_semantic.rights")


class _Step(ExecutableDDLElement):
    """A statement about one semantic index."""

    def __init__(self, spec: IndexSpec, tables: Sequence[sa.Table]) -> None:
        self.spec = spec
        self.source, self.chunks, self.receipts = tables


class CreateCaptureFunction(_Step):
    """Makes the function that marks changed rows, once the index is in the registry."""


class CreateReplicaFunction(_Step):
    """Makes the function that marks rows which arrive without statement triggers, as by logical replication."""


class LockSource(_Step):
    """Keeps writers from the source for a moment, before tables that refer to it are created."""


class Lock(_Step):
    """Locks the source and the tables of all copies, before these are dropped."""


class DropFunction(_Step):
    """DROP FUNCTION of it, its triggers included."""


class CreateTriggers(_Step):
    """Hangs the function on the source, one trigger for each kind of statement, and on its partitions."""


class Enable(CreateTriggers):
    """Hangs it, and enables triggers that somebody disabled."""


class Register(_Step):
    """Records the semantic index in the registry."""


class Unregister(_Step):
    """Removes it from the registry, and drops its other copies."""


class Begin(_Step):
    """Records the copy ``next``, whose tables have been created."""


class _Change(_Step):
    """A statement about a copy that is made as ``spec`` says, beside a live one that is as ``was`` says."""

    def __init__(self, spec: IndexSpec, tables: Sequence[sa.Table], was: IndexSpec) -> None:
        super().__init__(spec, tables)
        self.was = was


class Prepare(_Change):
    """Makes sure that the index is as ``was`` says; abandons a copy ``next`` that is."""


class Withdraw(_Change):
    """Drops that copy; when it is live by now, the one before is live again."""


def attach(spec: IndexSpec, *, source: sa.Table, chunks: sa.Table, receipts: sa.Table) -> None:
    """Makes CREATE and DROP of the chunk table carry the triggers and the registry row with them."""
    tables = (source, chunks, receipts)
    for table in (receipts, chunks):
        event.listen(table, "before_create", functools.partial(_require_ready, source))
        event.listen(table, "before_create", functools.partial(_require_original, table), propagate=True)
        event.listen(table, "before_create", LockSource(spec, tables))
    event.listen(source.metadata, "before_create", functools.partial(_require_as_stored, Register(spec, tables)))
    for step in created(spec, tables):
        event.listen(chunks, "after_create", step)
    event.listen(chunks, "after_create", _say_rights)
    for step in dropped(spec, tables):
        event.listen(chunks, "before_drop", step)


def say_rights(connection: sa.Connection, schema: str | None, chunks: str) -> None:
    """Logs who can read the semantic index with this chunk table."""
    binds = {"chunks": database.qualified_name(schema, chunks)}
    log.info("%s", connection.scalar(sql.statement("rights", "said_of_chunks"), binds))


def _say_rights(target: sa.Table, connection: object, **_: object) -> None:
    if isinstance(connection, sa.Connection):
        say_rights(connection, target.schema, target.name)


def created(spec: IndexSpec, tables: Sequence[sa.Table]) -> list[ExecutableDDLElement]:
    """What follows the creation of the tables: source, chunks and receipts."""
    return [Register(spec, tables), *hang(spec, tables)]


def dropped(spec: IndexSpec, tables: Sequence[sa.Table]) -> list[ExecutableDDLElement]:
    """What goes before the tables are dropped."""
    return [kind(spec, tables) for kind in (Lock, DropFunction, Unregister)]


def hang(spec: IndexSpec, tables: Sequence[sa.Table], *, enable: bool = False) -> list[ExecutableDDLElement]:
    """The statements that hang capture on the source and its partitions; they leave alone what hangs already.

    Triggers that somebody disabled stay so, unless they are to be enabled.
    """
    return [
        CreateCaptureFunction(spec, tables),
        CreateReplicaFunction(spec, tables),
        (Enable if enable else CreateTriggers)(spec, tables),
    ]


def _require_original(table: sa.Table, target: sa.Table, _connection: object, **_: object) -> None:
    """Refuses copies: what hangs a semantic index on a table is not copied with it."""
    if target is not table:
        raise errors.DeclarationError(
            f"{target.fullname} is a copy of a table, made by Table.to_metadata: no semantic index is copied so. "
            "For the same tables in another schema, create them with execution_options(schema_translate_map=...)."
        )


def _require_ready(source: sa.Table, _target: sa.Table, connection: object, **_: object) -> None:
    if isinstance(connection, sa.Connection):  # a mock connection only prints
        database.require_installed(connection)
        database.require_pgvector_found(connection)
        table_requirements.key_of(connection, connection.schema_for_object(source), source.name)


def _require_as_stored(step: Register, _target: sa.MetaData, connection: object, **_: object) -> None:
    """CREATE leaves a table alone that is there already; refuse when it is not the one that is declared."""
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
            f"A table {name} is there already and is not of a semantic index: pass another name=..."
        )
    if known.same_source is False and known.trouble is not None:  # NULL while there is no table of that name
        raise errors.DeclarationError(f"Semantic index {step.spec.name!r}: {known.trouble}.")
    if not known.same_source:
        receipts = _qualified(connection, step.receipts)
        raise errors.DeclarationError(
            f"The tables {name} and {receipts} are left over from a table {source} that was dropped: drop them too."
        )
    _require_same_recipe(step.spec, IndexSpec.from_json(known.spec))


def _require_same_recipe(declared: IndexSpec, stored: IndexSpec) -> None:
    way_out = (
        "change it with a migration (docs/migrations.md) or `pg-semantic generation begin "
        f"{declared.name}`, or declare what is there."
    )
    if declared.encoder != stored.encoder:
        raise errors.EncoderMismatch(
            f"Semantic index {declared.name!r} is declared with {declared.encoder}, and its table has vectors of "
            f"{stored.encoder}: {way_out}"
        )
    keys.require_same(declared, stored)
    for name in ("columns", "chunking", "storage", "hnsw", "lexical", "rights_by"):
        if getattr(declared, name) != getattr(stored, name):
            raise errors.DeclarationError(
                f"Semantic index {declared.name!r} is declared with {name}={getattr(declared, name)}, and was created "
                f"with {getattr(stored, name)}: {way_out}"
            )


@compiles(CreateCaptureFunction, "postgresql")
def _watch(step: CreateCaptureFunction, compiler: DDLCompiler, **_: object) -> str:
    spec = step.spec
    old, new = step.source.alias("old_rows"), step.source.alias("new_rows")
    old_key, new_key = ([keys.column(rows, column.name) for column in spec.key] for rows in (old, new))
    render = _renderer(compiler)
    as_text = {"old_key": render(keys.as_text(old_key)), "new_key": render(keys.as_text(new_key))}
    other_row = render(sa.or_(old_key[0].is_(None), new_key[0].is_(None)))
    fragments = {
        **as_text,
        "other_row": other_row,
        "is_changed": _fill("is_changed", other_row=other_row, or_other_key=_or_other_key(spec, **as_text)),
        "priority": _fill("priority"),
    }
    body = _fill(
        "body",
        **fragments,
        inserted=_fill("inserted", **fragments),
        updated=_fill("updated", **fragments),
        deleted=_fill("deleted", **fragments),
    )
    settings = _fill("settings") if any(keys.depends_on_settings(column.type) for column in spec.key) else ""
    return _fill(
        "watch",
        name=_literal(compiler, spec.name),
        source=_regclass(compiler, step.source),
        function_name=_literal(compiler, spec.capture_name),
        statement=_quoted(_fill("function", settings=settings, body=_quoted(body))),
    )


@compiles(CreateReplicaFunction, "postgresql")
def _watch_replica(step: CreateReplicaFunction, compiler: DDLCompiler, **_: object) -> str:
    spec, render = step.spec, _renderer(compiler)
    old, new = step.source.alias("old_rows"), step.source.alias("new_rows")
    key = ([keys.column(rows, column.name) for column in spec.key] for rows in (old, new))
    old_key, new_key = (render(keys.as_text(columns)) for columns in key)
    body = _fill("replica_body", old_key=old_key, new_key=new_key, or_carried=_or_carried(spec, compiler))
    return _fill(
        "watch_replica",
        name=_literal(compiler, spec.name),
        source=_regclass(compiler, step.source),
        function_name=_literal(compiler, spec.replica_name),
        statement=_quoted(_fill("function", settings=_fill("settings"), body=_quoted(body))),
    )


def _quoted(rendered: str) -> str:
    """A literal of SQL that has been rendered; not a dollar quote, which a name could end."""
    return "'" + rendered.replace("'", "''") + "'"


def _or_other_key(spec: IndexSpec, *, old_key: str, new_key: str) -> str:
    """For keys whose equal values may be written in several ways, the rest of a condition."""
    if all(keys.has_canonical_text(column.type) for column in spec.key):
        return ""
    return f'OR ({old_key}) COLLATE "C" <> ({new_key}) COLLATE "C"'


def _or_carried(spec: IndexSpec, compiler: DDLCompiler) -> str:
    """For an index with a column that policies look at, the rest of a condition."""
    if spec.carried is None:
        return ""
    name = compiler.preparer.quote(spec.carried)
    old, new = (f'CAST({rows}.{name} AS TEXT) COLLATE "C"' for rows in ("old_rows", "new_rows"))
    return f"OR {new} IS DISTINCT FROM {old}"


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
def _hang(step: CreateTriggers, compiler: DDLCompiler, **_: object) -> str:
    return _fill(
        "hang",
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


@compiles(Unregister, "postgresql")
def _unregister(step: Unregister, compiler: DDLCompiler, **_: object) -> str:
    return _fill("unregister", chunks=_regclass(compiler, step.chunks))


def _fill(statement: str, /, **places: str) -> str:
    return sql.template("capture", statement).substitute(places)


def _renderer(compiler: DDLCompiler) -> Callable[[sa.ColumnElement[Any]], str]:
    def render(expression: sa.ColumnElement[Any]) -> str:
        return compiler.sql_compiler.process(expression, literal_binds=True)

    return render


def _function(compiler: DDLCompiler, step: _Step, name: str) -> str:
    schema = compiler.preparer.schema_for_object(step.source)
    prefix = f"{compiler.preparer.quote(schema)}." if schema else ""
    return prefix + compiler.preparer.quote(name)


def _qualified(place: sa.Connection | IdentifierPreparer, table: sa.Table) -> str:
    """A table's name, in the schema that a `schema_translate_map` puts it in."""
    return database.qualified_name(place.schema_for_object(table), table.name)


def _literal(compiler: DDLCompiler, value: str) -> str:
    return compiler.sql_compiler.render_literal_value(value, sa.String())


def _regclass(compiler: DDLCompiler, table: sa.Table) -> str:
    return f"CAST({_literal(compiler, _qualified(compiler.preparer, table))} AS regclass)"
