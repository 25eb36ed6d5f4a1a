"""Creates, drops and moves semantic indexes, also of tables that have no mapped class."""

import dataclasses
from collections.abc import Sequence

import sqlalchemy as sa

from pg_semantic import database, errors, jobqueue, registry, sql
from pg_semantic.index import chunk_tables, ddl, supported_tables
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import EncoderSpec, IndexSpec, Lexical
from pg_semantic.registry import Generation

# For locks that `semantic.lock_tables_v1` has not taken by then. Writers queue behind a waiting lock, so it is short.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '200ms'"


def describe(  # noqa: PLR0913 - what can be declared
    connection: sa.Connection,
    table: str,
    *,
    columns: tuple[str, ...],
    encoder: EncoderSpec,
    chunking: Chunking | None = Chunking(),  # noqa: B008 - frozen
    lexical: Lexical | None = Lexical(),  # noqa: B008 - frozen
    policy_column: str | None = None,
    recall_objective: float | None = None,
    partitions: int = 1,
    partition_by: str | None = None,
    name: str | None = None,
) -> IndexSpec:
    """Returns the spec of a semantic index on ``table``, which may be qualified with a schema.

    Raises `errors.DeclarationError` if the table, its primary key or a column doesn't exist, or a column isn't text.
    """
    stated, _, table_name = table.rpartition(".")
    with database.translated():
        schema_name = stated or _schema_on_path(connection, table_name)
        _require_text(connection, columns, table=table_name, schema_name=schema_name)
        key = supported_tables.key_of(connection, schema_name, table_name)
    return IndexSpec(
        name=name or f"{table_name}_semantic",
        table=table_name,
        schema=schema_name,
        key=key,
        columns=columns,
        encoder=encoder,
        chunking=chunking,
        lexical=lexical,
        policy_column=policy_column,
        recall_objective=recall_objective,
        partitions=partitions,
        partition_by=partition_by,
    )


def create(engine: sa.Engine, spec: IndexSpec) -> None:
    """Creates the tables, triggers and registry row of a spec, in one transaction.

    Raises:
        errors.DeclarationError: A semantic index of this name exists.
        errors.NotInstalled: The database lacks pgvector or the schema ``semantic`` of this version.
    """
    tables = chunk_tables.build(spec)
    with database.translated(), engine.begin() as connection:
        connection.execute(sa.text(_LOCK_TIMEOUT))
        database.require_installed(connection)
        taken = {generation.qualified_name for generation in registry.generations(connection)}
        if f"{spec.schema or connection.scalar(sa.func.current_schema())}.{spec.name}" in taken:
            raise errors.DeclarationError(
                f"Semantic index {spec.name!r} already exists: choose another name, or drop it with "
                f"`pg-semantic index drop {spec.name}`."
            )
        tables.source.metadata.create_all(connection, [tables.receipts, tables.chunks], checkfirst=False)


def set_recall_objective(engine: sa.Engine, spec: IndexSpec, objective: float | None) -> None:
    """Changes the recall objective of a semantic index, or removes it. Builds nothing again.

    Args:
        engine: Connects to the database as the owner of the schema `semantic`.
        spec: The live spec of the index.
        objective: The share of the nearest chunks that the vector index should find, between 0 and 1; None for none.

    Raises:
        errors.DeclarationError: The objective is out of range.
    """
    target = dataclasses.replace(spec, recall_objective=objective)
    with database.translated(), engine.begin() as connection:
        database.require_installed(connection)
        for step in ddl.set_recall_objective(target):
            connection.execute(step)


def privileges(engine: sa.Engine, spec: IndexSpec) -> str:
    """Returns a sentence that says who can read a semantic index."""
    name = database.qualified_name(spec.schema, spec.name)
    with database.translated(), engine.connect() as connection:
        return str(connection.scalar(sql.statement("privileges", "said_of_chunks"), {"chunks": name}))


def drop(engine: sa.Engine, spec: IndexSpec) -> None:
    """Drops a semantic index, its vectors and its jobs. The source table only loses its triggers."""
    tables = chunk_tables.build(spec)
    with database.translated(), engine.begin() as connection:
        connection.execute(sa.text(_LOCK_TIMEOUT))
        tables.source.metadata.drop_all(connection, [tables.receipts, tables.chunks])
    with database.translated():
        jobqueue.sweep(engine)


def adopt(engine: sa.Engine, generation: Generation, table: str | None = None) -> str:
    """Moves a semantic index, with all its copies, to another table. A worker then compares every row.

    For a table that was loaded next to the old one and took its name. Vectors of equal text are kept. The old table
    keeps its rows and loses the triggers.

    Args:
        engine: Connects to the database.
        generation: The live generation of the index.
        table: The table to move to. Default: the one that now has the name from the declaration.

    Returns:
        The name of the new table.

    Raises:
        errors.DeclarationError: The table doesn't exist.
        errors.DatabaseError: The table lacks the columns or the key, or stays locked for longer than
            `semantic.lock_seconds` (default: 30).
    """
    with database.translated(), engine.begin() as connection:
        connection.execute(sa.text(_LOCK_TIMEOUT))
        database.require_installed(connection)
        index = {"index": generation.index_id}
        name = table or connection.scalar(sql.statement("registry", "declared_source"), index)
        if connection.scalar(sa.select(sa.func.to_regclass(name))) is None:
            raise errors.DeclarationError(f"No table {name!r} in this database: pass the table to move the index to.")
        connection.execute(sql.statement("registry", "adopt"), index | {"table": name})
        [moved] = [one for one in registry.generations(connection) if one.id == generation.id]
        for step in ddl.create_triggers(moved.spec):
            connection.execute(step)
        connection.execute(sql.statement("privileges", "follow"), index)
    return str(name)


def _schema_on_path(connection: sa.Connection, table: str) -> str | None:
    """Returns the schema where the search path finds a table, which may not be the first on the path."""
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
        raise errors.DeclarationError(f"No table {table!r} in this database. Its tables: {known}.")
    for name in columns:
        if name not in found:
            raise errors.DeclarationError(f"Table {table!r} has no column {name!r}. Its columns: {', '.join(found)}.")
        if not found[name].is_text:
            kind = found[name].type
            way_out = chunk_tables.not_text(source, database.qualified_name(None, name), kind)
            raise errors.DeclarationError(f"Column {name!r} of {table!r} is not text but {kind}: {way_out}")
