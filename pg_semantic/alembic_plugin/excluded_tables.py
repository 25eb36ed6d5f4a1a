"""Excludes the tables of semantic indexes from Alembic's own comparison, because our operations manage them."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import UpgradeOps
from alembic.util import PriorityDispatchResult

from pg_semantic.alembic_plugin import load_declared_and_stored
from pg_semantic.alembic_plugin.load_declared_and_stored import Place
from pg_semantic.compat import alembic_internals
from pg_semantic.database import migrate


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters that Alembic calls to decide whether to compare a table.

    Attributes:
        context: Alembic's context.
        tables: The tables to exclude.
    """

    context: AutogenContext
    tables: frozenset[Place]

    def by_name(self, name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        """Returns whether to include an object in the database, by its name."""
        return kind != "table" or (parents.get("schema_name"), name) not in self.tables

    def by_object(self, thing: sa.schema.SchemaItem, _name: object, kind: str, *_: object) -> bool:
        """Returns whether to include a declared or reflected object."""
        if kind != "table" or not isinstance(thing, sa.Table):
            return True
        return load_declared_and_stored.place(self.context, thing.schema, thing.name) not in self.tables


def hide(context: AutogenContext, _upgrade_ops: UpgradeOps, schemas: set[str | None]) -> PriorityDispatchResult:
    """Runs before Alembic's comparison, which then neither reflects the tables of semantic indexes nor misses them."""
    schemas.discard(migrate.SCHEMA)
    filters = Filters(context, frozenset(load_declared_and_stored.tables(context)))
    alembic_internals.add_filters(context, by_name=filters.by_name, by_object=filters.by_object)
    return PriorityDispatchResult.CONTINUE
