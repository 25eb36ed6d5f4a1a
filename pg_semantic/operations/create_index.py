"""From a table in the database to a spec, for tables that have no mapped class."""

from collections.abc import Sequence

import sqlalchemy as sa

from pg_semantic import database, errors, jobqueue, registry, sql
from pg_semantic.index import chunk_tables, ddl, table_requirements
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import EncoderSpec, IndexSpec, Lexical
from pg_semantic.registry import Generation

# For what `semantic.lock_v1` has not locked by then: nothing that writers could wait behind is waited for longer.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '200ms'"


def describe(  # noqa: PLR0913 - what can be declared
    connection: sa.Connection,
    table: str,
    *,
    columns: tuple[str, ...],
    encoder: EncoderSpec,
    chunking: Chunking | None = Chunking(),  # noqa: B008 - frozen
    lexical: Lexical | None = Lexical(),  # noqa: B008 - frozen
    rights_by: str | None = None,
    name: str | None = None,
) -> IndexSpec:
    """The spec of a semantic index on ``table``, which may be qualified with a schema.

    Raises `errors.DeclarationError` for a table or column that is not there, is not text, or has no primary key.
    """
    stated, _, table_name = table.rpartition(".")
    with database.translated():
        schema_name = stated or _schema_on_path(connection, table_name)
        _require_text(connection, columns, table=table_name, schema_name=schema_name)
        key = table_requirements.key_of(connection, schema_name, table_name)
    return IndexSpec(
        name=name or f"{table_name}_semantic",
        table=table_name,
        schema=schema_name,
        key=key,
        columns=columns,
        encoder=encoder,
        chunking=chunking,
        lexical=lexical,
        rights_by=rights_by,
    )


def create(engine: sa.Engine, spec: IndexSpec) -> None:
    """Creates the tables, triggers and registry row of a spec, in one transaction."""
    tables = chunk_tables.build(spec)
    with database.translated(), engine.begin() as connection:
        connection.execute(sa.text(_LOCK_TIMEOUT))
        database.require_installed(connection)
        taken = {generation.qualified_name for generation in registry.generations(connection)}
        if f"{spec.schema or connection.scalar(sa.func.current_schema())}.{spec.name}" in taken:
            raise errors.DeclarationError(
                f"There is a semantic index {spec.name!r} already: choose another name, or drop it with "
                f"`pg-semantic index drop {spec.name}`."
            )
        tables.source.metadata.create_all(connection, [tables.receipts, tables.chunks], checkfirst=False)


def rights(engine: sa.Engine, spec: IndexSpec) -> str:
    """Who can read a semantic index, in a sentence."""
    name = database.qualified_name(spec.schema, spec.name)
    with database.translated(), engine.connect() as connection:
        return str(connection.scalar(sql.statement("rights", "said_of_chunks"), {"chunks": name}))


def drop(engine: sa.Engine, spec: IndexSpec) -> None:
    """Drops a semantic index with its vectors; the source table is left as it is."""
    tables = chunk_tables.build(spec)
    with database.translated(), engine.begin() as connection:
        connection.execute(sa.text(_LOCK_TIMEOUT))
        tables.source.metadata.drop_all(connection, [tables.receipts, tables.chunks])
    with database.translated():
        jobqueue.sweep(engine)


def adopt(engine: sa.Engine, generation: Generation, table: str | None = None) -> str:
    """Moves a semantic index to another table, all copies of it; a worker then compares every row with its vectors.

    That is for a table that was loaded beside the old one and took its name. Vectors of equal text are kept. The old
    table is left as it is, without triggers.

    Args:
        engine: Of the database.
        generation: The live generation of the index.
        table: The table to move it to. By default, the one that has the name that the index was declared with.

    Returns:
        The name of the table that it is moved to.

    Raises:
        errors.DeclarationError: There is no such table.
        errors.DatabaseError: The table does not have the same columns and key, or stays locked for
            longer than `semantic.lock_seconds`, 30 by default.
    """
    with database.translated(), engine.begin() as connection:
        connection.execute(sa.text(_LOCK_TIMEOUT))
        database.require_installed(connection)
        index = {"index": generation.index_id}
        name = table or connection.scalar(sql.statement("registry", "declared_source"), index)
        if connection.scalar(sa.select(sa.func.to_regclass(name))) is None:
            raise errors.DeclarationError(f"No table {name!r} in this database: name the one to move the index to.")
        connection.execute(sql.statement("registry", "adopt"), index | {"table": name})
        [moved] = [one for one in registry.generations(connection) if one.id == generation.id]
        for step in ddl.create_triggers(moved.spec):
            connection.execute(step)
        connection.execute(sql.statement("rights", "follow"), index)
    return str(name)


def _schema_on_path(connection: sa.Connection, table: str) -> str | None:
    """The schema in which an unqualified name is found, which need not be the first on the search path."""
    relation = sa.func.to_regclass(database.qualified_name(None, table))
    statement = sa.text(
        "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = :oid"
    )
    oid = connection.scalar(sa.select(sa.cast(relation, sa.BigInteger)))
    found: str | None = connection.scalar(statement, {"oid": oid})
    return found


def _require_text(connection: sa.Connection, columns: Sequence[str], *, table: str, schema_name: str | None) -> None:
    source = database.qualified_name(schema_name, table)
    found = {row.name: row for row in connection.execute(sql.statement("registry", "columns"), {"source": source})}
    if not found:
        known = ", ".join(sorted(sa.inspect(connection).get_table_names(schema_name))[:20]) or "none"
        raise errors.DeclarationError(f"No table {table!r} in this database. There are: {known}.")
    for name in columns:
        if name not in found:
            raise errors.DeclarationError(f"Table {table!r} has no column {name!r}. Columns are: {', '.join(found)}.")
        if not found[name].is_text:
            kind = found[name].type
            way_out = chunk_tables.not_text(source, database.qualified_name(None, name), kind)
            raise errors.DeclarationError(f"Column {name!r} of {table!r} is not text but {kind}: {way_out}")
