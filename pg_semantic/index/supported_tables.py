"""Checks, before anything is created, that a table in the database can have a semantic index."""

import re
from dataclasses import dataclass

import sqlalchemy as sa

from pg_semantic import database, errors, sql
from pg_semantic.index.spec import KeyColumn

_ORDINARY, _PARTITIONED = "r", "p"
_MATERIALIZE = "index the tables it reads, or copy its rows to a table with a primary key"
# By relkind: other relations that share the namespace of tables, and what to do instead.
_NOT_A_TABLE = {
    "v": ("a view", _MATERIALIZE),
    "m": ("a materialized view", _MATERIALIZE),
    "f": ("a foreign table", "create the index in the database that stores its rows, or copy the rows to a table"),
    "i": ("an index", "name the table"),
    "S": ("a sequence", "name the table"),
    "c": ("a composite type", "name a table"),
}
# By relpersistence: tables that a permanent table cannot reference.
_NOT_PERMANENT = {
    "t": ("a temporary table", "use a permanent table"),
    "u": ("an unlogged table", "run ALTER TABLE {name} SET LOGGED first"),
}


_ARRAY_WITH_LENGTH = re.compile(r"\([\d, ]+\)[^\]]*\[\]")


@dataclass(frozen=True, slots=True)
class _Part:
    """A column of a primary key, as found in the database."""

    column: KeyColumn
    base: str
    domain_over_enum: bool
    binary: bool
    joinable: bool


def key_of(connection: sa.Connection, schema: str | None, table: str) -> tuple[KeyColumn, ...]:
    """Returns the primary key of a table that can have a semantic index.

    Raises:
        errors.DeclarationError: It cannot have one; the message says why and what to do.
    """
    name = database.qualified_name(schema, table)
    require(connection, name)
    parts = _parts(connection, name)
    for part in parts:
        _require_key_type(name, part)
    return tuple(part.column for part in parts)


def require(connection: sa.Connection, name: str) -> None:
    """Checks that a relation can have a semantic index, apart from the types of its key.

    Args:
        connection: A connection to the database.
        name: The relation, quoted if necessary. A name that does not exist passes.

    Raises:
        errors.DeclarationError: It is not a permanent table, its primary key is deferrable or WITHOUT OVERLAPS, or
            the database has the encoding SQL_ASCII.
    """
    found = connection.execute(sql.statement("registry", "source"), {"source": name}).one_or_none()
    if found is None:
        return
    if found.kind not in {_ORDINARY, _PARTITIONED}:
        what, instead = _NOT_A_TABLE.get(found.kind, ("not a table", "name a table"))
        raise errors.DeclarationError(f"{name} is {what}, and a semantic index needs a table: {instead}.")
    if found.persistence in _NOT_PERMANENT:
        what, instead = _NOT_PERMANENT[found.persistence]
        instead = instead.format(name=name)
        raise errors.DeclarationError(f"{name} is {what}, and a semantic index needs a permanent one: {instead}.")
    if found.encoding == "SQL_ASCII":
        raise errors.DeclarationError(
            "This database has the encoding SQL_ASCII, so its texts can be bytes of any encoding, and one that cannot "
            "be decoded would block the others: move the tables to a database with the encoding UTF8."
        )
    if found.deferrable:
        raise errors.DeclarationError(deferrable(name))
    if found.method not in {None, "btree"}:
        raise errors.DeclarationError(
            f"The primary key of {name} is WITHOUT OVERLAPS, which treats overlapping ranges as equal: give the table "
            "a plain primary key, and replace this one with EXCLUDE USING gist (...)."
        )


def deferrable(name: str) -> str:
    """Returns the message for a table whose primary key is deferrable: the reason and the fix."""
    return (
        f"The primary key of {name} is DEFERRABLE, and foreign keys cannot reference it: replace it with "
        f"ALTER TABLE {name} DROP CONSTRAINT ..., ADD PRIMARY KEY (...), which is not deferrable. If your statements "
        "need deferral, add a UNIQUE constraint that is DEFERRABLE."
    )


def _parts(connection: sa.Connection, name: str) -> list[_Part]:
    found = connection.execute(sql.statement("registry", "source_key"), {"source": name})
    return [
        _Part(KeyColumn(row.name, row.type), row.base, row.domain_over_enum, row.binary, row.joinable) for row in found
    ]


def _require_key_type(name: str, part: _Part) -> None:
    column = part.column
    if _ARRAY_WITH_LENGTH.search(column.type):
        raise errors.DeclarationError(
            f"The key column {column.name!r} of {name} has type {column.type}, and Postgres cannot check a foreign key "
            "to an array whose elements have a length or precision: use the type without it, and a CHECK constraint."
        )
    if part.domain_over_enum:
        raise errors.DeclarationError(
            f"The key column {column.name!r} of {name} has a domain type, and Postgres cannot check a foreign key to a "
            f"domain over an enum: use the enum itself ({column.type}), and a CHECK constraint."
        )
    KeyColumn(column.name, part.base)  # a domain is as good as its base type
    missing = {
        "an equality operator that can merge or hash": part.joinable,
        "a binary form (typsend and typreceive)": part.binary,
    }
    for what, there in missing.items():
        if not there:
            raise errors.DeclarationError(
                f"The key column {column.name!r} of {name} has type {column.type}, which lacks {what}: a semantic "
                "index needs it to join rows with their vectors. Use another type, such as bigint, uuid or text."
            )
