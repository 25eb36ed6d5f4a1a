"""Session settings of pg_semantic's own connections, which override those of the role and the database.

Behind a transaction pooler, other clients share the session and would inherit its settings. There, only settings
local to a transaction are applied (see `database.transaction`).
"""

from typing import Any

import psycopg
import sqlalchemy as sa

from pg_semantic import sql


def is_ours_alone(connection: sa.Connection) -> bool:
    """Returns whether the connection has a server process of its own, and doesn't share one through a pooler."""
    pid = connection.scalar(sa.select(sa.func.pg_backend_pid()))
    driver: Any = connection.connection.dbapi_connection  # exists even if the connection is detached
    return bool(pid == driver.info.backend_pid)


def prepare(driver: "psycopg.Connection[Any]", _record: object = None) -> None:
    """Prepares a new connection.

    It can write on a primary, does not time out while idle, and uses standard-conforming strings.
    """
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
