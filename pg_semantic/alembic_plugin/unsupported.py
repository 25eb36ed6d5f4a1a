"""Refuses changes that autogenerate cannot write a migration for, and says what to do instead."""

from collections.abc import Iterator, Sequence

from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import AlterColumnOp, DropColumnOp, ModifyTableOps, UpgradeOps

from pg_semantic import errors
from pg_semantic.alembic_plugin import load_declared_and_stored
from pg_semantic.alembic_plugin.load_declared_and_stored import StoredIndex
from pg_semantic.index import chunk_tables, keys
from pg_semantic.index.spec import IndexSpec

# For a copy that reads a lost column, by its role: the end of the message, with what to do.
_INSTEAD = {
    "live": "reads it until another copy is live. Leave the column unchanged in this migration and upgrade. Once the "
    "new copy is built, run `pg-semantic generation switch {name}`, then `pg-semantic generation drop {name} "
    "previous`. Then migrate the column. To rename a column, it is simpler to remove the declaration, which drops the "
    "index, rename the column, and declare the index again.",
    "next": "has a copy `next` that reads it. Run `pg-semantic generation drop {name} next`; or, if this migration "
    "reverts that copy, leave the column unchanged in it and upgrade. Then migrate the column.",
    "previous": "has a copy `previous` that reads it. Run `pg-semantic generation drop {name} previous` once you no "
    "longer need to roll back to that copy, and then migrate the column.",
}


def refuse_another_source(declared: IndexSpec, stored: IndexSpec) -> None:
    """Refuses to move a semantic index to another table or to change its key.

    Raises:
        errors.DeclarationError: The table or the key differs.
    """
    if declared.table != stored.table:
        raise errors.DeclarationError(
            f"Semantic index {declared.name!r} belongs to table {stored.table!r} in the database, but is declared on "
            f"{declared.table!r}. If you renamed the table, which Alembic sees as a drop and a create: put "
            "op.rename_table into a migration of its own, upgrade, and autogenerate again; the index follows its "
            "table. If it is another table: pass another name=..."
        )
    keys.require_same(declared, stored)


def refuse_new_names(context: AutogenContext, dropped: Sequence[IndexSpec], made: Sequence[IndexSpec]) -> None:
    """Refuses to drop and create a semantic index whose name alone changed, which would encode every row again.

    Raises:
        errors.DeclarationError: A dropped and a created index differ only in their names.
    """
    for old in dropped:
        for new in made:
            if _without_name(context, old) == _without_name(context, new):
                raise errors.DeclarationError(
                    f"Semantic index {old.name!r} on table {old.table!r} is now declared as {new.name!r}. To keep its "
                    f"vectors, declare it with name={old.name!r}. To create it again under the new name, remove it "
                    "from the mapped class and autogenerate, which drops it; then put it back and autogenerate again."
                )


def refuse_lost_columns(context: AutogenContext, upgrade_ops: UpgradeOps, stored: StoredIndex) -> None:
    """Refuses to drop, rename or retype a text column that a copy reads.

    The live copy reads its columns until another copy is live, and a migration cannot wait for that.

    Raises:
        errors.DeclarationError: A copy reads a column that the migration takes away.
    """
    for column, loss in _losses(context, upgrade_ops, stored.live):
        for role in ("live", "next", "previous"):
            spec: IndexSpec | None = getattr(stored, role)
            if spec is not None and column in spec.columns:
                raise errors.DeclarationError(
                    f"Column {column!r} of table {spec.table!r} {loss} in this migration, and semantic index "
                    f"{spec.name!r} {_INSTEAD[role].format(name=spec.name)}"
                )


def _losses(context: AutogenContext, upgrade_ops: UpgradeOps, spec: IndexSpec) -> Iterator[tuple[str, str]]:
    """Yields the columns that the migration takes away from the spec's table as text, and how."""
    table = load_declared_and_stored.place(context, spec.schema, spec.table)
    for modified in upgrade_ops.ops:
        if not isinstance(modified, ModifyTableOps):
            continue
        if load_declared_and_stored.place(context, modified.schema, modified.table_name) != table:
            continue
        for operation in modified.ops:
            if isinstance(operation, DropColumnOp):
                yield operation.column_name, "is dropped or renamed"
            elif isinstance(operation, AlterColumnOp) and not _stays_text(operation):
                yield operation.column_name, f"becomes {operation.modify_type!r}"


def _stays_text(operation: AlterColumnOp) -> bool:
    return operation.modify_type is None or chunk_tables.is_text(operation.modify_type)


def _without_name(context: AutogenContext, spec: IndexSpec) -> tuple[object, ...]:
    recipe = (spec.columns, spec.encoder, spec.chunking, spec.storage, spec.compressed, spec.hnsw, spec.lexical)
    return (load_declared_and_stored.place(context, spec.schema, spec.table), keys.normalized(spec.key), recipe)
