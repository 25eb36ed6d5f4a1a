"""Executes statements in the caller's Session or Connection, with its transaction and its privileges."""

from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import database
from pg_semantic.index.bound_index import BoundIndex

Session: TypeAlias = orm.Session | sa.Connection


def execute(session: Session, index: BoundIndex[Any], statement: sa.Executable) -> sa.Result[*tuple[Any, ...]]:
    """Executes a statement on the database of the index.

    Raises:
        errors.PgSemanticError: The translated error of the driver.
    """
    with database.translated():
        if isinstance(session, orm.Session):
            return session.execute(statement, bind_arguments={"mapper": index.entity})
        return session.execute(statement)


def connection(session: Session, index: BoundIndex[Any]) -> sa.Connection:
    """Returns the connection to the database of the index."""
    if isinstance(session, orm.Session):
        return session.connection(bind_arguments={"mapper": index.entity})
    return session
