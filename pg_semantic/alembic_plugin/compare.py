"""Finds the operations that turn the semantic indexes of the database into the declared ones."""

import dataclasses
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import UpgradeOps
from alembic.util import PriorityDispatchResult

from pg_semantic.alembic_plugin import load_declared_and_stored, unsupported
from pg_semantic.alembic_plugin.load_declared_and_stored import StoredIndex
from pg_semantic.alembic_plugin.operations import (
    AlterSemanticIndexOp,
    CreateSemanticIndexOp,
    DropSemanticIndexOp,
    RevertSemanticIndexOp,
    SemanticIndexOp,
    SetRecallObjectiveOp,
)
from pg_semantic.index import chunk_tables
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import IndexSpec


def compare(context: AutogenContext, upgrade_ops: UpgradeOps, schemas: set[str | None]) -> PriorityDispatchResult:
    """Adds the operations on semantic indexes to those that Alembic found. Alembic calls it as a comparator.

    Drops come first, because a later operation may drop the table; the others come last. A downgrade reverses each
    operation and their order, so this order is right for it too.

    Raises:
        errors.DeclarationError: A change that no migration can make.
        errors.NotInstalled: An index is declared, but the database lacks pgvector or the schema ``semantic``.
    """
    declared, stored = load_declared_and_stored.declared(context), load_declared_and_stored.stored(context)
    drops = [
        DropSemanticIndexOp(index.live)
        for where, index in stored.items()
        if where not in declared and where[0] in schemas and _is_included(context, index.live)
    ]
    others = [
        operation
        for where, bound in declared.items()
        if _is_included(context, bound.spec, bound.tables)
        for operation in _needed(bound.spec, stored.get(where))
    ]
    dropped = [drop.spec for drop in drops]
    unsupported.refuse_new_names(
        context, dropped, [other.spec for other in others if not isinstance(other, SetRecallObjectiveOp)]
    )
    for index in stored.values():
        if index.live not in dropped:
            unsupported.refuse_lost_columns(context, upgrade_ops, index)
    upgrade_ops.ops[:0] = drops
    upgrade_ops.ops.extend(others)
    return PriorityDispatchResult.CONTINUE


def _needed(declared: IndexSpec, stored: StoredIndex | None) -> list[SemanticIndexOp]:
    """Returns the operations that turn the stored semantic index into the declared one: none if they are equal.

    The recall objective changes in all copies at once, so it has an operation of its own, which builds nothing.
    """
    if stored is None:
        return [CreateSemanticIndexOp(declared)]
    unsupported.refuse_another_source(declared, stored.latest)
    # Known to be equal here, but perhaps written differently.
    names = {"table": declared.table, "schema": declared.schema, "key": declared.key}
    latest, live = (dataclasses.replace(spec, **names) for spec in (stored.latest, stored.live))  # type: ignore[arg-type]
    objective = latest.recall_objective
    same_objective = dataclasses.replace(declared, recall_objective=objective)
    needed: list[SemanticIndexOp] = []
    if same_objective == dataclasses.replace(live, recall_objective=objective) != latest:
        needed.append(RevertSemanticIndexOp(latest, live))
    elif same_objective != latest:
        needed.append(AlterSemanticIndexOp(same_objective, latest))
    if declared.recall_objective != objective:
        needed.append(SetRecallObjectiveOp(declared, objective))
    return needed


def _is_included(context: AutogenContext, spec: IndexSpec, declared: Tables | None = None) -> bool:
    """Whether the environment's own filters include both the source and the chunk table."""
    tables = declared or chunk_tables.build(spec)
    return all(_passes(context, table, reflected=declared is None) for table in (tables.source, tables.chunks))


def _passes(context: AutogenContext, table: sa.Table, *, reflected: bool) -> bool:
    """Calls the configured filters. The filters of the context include ours as well, so they aren't used."""
    by_name, by_object = context.opts.get("include_name"), context.opts.get("include_object")
    schema_name, _ = load_declared_and_stored.place(context, table.schema, table.name)
    parents: dict[str, Any] = {
        "schema_name": schema_name,
        "schema_qualified_table_name": f"{schema_name}.{table.name}" if schema_name else table.name,
    }
    if reflected and by_name is not None and not by_name(table.name, "table", parents):
        return False
    return by_object is None or bool(by_object(table, table.name, "table", reflected, None))
