"""Whether a transaction pooler stands between us and the server, under settings that do not go well with one."""

from collections.abc import Iterator

import psycopg
import sqlalchemy as sa

from pg_semantic import sql

NAME = "pooler"


_LOOKS = 3  # a pooler may lend the same server process again


def findings(connection: sa.Connection) -> Iterator[tuple[str, str, str, str]]:
    """Subject, what, why and repair, where the server's end of the connection is not the one that greeted us."""
    with connection.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as apart:
        driver = apart.connection.driver_connection
        greeted_by = driver.info.backend_pid if isinstance(driver, psycopg.Connection) else None
        rows = [apart.execute(sql.statement("doctor", "pooler")).one() for _ in range(_LOOKS)]
    row = rows[0]
    if {one.pid for one in rows} != {greeted_by} and row.statement_timeout > 0:
        what = f"a pooler serves this client, and the role's statement_timeout is {row.statement_timeout} ms"
        why = "a worker cannot change it behind a pooler, and it ends the build of a vector index"
        yield f"role {row.role}", what, why, f"ALTER ROLE {row.role} SET statement_timeout = 0;"
