"""How a worker's transaction begins: with settings of its own, whatever the role, the database or a pooler has set.

They are local to the transaction, since behind a transaction pooler the next one may meet another server connection.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
import tenacity
from sqlalchemy import exc

from pg_semantic import database, sql

_SETTINGS = {
    "lock_timeout": "200ms",  # give way well before Postgres would call it a deadlock and end the application's side
    "idle_in_transaction_session_timeout": "60s",
    "row_security": "off",  # an error instead of rows that are not seen and would be taken for deleted
    "datestyle": "ISO",  # keys are written as text as the capture function writes them
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",  # numbers as text lose nothing
    "quote_all_identifiers": "off",  # names are compared as text
    "jit": "off",  # look-ups of a few rows, whose cost is thought high before the first ANALYZE
}
_BY_INDEX = {"enable_seqscan": "off", "enable_bitmapscan": "off"}
_TIMEOUT = sa.func.pg_catalog.set_config("statement_timeout", sa.bindparam("statement_timeout"), True)  # noqa: FBT003 - local
_OTHERS = sql.statement("registry", "own_transaction").bindparams(local=True)


def _begin(settings: Mapping[str, str]) -> sa.Select[Any]:
    return sa.select(
        _TIMEOUT,
        *(sa.func.pg_catalog.set_config(name, value, True) for name, value in settings.items()),  # noqa: FBT003 - local
        *_OTHERS.columns(sa.column("path"), sa.column("timeout")).subquery().c,
    )


_BEGIN, _BEGIN_BY_INDEX = _begin(_SETTINGS), _begin(_SETTINGS | _BY_INDEX)
_PATIENCE_SECONDS = 30.0
_LOCK_SECONDS = sa.func.set_config("semantic.lock_seconds", "0", True)  # noqa: FBT003 - local
WAIT_FOR_NO_LOCK = sa.select(_LOCK_SECONDS)
"""Has `semantic.lock_v1` try once in this transaction: a worker has other indexes to see to."""


@contextlib.contextmanager
def begin(engine: sa.Engine, *, statement_timeout: str = "60s", by_index: bool = False) -> Iterator[sa.Connection]:
    """A transaction with the worker's settings, committed at the end of the block.

    Args:
        engine: The worker's.
        statement_timeout: How long a statement may take, as Postgres writes it.
        by_index: Whether tables are read in the order of their indexes, whatever size the statistics say they have. For
            the queue: a planner that takes millions of new marks for a hundred sorts them all at every look.
    """
    with engine.begin() as connection:
        connection.execute(_BEGIN_BY_INDEX if by_index else _BEGIN, {"statement_timeout": statement_timeout})
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
    """Whether somebody else is in the way, as with TRUNCATE, ALTER TABLE or the same INSERT: try again later."""
    return database.fault(error) in {"busy", "taken"}


retried = tenacity.retry(
    retry=tenacity.retry_if_exception(
        lambda error: isinstance(error, exc.DBAPIError) and is_busy(error) and not database.lock_refusal(error)
    ),
    wait=tenacity.wait_random_exponential(0.05, 1.0),
    stop=tenacity.stop_after_delay(_PATIENCE_SECONDS),
    reraise=True,
)
"""Decorates what is a transaction of its own, to be begun again when something in it was locked.

Tables that `semantic.lock_v1` has waited for are not waited for again.
"""


@retried
def patiently(engine: sa.Engine, *statements: sa.Executable) -> list[Any]:
    """Runs statements in one transaction, again when a table was locked; gives the rows of the last that has any."""
    found: list[Any] = []
    with begin(engine) as connection:
        for statement in statements:
            result = connection.execute(statement)
            found = list(result) if result.returns_rows else found
    return found
