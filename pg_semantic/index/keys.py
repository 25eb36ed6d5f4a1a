"""How a row's primary key is written as one text, and how texts find their rows again.

A key of one column is that column as text; a key of several is a JSON array of texts.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from pg_semantic import errors
from pg_semantic.index.spec import IndexSpec, KeyColumn

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

# Types whose equal values are always written as the same text, whatever the collation.
_ONE_TEXT = re.compile(
    r"(smallint|integer|bigint|oid|uuid|boolean|date|bytea|time(stamp)?(\(\d\))?( with(out)? time zone)?)$",
    re.IGNORECASE,
)

# Types whose text is the same in every session. Any other may depend on settings, a domain over dates for one.
_ANY_SESSION = re.compile(
    r"(smallint|integer|bigint|oid|uuid|boolean|numeric|text|name|varchar|char|character( varying)?|citext|inet|cidr"
    r"|macaddr8?|bit( varying)?)(\([\d, ]+\))?( collate .*)?$",
    re.IGNORECASE,
)

# Types to whose length or precision a cast cuts a value without a word, and what they are without it.
_CUTTING = {"varchar": "varchar", "char": "bpchar", "numeric": "numeric", "bit": "varbit", "bit varying": "varbit"}

# Places of a record in its binary form that come before the bytes of its only column.
_RECORD_HEADER = 12


def column(table: sa.FromClause, name: str) -> sa.ColumnElement[Any]:
    """The column of a table that has this name in the database, whatever its key in the table is."""
    return next(column for column in table.c if getattr(column, "name", None) == name)


def as_text(columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[str]:
    """The SQL expression of a row's key as text, which compares byte by byte, whatever collation the key has."""
    texts = [sa.cast(column, sa.Text) for column in columns]
    if len(texts) == 1:
        return sa.collate(texts[0], "C")
    return sa.cast(sa.func.jsonb_build_array(*texts), sa.Text)


def type_name(of: sa.types.TypeEngine[Any]) -> str:
    """The Postgres name of a key column's type, with its collation; ``unknown`` where reflection knows none."""
    if isinstance(of, sa.types.NullType):
        return "unknown"
    name, collate, collation = of.compile(dialect=_DIALECT).partition(" COLLATE ")
    # Quoted parts of a name are as they are: "State" is another type than state.
    folded = "".join(part if part.startswith('"') else part.lower() for part in re.split(r'("(?:[^"]|"")*")', name))
    return f"{folded.replace(' (', '(')}{collate}{collation}"


def normalized_type(type_name: str) -> str:
    """A key column's type in one of the ways to write it: without its schema and collation, and without aliases."""
    name = re.sub(r" collate .*$", "", type_name, flags=re.IGNORECASE)
    name = re.sub(r'^("(?:[^"]|"")*"|[^".(]+)\.', "", name)
    if name.startswith('"'):
        return name if not re.fullmatch(r'"[a-z_][a-z0-9_]*"', name) or name == '"char"' else name.strip('"')
    name = re.sub(r",\s*", ",", name.lower()).replace("character varying", "varchar").replace("character", "char")
    name = re.sub(r"^(numeric\(\d+),0\)", r"\1)", name)
    name = {"char": "char(1)", "float": "double precision"}.get(name, name)
    return name.removesuffix(" without time zone")


def normalized(key: Iterable[KeyColumn]) -> list[tuple[str, str]]:
    """Names and types of key columns, equal for keys that differ only in how their types are written."""
    return [(column.name, normalized_type(column.type)) for column in key]


def require_same(declared: IndexSpec, stored: IndexSpec) -> None:
    """Refuses a declaration whose key is not the one that the index has in the database."""
    was, wanted = normalized(stored.key), normalized(declared.key)
    if was == wanted:
        return
    change = (
        f"The key of table {declared.table!r} is {_shown(stored.key)} in semantic index {declared.name!r}, and "
        f"{_shown(declared.key)} is declared."
    )
    if [name for name, _ in was] != [name for name, _ in wanted]:
        raise errors.DeclarationError(
            f"{change} A semantic index can not change its key columns: take it out of the mapped class and have it "
            f"dropped (by a migration, or `pg-semantic index drop {declared.name}`), then declare it again (it is made "
            "anew)."
        )
    steps = ", ".join(
        f"ALTER COLUMN {column.name} TYPE {column.type}"
        for column, before, after in zip(declared.key, was, wanted, strict=True)
        if before != after
    )
    raise errors.DeclarationError(
        f"{change} Declare the types that the columns have in the table. To change them, alter the table first: ALTER "
        f"TABLE {declared.table} {steps}, in a migration of its own. A worker then adapts the index, or run "
        f"`pg-semantic index refresh {declared.name}`; nothing is encoded again."
    )


def _shown(key: Iterable[KeyColumn]) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in key)


def has_canonical_text(type_name: str) -> bool:
    """Whether equal values of a type always have the same text; 1.0 and 1.00 are equal and have not."""
    return _ONE_TEXT.match(type_name) is not None


def depends_on_settings(type_name: str) -> bool:
    """Whether the text of a value may depend on settings of the session, as ``datestyle``."""
    return _ANY_SESSION.match(type_name) is None


def copy_binary(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bytes]:
    """The SQL expression of a key column's value as the bytes that a binary COPY has.

    So a value goes from table to table as it is, also one that Python has no value for, as a date before Christ. A
    record sends its columns by the send functions of their types, whatever these are. The cast is for a column that
    was widened since the semantic index was made.
    """
    record = sa.func.record_send(sa.func.row(sa.cast(column, _whole(column.type))), type_=sa.LargeBinary)
    return sa.func.substring(record, _RECORD_HEADER + 1, type_=sa.LargeBinary)


def split(key: str, columns: int) -> list[str]:
    """The text of each key column."""
    return [key] if columns == 1 else list(json.loads(key))


def key_table(keys: Sequence[str], columns: int, **more: sa.BindParameter[Any]) -> sa.TableValuedAlias:
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


def typed_columns(table: sa.TableValuedAlias, columns: Sequence[sa.ColumnElement[Any]]) -> list[sa.ColumnElement[Any]]:
    """The key columns' values of a row of `key_table`."""
    return [
        sa.cast(table.c[name], _whole(column.type)) for name, column in zip(_parts(len(columns)), columns, strict=True)
    ]


def matches_key_table(table: sa.TableValuedAlias, columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    """The condition that a row has the key of a row of `key_table`; an index on the key serves it."""
    return sa.and_(*(column == value for column, value in zip(columns, typed_columns(table, columns), strict=True)))


class _Whole(sa.types.UserDefinedType[Any]):
    """A type without the length or precision to which a cast would cut a value, so that it were another key."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: object) -> str:
        """The type's name."""
        return self.name


def _whole(of: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """A key column's type for a cast that cuts nothing off."""
    kind, _, length = normalized_type(type_name(of)).partition("(")
    if not length or kind not in _CUTTING:
        return of
    return _Whole(_CUTTING[kind])


def _parts(columns: int) -> list[str]:
    """What the text of each key column is called in a table of keys; that of one column is the key itself."""
    return ["key"] if columns == 1 else [f"part_{number}" for number in range(columns)]
