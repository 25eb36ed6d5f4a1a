"""What is refused as a migration is written, and what to do instead."""

from collections.abc import Iterator, Sequence

from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import AlterColumnOp, DropColumnOp, ModifyTableOps, UpgradeOps

from pg_semantic import errors
from pg_semantic.alembic_plugin import declared_and_stored
from pg_semantic.alembic_plugin.declared_and_stored import StoredIndex
from pg_semantic.index import chunk_tables, keys
from pg_semantic.index.spec import IndexSpec

# Where a copy reads a column that goes: what is so, and what to do, by the copy's role.
_INSTEAD = {
    "live": "reads it until another copy is live. Leave the column as it is in this migration, upgrade, run "
    "`pg-semantic generation switch {name}` once that copy is built, then `pg-semantic generation drop {name} "
    "previous`, and then migrate the column. For a column that is renamed it is simpler to drop the index with the "
    "declaration, rename the column, and declare the index anew.",
    "next": "has a copy `next` that reads it. Run `pg-semantic generation drop {name} next`, or leave the column as it "
    "is in this migration and upgrade, if that takes the copy back; and then migrate the column.",
    "previous": "has a copy `previous` that reads it. Run `pg-semantic generation drop {name} previous` once nobody "
    "will go back to that copy, and then migrate the column.",
}


def refuse_another_source(declared: IndexSpec, stored: IndexSpec) -> None:
    """A semantic index stays with its table and its key."""
    if declared.table != stored.table:
        raise errors.DeclarationError(
            f"Semantic index {declared.name!r} is of table {stored.table!r} in the database and declared on "
            f"{declared.table!r}. If the table is renamed: Alembic takes that for a drop and a create, so write "
            "op.rename_table into a migration of its own, upgrade, and autogenerate again; the index follows its "
            "table. If it is another table: pass another name=..."
        )
    keys.require_same(declared, stored)


def refuse_new_names(context: AutogenContext, dropped: Sequence[IndexSpec], made: Sequence[IndexSpec]) -> None:
    """A semantic index that differs in its name alone is not made anew: every row would be encoded again."""
    for old in dropped:
        for new in made:
            if _but_for_name(context, old) == _but_for_name(context, new):
                raise errors.DeclarationError(
                    f"Semantic index {old.name!r} on table {old.table!r} is declared as {new.name!r} now. To keep its "
                    f"vectors, declare it with name={old.name!r}. To make it anew under the other name, take it out of "
                    "the mapped class and autogenerate (it is dropped), then put it back and autogenerate again."
                )


def refuse_lost_columns(context: AutogenContext, upgrade_ops: UpgradeOps, stored: StoredIndex) -> None:
    """Every copy reads its columns: the live one until another takes its place, which no migration can wait for."""
    for column, loss in _losses(context, upgrade_ops, stored.live):
        for role in ("live", "next", "previous"):
            spec: IndexSpec | None = getattr(stored, role)
            if spec is not None and column in spec.columns:
                raise errors.DeclarationError(
                    f"Column {column!r} of table {spec.table!r} {loss} in this migration, and semantic index "
                    f"{spec.name!r} {_INSTEAD[role].format(name=spec.name)}"
                )


def _losses(context: AutogenContext, upgrade_ops: UpgradeOps, spec: IndexSpec) -> Iterator[tuple[str, str]]:
    """Columns of the spec's table that the migration takes away as texts, and how."""
    table = declared_and_stored.place(context, spec.schema, spec.table)
    for modified in upgrade_ops.ops:
        if not isinstance(modified, ModifyTableOps):
            continue
        if declared_and_stored.place(context, modified.schema, modified.table_name) != table:
            continue
        for operation in modified.ops:
            if isinstance(operation, DropColumnOp):
                yield operation.column_name, "is dropped or renamed"
            elif isinstance(operation, AlterColumnOp) and not _stays_text(operation):
                yield operation.column_name, f"becomes {operation.modify_type!r}"


def _stays_text(operation: AlterColumnOp) -> bool:
    return operation.modify_type is None or chunk_tables.is_text(operation.modify_type)


def _but_for_name(context: AutogenContext, spec: IndexSpec) -> tuple[object, ...]:
    recipe = (spec.columns, spec.encoder, spec.chunking, spec.storage, spec.hnsw, spec.lexical)
    return (declared_and_stored.place(context, spec.schema, spec.table), keys.normalized(spec.key), recipe)
