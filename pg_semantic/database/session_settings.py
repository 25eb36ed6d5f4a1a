"""Settings of our own connections, whatever the role or the database has: those that last for the session.

Behind a transaction pooler a session is lent by somebody else, who would find our settings in it; there only what a
transaction can set for itself is set (see `database.transaction`).
"""

from typing import Any

import psycopg
import sqlalchemy as sa

from pg_semantic import sql


def is_ours_alone(connection: sa.Connection) -> bool:
    """Whether the server's end of the connection is the one that greeted us, and not lent by a pooler."""
    pid = connection.scalar(sa.select(sa.func.pg_backend_pid()))
    driver: Any = connection.connection.dbapi_connection  # which a detached one has too
    return bool(pid == driver.info.backend_pid)


def prepare(driver: "psycopg.Connection[Any]", _record: object = None) -> None:
    """Prepares a new connection: it can write on a primary, it stays while it is idle, and strings are standard."""
    try:
        _prepare(driver)
    except psycopg.Error:
        driver.close()  # SQLAlchemy's pool does not keep a connection that could not be prepared
        raise


def _prepare(driver: "psycopg.Connection[Any]") -> None:
    if driver.execute("SELECT pg_backend_pid()").fetchone() == (driver.info.backend_pid,):
        driver.execute(str(sql.statement("registry", "own_session")))
    else:
        in_recovery = driver.execute("SELECT pg_is_in_recovery()").fetchone()
        driver.rollback()
        driver.read_only = None if in_recovery == (True,) else False
    driver.commit()
