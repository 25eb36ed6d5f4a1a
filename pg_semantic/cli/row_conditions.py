"""Conditions on rows that options of a command name, such as ``--where tenant=acme``."""

from collections.abc import Sequence
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from pg_semantic.index.bound_index import BoundIndex

Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE", help="Use only rows with this value, such as those of a tenant. Repeat for more."
    ),
]


def column(index: BoundIndex[Any], name: str) -> sa.ColumnElement[Any]:
    """Returns a column of the indexed table by its name in the database; the server checks that it exists."""
    table = index.tables.source
    if name not in table.c:
        table.append_column(sa.Column(name, sa.types.NullType()))
    return table.c[name]


def conditions(index: BoundIndex[Any], texts: Sequence[str] | None) -> list[sa.ColumnElement[bool]]:
    """Returns the conditions of all ``--where`` options.

    Raises:
        typer.BadParameter: One isn't a column and a value.
    """
    return [_condition(index, text) for text in texts or ()]


def _condition(index: BoundIndex[Any], text: str) -> sa.ColumnElement[bool]:
    """Returns a condition from COLUMN=VALUE. The server reads the value as one of the column's type."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise typer.BadParameter(f"--where {text}: write a column and a value, as in --where tenant=acme.")
    return column(index, name.strip()) == sa.bindparam(None, value, type_=sa.types.NullType())
