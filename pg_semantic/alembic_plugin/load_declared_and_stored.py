"""The two sides of a comparison: the declared semantic indexes, and those in the database.

Both are keyed by place: schema and name, where None stands for the default schema of the connection.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext

from pg_semantic import database, errors, registry
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import IndexSpec
from pg_semantic.registry import Generation

Place = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """The specs of a semantic index in the database: the live copy, and the next and previous ones, if they exist."""

    live: IndexSpec
    next: IndexSpec | None
    previous: IndexSpec | None

    @property
    def latest(self) -> IndexSpec:
        """The spec that the migrations so far lead to."""
        return self.next or self.live


def place(context: AutogenContext, schema: str | None, name: str) -> Place:
    """Returns where a table or index is, whether or not its schema is stated."""
    return (None if schema == default_schema(context) else schema, name)


def default_schema(context: AutogenContext) -> str | None:
    """Returns the schema of unqualified names."""
    return connection(context).dialect.default_schema_name


def connection(context: AutogenContext) -> sa.Connection:
    """Returns the connection to the database that Alembic compares."""
    assert context.connection is not None  # noqa: S101 - Alembic has already refused to autogenerate offline
    return context.connection


def declared(context: AutogenContext) -> dict[Place, BoundIndex[Any]]:
    """Returns the semantic indexes that the MetaData declares."""
    return {
        place(context, bound.spec.schema, bound.name): bound
        for metadata in _metadata(context)
        for bound in declare.indexes(metadata)
    }


def stored(context: AutogenContext) -> dict[Place, StoredIndex]:
    """Returns the semantic indexes of the database.

    Raises:
        errors.NotInstalled: The database lacks pgvector or the schema ``semantic``, although an index is declared.
    """
    if not _is_installed(context):
        return {}
    copies: dict[Place, dict[str, IndexSpec]] = {}
    for generation in registry.generations(connection(context)):
        spec = _as_declared(context, generation)
        copies.setdefault((spec.schema, spec.name), {})[generation.role] = spec
    return {
        where: StoredIndex(roles["live"], roles.get("next"), roles.get("previous"))
        for where, roles in copies.items()
        if "live" in roles
    }


def tables(context: AutogenContext) -> Iterator[Place]:
    """Yields every table that belongs to any copy of a semantic index, declared or not."""
    for bound in declared(context).values():
        for table in (bound.tables.chunks, bound.tables.receipts):
            yield place(context, table.schema, table.name)
    if _is_installed(context):
        for schema, name in registry.tables(connection(context)):
            yield place(context, schema, name)


def _metadata(context: AutogenContext) -> list[sa.MetaData]:
    given = context.metadata
    if given is None:
        return []
    return [given] if isinstance(given, sa.MetaData) else list(given)


def _as_declared(context: AutogenContext, generation: Generation) -> IndexSpec:
    """Returns the spec as a declaration has it, with the name of the index instead of that of the copy's table."""
    schema, _ = place(context, generation.spec.schema, generation.spec.table)
    return dataclasses.replace(generation.spec, name=generation.name, schema=schema)


def _is_installed(context: AutogenContext) -> bool:
    try:
        database.require_installed(connection(context))
    except errors.NotInstalled:
        if declared(context):
            raise
        return False
    return True
