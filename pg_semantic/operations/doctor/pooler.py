"""Detects a transaction pooler in front of the server, together with a setting that conflicts with it."""

from collections.abc import Iterator

import psycopg
import sqlalchemy as sa

from pg_semantic import sql

NAME = "pooler"


_LOOKS = 3  # a pooler may assign the same server process again


def findings(connection: sa.Connection) -> Iterator[tuple[str, str, str, str]]:
    """Yields subject, what, why and repair if another server process answers than the one that we connected to."""
    with connection.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as apart:
        driver = apart.connection.driver_connection
        greeted_by = driver.info.backend_pid if isinstance(driver, psycopg.Connection) else None
        rows = [apart.execute(sql.statement("doctor", "pooler")).one() for _ in range(_LOOKS)]
    row = rows[0]
    if {one.pid for one in rows} != {greeted_by} and row.statement_timeout > 0:
        what = f"the connection goes through a pooler, and the role's statement_timeout is {row.statement_timeout} ms"
        why = "behind a pooler, a worker cannot change the timeout, which then cancels the build of a vector index"
        yield f"role {row.role}", what, why, f"ALTER ROLE {row.role} SET statement_timeout = 0;"
