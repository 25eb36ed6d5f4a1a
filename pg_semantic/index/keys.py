"""Converts a row's primary key to a single text, and finds rows by such texts.

A single-column key is that column as text. A composite key is a JSON array of texts.
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

# Types with a length or precision to which a cast silently truncates a value, and the same types without it.
_CUTTING = {"varchar": "varchar", "char": "bpchar", "numeric": "numeric", "bit": "varbit", "bit varying": "varbit"}

# Bytes of a binary record before the value of its only column.
_RECORD_HEADER = 12


def column(table: sa.FromClause, name: str) -> sa.ColumnElement[Any]:
    """Returns the column with this name in the database, whatever its key in ``table.c``."""
    return next(column for column in table.c if getattr(column, "name", None) == name)


def as_text(columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[str]:
    """Returns the SQL expression of a row's key as text, which compares byte by byte whatever the key's collation."""
    texts = [sa.cast(column, sa.Text) for column in columns]
    if len(texts) == 1:
        return sa.collate(texts[0], "C")
    return sa.cast(sa.func.jsonb_build_array(*texts), sa.Text)


def type_name(of: sa.types.TypeEngine[Any]) -> str:
    """Returns the Postgres name of a key column's type, with its collation; ``unknown`` if reflection found no type."""
    if isinstance(of, sa.types.NullType):
        return "unknown"
    name, collate, collation = of.compile(dialect=_DIALECT).partition(" COLLATE ")
    # Quoted parts keep their case: "State" and state are different types.
    folded = "".join(part if part.startswith('"') else part.lower() for part in re.split(r'("(?:[^"]|"")*")', name))
    return f"{folded.replace(' (', '(')}{collate}{collation}"


def normalized_type(type_name: str) -> str:
    """Returns a key column's type in normal form: without schema, collation and aliases."""
    name = re.sub(r" collate .*$", "", type_name, flags=re.IGNORECASE)
    name = re.sub(r'^("(?:[^"]|"")*"|[^".(]+)\.', "", name)
    if name.startswith('"'):
        return name if not re.fullmatch(r'"[a-z_][a-z0-9_]*"', name) or name == '"char"' else name.strip('"')
    name = re.sub(r",\s*", ",", name.lower()).replace("character varying", "varchar").replace("character", "char")
    name = re.sub(r"^(numeric\(\d+),0\)", r"\1)", name)
    name = {"char": "char(1)", "float": "double precision"}.get(name, name)
    return name.removesuffix(" without time zone")


def normalized(key: Iterable[KeyColumn]) -> list[tuple[str, str]]:
    """Returns names and normalized types of key columns, to compare keys however their types are spelled."""
    return [(column.name, normalized_type(column.type)) for column in key]


def require_same(declared: IndexSpec, stored: IndexSpec) -> None:
    """Checks that the declared key is the one that the index has in the database.

    Raises:
        errors.DeclarationError: The keys differ.
    """
    was, wanted = normalized(stored.key), normalized(declared.key)
    if was == wanted:
        return
    change = (
        f"The key of table {declared.table!r} is {_shown(stored.key)} in semantic index {declared.name!r}, but "
        f"{_shown(declared.key)} in the declaration."
    )
    if [name for name, _ in was] != [name for name, _ in wanted]:
        raise errors.DeclarationError(
            f"{change} A semantic index cannot change its key columns: remove it from the mapped class and drop it "
            f"(with a migration, or `pg-semantic index drop {declared.name}`), then declare it again to rebuild it "
            "from scratch."
        )
    steps = ", ".join(
        f"ALTER COLUMN {column.name} TYPE {column.type}"
        for column, before, after in zip(declared.key, was, wanted, strict=True)
        if before != after
    )
    raise errors.DeclarationError(
        f"{change} Declare the types that the columns have in the table. To change them, alter the table first, in a "
        f"separate migration: ALTER TABLE {declared.table} {steps}. A worker then adapts the index, or run "
        f"`pg-semantic index refresh {declared.name}`; nothing is encoded again."
    )


def _shown(key: Iterable[KeyColumn]) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in key)


def copy_binary(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bytes]:
    """Returns the SQL expression of a key column's value as the bytes of a binary COPY.

    So a value is copied between tables unchanged, even if Python cannot represent it, such as a date BC. A record
    sends its columns with the send functions of their types, whatever these are. The cast is for a column that was
    widened after the semantic index was created.
    """
    return sent(sa.cast(column, _whole(column.type)))


def sent(value: sa.ColumnElement[Any]) -> sa.ColumnElement[bytes]:
    """Returns the SQL expression of a value of any type as the bytes of a binary COPY."""
    record = sa.func.record_send(sa.func.row(value), type_=sa.LargeBinary)
    return sa.func.substring(record, _RECORD_HEADER + 1, type_=sa.LargeBinary)


def split(key: str, columns: int) -> list[str]:
    """Returns the text of each key column."""
    return [key] if columns == 1 else list(json.loads(key))


def joined(values: Sequence[object]) -> str:
    """Returns the key with these values, integers or texts as Postgres writes them; `split` is the reverse."""
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False)


def key_table(keys: Sequence[str], columns: int, **more: sa.BindParameter[Any]) -> sa.TableValuedAlias:
    """Returns a derived table of keys, with one bind per column however many keys.

    Args:
        keys: The keys, each as a single text.
        columns: Number of key columns.
        more: Further columns by name, each an array with one value per key.

    Returns:
        A table with the column ``key``, ``part_0`` and so on for a composite key, and the columns of ``more``.
    """
    by_name: dict[str, list[str]] = {"key": list(keys)}
    if columns > 1:
        parts = [split(key, columns) for key in keys]
        by_name |= {name: [part[number] for part in parts] for number, name in enumerate(_parts(columns))}
    binds = [sa.bindparam(None, array, type_=postgresql.ARRAY(sa.Text)) for array in by_name.values()]
    others = [sa.column(name, bind.type.item_type) for name, bind in more.items()]  # type: ignore[attr-defined]
    return sa.func.unnest(*binds, *more.values()).table_valued(*by_name, *others).render_derived()


def typed_columns(table: sa.TableValuedAlias, columns: Sequence[sa.ColumnElement[Any]]) -> list[sa.ColumnElement[Any]]:
    """Returns the values of the key columns in a row of `key_table`, cast to the types of ``columns``."""
    return [
        sa.cast(table.c[name], _whole(column.type)) for name, column in zip(_parts(len(columns)), columns, strict=True)
    ]


def matches_key_table(table: sa.TableValuedAlias, columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    """Returns the condition that a row has the key of a row of `key_table`. An index on the key supports it."""
    return sa.and_(*(column == value for column, value in zip(columns, typed_columns(table, columns), strict=True)))


class _Whole(sa.types.UserDefinedType[Any]):
    """A type without its length or precision, because a cast that truncates a value would change the key."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: object) -> str:
        """Returns the type's name."""
        return self.name


def _whole(of: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """Returns a key column's type for a cast that doesn't truncate."""
    kind, _, length = normalized_type(type_name(of)).partition("(")
    if not length or kind not in _CUTTING:
        return of
    return _Whole(_CUTTING[kind])


def _parts(columns: int) -> list[str]:
    """Returns the name of each key column in a table of keys. A single column is the key itself."""
    return ["key"] if columns == 1 else [f"part_{number}" for number in range(columns)]
