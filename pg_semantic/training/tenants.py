"""Keeps rows of different tenants apart in what is trained on: `require_separate`, `matching`."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.index import chunk_tables, keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search.legs import Where

_PG_CLASS = sa.table("pg_class", sa.column("oid"), sa.column("relrowsecurity", sa.Boolean), schema="pg_catalog")


def require_separate(connection: sa.Connection, index: BoundIndex[Any], where: Where) -> None:
    """Checks that rows that one tenant may not see don't become negatives of another.

    Args:
        connection: A connection of the role that reads.
        index: The semantic index.
        where: Conditions on the rows that are read.

    Raises:
        errors.QueryError: The table has row-level security that the role bypasses, and there is no condition in its
            place.
    """
    if where:
        return
    oid = chunk_tables.RegClass(index.tables.source)
    active = sa.func.row_security_active(_PG_CLASS.c.oid, type_=sa.Boolean)
    bypassed = sa.select(_PG_CLASS.c.relrowsecurity & ~active).where(_PG_CLASS.c.oid == oid)
    if connection.scalar(bypassed):
        raise errors.QueryError(
            f"Table {index.spec.table!r} has row-level security, which the current role bypasses, so rows of one "
            "tenant could become negatives of another. Connect as a role that the policies apply to, or pass "
            "where=[...] (--where)."
        )


def matching(
    connection: sa.Connection, index: BoundIndex[Any], given: Iterable[str], *, where: Where
) -> frozenset[str]:
    """Returns those keys whose row fulfills the conditions; all of them without conditions.

    Args:
        connection: A connection of the role that reads.
        index: The semantic index.
        given: Keys in canonical form.
        where: Conditions on rows.
    """
    known = sorted(set(given))
    if not where:
        return frozenset(known)
    own = index.tables.source_key
    wanted = keys.key_table(known, len(own))
    rows = sa.select(index.entity).join(wanted, keys.matches_key_table(wanted, own)).where(*where)
    found = rows.with_only_columns(wanted.c.key, maintain_column_froms=True)
    return frozenset(connection.scalars(found))
