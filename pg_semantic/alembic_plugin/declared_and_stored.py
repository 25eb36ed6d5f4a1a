"""The two sides of a comparison: the semantic indexes that are declared, and those that the database has.

Both are found by place: their schema and name, where None is the schema that the connection uses by default.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext

from pg_semantic import database, errors, registry
from pg_semantic.index import declare
from pg_semantic.index.declare import BoundIndex
from pg_semantic.index.spec import IndexSpec
from pg_semantic.registry import Generation

Place = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """A semantic index of the database: the copy that is live, the next while one is built, and the one before."""

    live: IndexSpec
    next: IndexSpec | None
    previous: IndexSpec | None

    @property
    def latest(self) -> IndexSpec:
        """What migrations have made of it so far."""
        return self.next or self.live


def place(context: AutogenContext, schema: str | None, name: str) -> Place:
    """Where something is, however its schema is written."""
    return (None if schema == default_schema(context) else schema, name)


def default_schema(context: AutogenContext) -> str | None:
    """The schema of names that are not qualified."""
    return connection(context).dialect.default_schema_name


def connection(context: AutogenContext) -> sa.Connection:
    """The connection to the database that is compared; Alembic autogenerates with no other."""
    assert context.connection is not None  # noqa: S101 - offline, Alembic has refused by now
    return context.connection


def declared(context: AutogenContext) -> dict[Place, BoundIndex[Any]]:
    """The semantic indexes that the MetaData declares."""
    return {
        place(context, bound.spec.schema, bound.name): bound
        for metadata in _metadata(context)
        for bound in declare.indexes(metadata)
    }


def stored(context: AutogenContext) -> dict[Place, StoredIndex]:
    """The semantic indexes of the database."""
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
    """Every table that belongs to a semantic index, declared or not, whichever copy of it."""
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
    """The spec as a declaration has it: the name is the semantic index's, not that of the copy's table."""
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
