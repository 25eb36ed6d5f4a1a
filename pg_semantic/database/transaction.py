"""Begins a worker's transactions with their own settings, which override those of role, database or pooler.

The settings are local, because behind a transaction pooler the next transaction may get another session.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
import tenacity
from sqlalchemy import exc

from pg_semantic import database, errors, sql

_SETTINGS = {
    "lock_timeout": "200ms",  # yield well before deadlock_timeout, when Postgres might cancel the application instead
    "idle_in_transaction_session_timeout": "60s",
    "row_security": "off",  # fail, because rows hidden by a policy would look deleted
    "datestyle": "ISO",  # same text of keys as in the capture function
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",  # lossless numbers as text
    "quote_all_identifiers": "off",  # names are compared as text
    "jit": "off",  # lookups of a few rows look expensive before the first ANALYZE
}
_BY_INDEX = dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"), "off")
_TIMEOUT = sa.func.pg_catalog.set_config("statement_timeout", sa.bindparam("statement_timeout"), True)  # noqa: FBT003 - local
_OTHERS = sql.statement("registry", "own_transaction").bindparams(local=True)


def _begin(settings: Mapping[str, str]) -> sa.Select[Any]:
    """Selects the settings, as literals: thirty binds would take longer than the statement."""
    names, values = (map(_literal, texts) for texts in (settings, settings.values()))
    return sa.select(
        _TIMEOUT,
        *(sa.func.pg_catalog.set_config(name, value, sa.true()) for name, value in zip(names, values, strict=True)),
        *_OTHERS.columns(sa.column("path"), sa.column("timeout")).subquery().c,
    )


def _literal(text: str) -> sa.ColumnClause[str]:
    return sa.literal_column(f"'{text}'", sa.Text)


_BEGIN, _BEGIN_BY_INDEX = _begin(_SETTINGS), _begin(_SETTINGS | _BY_INDEX)
_PATIENCE_SECONDS = 30.0
_LOCK_SECONDS = sa.func.set_config("semantic.lock_seconds", "0", True)  # noqa: FBT003 - local
WAIT_FOR_NO_LOCK = sa.select(_LOCK_SECONDS)
"""Makes `semantic.lock_tables_v1` try only once in this transaction, so that a worker can turn to other indexes."""


@contextlib.contextmanager
def begin(engine: sa.Engine, *, statement_timeout: str = "60s", by_index: bool = False) -> Iterator[sa.Connection]:
    """Begins a transaction with the worker's settings, and commits it at the end of the block.

    Args:
        engine: The worker's engine.
        statement_timeout: Maximum duration of a statement, in Postgres syntax.
        by_index: Whether to look each row up in an index, whatever the statistics say. The queue needs this: a planner
            that mistakes millions of new marks for a hundred would sort them all at every poll. So does a batch: the
            planner would read a table of 200,000 rows in full to find 500 of them.
    """
    with engine.begin() as connection:
        connection.execute(_BEGIN_BY_INDEX if by_index else _BEGIN, {"statement_timeout": statement_timeout})
        yield connection


@contextlib.contextmanager
def unless_busy() -> Iterator[None]:
    """Skips the rest of the block if something in it is locked or takes too long: it can run another time."""
    try:
        yield
    except (exc.DBAPIError, errors.DatabaseError) as error:
        if not database.is_busy_or_slow(error):
            raise


def is_busy(error: exc.DBAPIError) -> bool:
    """Returns whether another transaction is in the way, as with TRUNCATE, ALTER TABLE or the same INSERT."""
    return database.fault(error) in {"busy", "taken"}


retried = tenacity.retry(
    retry=tenacity.retry_if_exception(
        lambda error: isinstance(error, exc.DBAPIError) and is_busy(error) and not database.lock_refusal(error)
    ),
    wait=tenacity.wait_random_exponential(0.05, 1.0),
    stop=tenacity.stop_after_delay(_PATIENCE_SECONDS),
    reraise=True,
)
"""Decorates a function that runs one transaction, to retry it if something was locked.

It doesn't retry after `semantic.lock_tables_v1` has already waited for tables.
"""


@retried
def patiently(engine: sa.Engine, *statements: sa.Executable) -> list[Any]:
    """Runs statements in one transaction, and retries it for up to 30 seconds if a table is locked.

    Returns:
        The rows of the last statement that returns rows.
    """
    found: list[Any] = []
    with begin(engine) as connection:
        for statement in statements:
            result = connection.execute(statement)
            found = list(result) if result.returns_rows else found
    return found
