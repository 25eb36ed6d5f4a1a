"""How a row's primary key is written as one text, and how texts find their rows again.

A key of one column is that column as text; a key of several is a JSON array of texts.
"""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def as_text(columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[str]:
    """The SQL expression of a row's key as text."""
    texts = [sa.cast(column, sa.Text) for column in columns]
    if len(texts) == 1:
        return texts[0]
    return sa.cast(sa.func.jsonb_build_array(*texts), sa.Text)


def type_name(of: sa.types.TypeEngine[Any]) -> str:
    """The Postgres name of a key column's type, without its collation."""
    return of.compile(dialect=_DIALECT).lower().partition(" collate ")[0]


def split(key: str, columns: int) -> list[str]:
    """The text of each key column."""
    return [key] if columns == 1 else list(json.loads(key))


def wanted(keys: Sequence[str], columns: int) -> sa.TableValuedAlias:
    """A derived table ``(key, part_0, part_1, ...)`` of these keys, one bind per column however many keys."""
    parts = [split(key, columns) for key in keys]
    arrays = [list(keys), *([row[number] for row in parts] for number in range(columns))]
    names = ["key", *(f"part_{number}" for number in range(columns))]
    binds = [sa.bindparam(None, array, type_=postgresql.ARRAY(sa.Text)) for array in arrays]
    return sa.func.unnest(*binds).table_valued(*names).render_derived()


def found(table: sa.TableValuedAlias, columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    """The condition that a row has the key of a row of `wanted`; an index on the key serves it."""
    return sa.and_(
        *(column == sa.cast(table.c[f"part_{number}"], column.type) for number, column in enumerate(columns))
    )
