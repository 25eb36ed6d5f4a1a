"""The vector index: built once, concurrently, when the bulk of the vectors is there."""

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.schema import CreateIndex, DropIndex

from pg_semantic import database, sql
from pg_semantic.schema import Tables

# What a second worker meets when two build at once: the name is there, or is just being made.
_TAKEN = {"42P07", "23505", "40P01"}


def ensure(engine: sa.Engine, tables: Tables) -> bool:
    """Builds the HNSW index unless it is there; returns whether it is usable now.

    A build that was cut short is dropped and begun again. Takes minutes on millions of vectors; writes go on.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        state = _state(connection, tables)
        if state is not None and (state.valid or state.building):
            return bool(state.valid)
        if state is not None:
            connection.execute(DropIndex(tables.vector_index, if_exists=True))
        try:
            connection.execute(CreateIndex(tables.vector_index, if_not_exists=True))
        except exc.DBAPIError as error:
            if database.sqlstate(error) not in _TAKEN:
                raise
        state = _state(connection, tables)
        return state is not None and bool(state.valid)


def _state(connection: sa.Connection, tables: Tables) -> sa.Row[tuple[bool, bool]] | None:
    preparer = connection.dialect.identifier_preparer
    schema = f"{preparer.quote(tables.chunks.schema)}." if tables.chunks.schema else ""
    name = schema + preparer.quote(tables.spec.vector_index_name)
    return connection.execute(sql.statement("registry", "vector_index_state"), {"name": name}).one_or_none()
