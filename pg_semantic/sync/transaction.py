"""How a worker's transaction begins: with settings of its own, whatever the role, the database or a pooler has set.

They are local to the transaction, since behind a transaction pooler the next one may meet another server connection.
"""

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database

_SETTINGS = {
    "lock_timeout": "200ms",  # give way well before Postgres would call it a deadlock and end the application's side
    "idle_in_transaction_session_timeout": "60s",
    "row_security": "off",  # an error instead of rows that are not seen and would be taken for deleted
    "datestyle": "ISO",  # keys are written as text as the capture function writes them
    "timezone": "UTC",
    "bytea_output": "hex",
}
_TIMEOUT = sa.func.set_config("statement_timeout", sa.bindparam("statement_timeout"), True)  # noqa: FBT003 - local
_BEGIN = sa.select(_TIMEOUT, *(sa.func.set_config(name, value, True) for name, value in _SETTINGS.items()))  # noqa: FBT003

# Lock not available, deadlock detected, could not serialize, written by another worker just now.
_BUSY = {"55P03", "40P01", "40001", "23505"}


@contextlib.contextmanager
def begin(engine: sa.Engine, *, statement_timeout: str = "60s") -> Iterator[sa.Connection]:
    """A transaction with the worker's settings, committed at the end of the block."""
    with engine.begin() as connection:
        connection.execute(_BEGIN, {"statement_timeout": statement_timeout})
        yield connection


@contextlib.contextmanager
def unless_busy() -> Iterator[None]:
    """Leaves the rest of the block for another time when something in it is locked."""
    try:
        yield
    except exc.DBAPIError as error:
        if not is_busy(error):
            raise


def is_busy(error: exc.DBAPIError) -> bool:
    """Whether what was asked for is locked by somebody else, as by TRUNCATE or ALTER TABLE: try again later."""
    return database.sqlstate(error) in _BUSY
