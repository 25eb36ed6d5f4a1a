"""The vector index: built once, concurrently, when the bulk of the vectors is there."""

from typing import Literal

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.schema import CreateIndex, DropIndex

from pg_semantic import database, sql
from pg_semantic.schema import Tables

State = Literal["missing", "broken", "building", "ready"]

# What a second worker meets when two build at once: the name is there, or is just being made.
_TAKEN = {"42P07", "23505", "40P01"}


def ensure(engine: sa.Engine, tables: Tables) -> bool:
    """Builds the HNSW index unless it is there; returns whether it is usable now.

    A build that was cut short is dropped and begun again. Takes minutes on millions of vectors; writes go on.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        found = state(connection, tables)
        if found in {"ready", "building"}:
            return found == "ready"
        if found == "broken":
            connection.execute(DropIndex(tables.vector_index, if_exists=True))
        try:
            connection.execute(CreateIndex(tables.vector_index, if_not_exists=True))
        except exc.DBAPIError as error:
            if database.sqlstate(error) not in _TAKEN:
                raise
        connection.execute(sa.text("ANALYZE " + _name(connection, tables, tables.chunks.name)))
        return state(connection, tables) == "ready"


def state(connection: sa.Connection, tables: Tables) -> State:
    """Whether the HNSW index is there and usable; ``broken`` is one whose build was cut short."""
    name = _name(connection, tables, tables.spec.vector_index_name)
    row = connection.execute(sql.statement("registry", "vector_index_state"), {"name": name}).one_or_none()
    if row is None:
        return "missing"
    if row.valid:
        return "ready"
    return "building" if row.building else "broken"


def _name(connection: sa.Connection, tables: Tables, name: str) -> str:
    preparer = connection.dialect.identifier_preparer
    prefix = f"{preparer.quote(tables.chunks.schema)}." if tables.chunks.schema else ""
    return prefix + preparer.quote(name)
