"""Conditions on rows that options of a command name, such as ``--where tenant=acme``."""

from collections.abc import Sequence
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from sqlalchemy import orm
from sqlalchemy.dialects.postgresql import OID

from pg_semantic import errors
from pg_semantic.database import own_transaction
from pg_semantic.index import chunk_tables
from pg_semantic.index.bound_index import BoundIndex

_PG_ATTRIBUTE = sa.table(
    "pg_attribute",
    sa.column("attrelid", OID),
    sa.column("attname", sa.Text),
    sa.column("attnum", sa.SmallInteger),
    sa.column("attisdropped", sa.Boolean),
    schema="pg_catalog",
)

Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE", help="Use only rows with this value, such as those of a tenant. Repeat for more."
    ),
]


def column(session: orm.Session, index: BoundIndex[Any], name: str) -> sa.ColumnElement[Any]:
    """Returns a column of the indexed table by its name in the database.

    Raises:
        errors.ConfigurationError: The table has no such column.
    """
    table = index.tables.source
    if name not in table.c:
        known = _columns(session, table)
        if name not in known:
            raise errors.ConfigurationError(
                f"Table {table.name!r} has no column {name!r}. Its columns: {', '.join(known)}."
            )
        table.append_column(sa.Column(name, sa.types.NullType()))
    return table.c[name]


def _columns(session: orm.Session, table: sa.Table) -> list[str]:
    """Returns the names of a table's columns, in order. Leaves no transaction open."""
    of = _PG_ATTRIBUTE.c
    is_own = of.attrelid == sa.cast(chunk_tables.RegClass(table), OID)
    names = sa.select(of.attname).where(is_own, of.attnum > 0, ~of.attisdropped).order_by(of.attnum)
    with own_transaction.reading(session):
        return list(session.scalars(names))


def conditions(
    session: orm.Session, index: BoundIndex[Any], texts: Sequence[str] | None
) -> list[sa.ColumnElement[bool]]:
    """Returns the conditions of all ``--where`` options.

    Raises:
        errors.ConfigurationError: The table has no such column.
        typer.BadParameter: One isn't a column and a value.
    """
    return [_condition(session, index, text) for text in texts or ()]


def _condition(session: orm.Session, index: BoundIndex[Any], text: str) -> sa.ColumnElement[bool]:
    """Returns a condition from COLUMN=VALUE. The server reads the value as one of the column's type."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise typer.BadParameter(f"--where {text}: write a column and a value, as in --where tenant=acme.")
    return column(session, index, name.strip()) == sa.bindparam(None, value, type_=sa.types.NullType())
