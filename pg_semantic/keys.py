"""How a row's primary key is written as one text, and how texts find their rows again.

A key of one column is that column as text; a key of several is a JSON array of texts.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

# The functions that give a value in the binary form of COPY, by type.
_SEND = {
    "smallint": "int2send",
    "integer": "int4send",
    "bigint": "int8send",
    "uuid": "uuid_send",
    "text": "textsend",
    "varchar": "varcharsend",
    "character varying": "varcharsend",
    "char": "bpcharsend",
    "character": "bpcharsend",
    "date": "date_send",
    "bytea": "byteasend",
    "numeric": "numeric_send",
    "timestamp": "timestamp_send",
    "timestamp without time zone": "timestamp_send",
    "timestamp with time zone": "timestamptz_send",
}


def as_text(columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[str]:
    """The SQL expression of a row's key as text."""
    texts = [sa.cast(column, sa.Text) for column in columns]
    if len(texts) == 1:
        return texts[0]
    return sa.cast(sa.func.jsonb_build_array(*texts), sa.Text)


def type_name(of: sa.types.TypeEngine[Any]) -> str:
    """The Postgres name of a key column's type, without its collation; ``unknown`` where reflection knows none."""
    if isinstance(of, sa.types.NullType):
        return "unknown"
    return of.compile(dialect=_DIALECT).lower().partition(" collate ")[0]


def written_alike(type_name: str) -> str:
    """A key column's type in one of the ways in which Postgres lets it be written."""
    name = re.sub(r",\s*", ",", type_name.lower()).replace("character varying", "varchar").replace("character", "char")
    name = re.sub(r"^(numeric\(\d+),0\)", r"\1)", name)
    name = "char(1)" if name == "char" else name
    return name.removesuffix(" without time zone")


def wire(column: sa.ColumnElement[Any], type_name: str) -> sa.ColumnElement[bytes]:
    """The SQL expression of a key column's value as the bytes that a binary COPY has.

    So a value goes from table to table as it is, also one that Python has no value for, as a date before Christ. The
    cast is for a column that was widened since the semantic index was made.
    """
    base = re.sub(r"\(.*?\)", "", type_name.lower())
    return getattr(sa.func, _SEND[base])(sa.cast(column, column.type), type_=sa.LargeBinary)  # type: ignore[no-any-return]


def split(key: str, columns: int) -> list[str]:
    """The text of each key column."""
    return [key] if columns == 1 else list(json.loads(key))


def wanted(keys: Sequence[str], columns: int, **more: sa.BindParameter[Any]) -> sa.TableValuedAlias:
    """A derived table of these keys, ``key`` and the columns of `_parts`, one bind per column however many keys.

    ``more`` are further columns, each an array of as many values as there are keys.
    """
    by_name: dict[str, list[str]] = {"key": list(keys)}
    if columns > 1:
        parts = [split(key, columns) for key in keys]
        by_name |= {name: [part[number] for part in parts] for number, name in enumerate(_parts(columns))}
    binds = [sa.bindparam(None, array, type_=postgresql.ARRAY(sa.Text)) for array in by_name.values()]
    others = [sa.column(name, bind.type.item_type) for name, bind in more.items()]  # type: ignore[attr-defined]
    return sa.func.unnest(*binds, *more.values()).table_valued(*by_name, *others).render_derived()


def values(table: sa.TableValuedAlias, columns: Sequence[sa.ColumnElement[Any]]) -> list[sa.ColumnElement[Any]]:
    """The key columns' values of a row of `wanted`."""
    return [sa.cast(table.c[name], column.type) for name, column in zip(_parts(len(columns)), columns, strict=True)]


def found(table: sa.TableValuedAlias, columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    """The condition that a row has the key of a row of `wanted`; an index on the key serves it."""
    return sa.and_(*(column == value for column, value in zip(columns, values(table, columns), strict=True)))


def _parts(columns: int) -> list[str]:
    """What the text of each key column is called in a table of keys; that of one column is the key itself."""
    return ["key"] if columns == 1 else [f"part_{number}" for number in range(columns)]
