"""Keeps Alembic's own comparison from tables that belong to semantic indexes: our operations own them."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import UpgradeOps
from alembic.util import PriorityDispatchResult

from pg_semantic.alembic_plugin import declared_and_stored
from pg_semantic.alembic_plugin.declared_and_stored import Place
from pg_semantic.database import migrate


@dataclass(frozen=True, slots=True)
class Filters:
    """What Alembic asks whether it is to look at a table: by its name in the database, and as it is declared."""

    context: AutogenContext
    tables: frozenset[Place]

    def by_name(self, name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        """Whether a name of the database is not that of a table of ours."""
        return kind != "table" or (parents.get("schema_name"), name) not in self.tables

    def by_object(self, thing: sa.schema.SchemaItem, _name: object, kind: str, *_: object) -> bool:
        """Whether a declared thing is not a table of ours."""
        if kind != "table" or not isinstance(thing, sa.Table):
            return True
        return declared_and_stored.place(self.context, thing.schema, thing.name) not in self.tables


def hide(context: AutogenContext, _upgrade_ops: UpgradeOps, schemas: set[str | None]) -> PriorityDispatchResult:
    """Goes before Alembic's comparison, which then neither reflects our tables nor misses them."""
    schemas.discard(migrate.SCHEMA)
    filters = Filters(context, frozenset(declared_and_stored.tables(context)))
    # There is no public way to add to the filters that an environment has, and none can be asked of every environment.
    context._name_filters.append(filters.by_name)  # noqa: SLF001
    context._object_filters.append(filters.by_object)  # noqa: SLF001
    return PriorityDispatchResult.CONTINUE
