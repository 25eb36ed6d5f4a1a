"""Ends transactions in a caller's session that we began there, so that none stays open while something slow runs.

An open transaction keeps its locks while an encoder is loaded, and the server may end it for being idle.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic.database import driver_errors

_NO_SNAPSHOT = ("READ COMMITTED", "AUTOCOMMIT")  # isolation levels where each statement sees what was committed before


@contextlib.contextmanager
def reading(session: orm.Session) -> Iterator[None]:
    """Runs a block that only reads, and ends the transaction if the block began it. Translates errors of the driver.

    Args:
        session: If it is in a transaction already, the caller decides when that ends.

    Raises:
        errors.PgSemanticError: The translated error of the driver.
    """
    is_own = _is_in_none(session)
    try:
        with driver_errors.translated():
            yield
            if is_own:
                session.commit()  # unlike a rollback, leaves objects as `expire_on_commit` says
    finally:
        if is_own:
            session.rollback()


@contextlib.contextmanager
def one_snapshot(session: orm.Session, bind_arguments: dict[str, Any]) -> Iterator[None]:
    """Runs a block with several `reading` in one transaction if a transaction is a snapshot, and else in several.

    Args:
        session: If it is in a transaction already, the caller decides when that ends.
        bind_arguments: Which database, as in ``Session.connection``.

    Raises:
        errors.PgSemanticError: The translated error of the driver.
    """
    with reading(session):
        if can_pause(session, bind_arguments):
            session.commit()
        yield


def can_pause(session: orm.Session, bind_arguments: dict[str, Any]) -> bool:
    """Returns whether a long reader may end its transaction now and then, and continue in another one.

    It may not in a transaction of the caller, nor if a transaction is a snapshot, as in REPEATABLE READ. Begins a
    transaction to find out.

    Args:
        session: The caller's session.
        bind_arguments: Which database, as in ``Session.connection``.
    """
    is_own = _is_in_none(session)
    return is_own and session.connection(bind_arguments).get_isolation_level() in _NO_SNAPSHOT


def _is_in_none(session: orm.Session) -> bool:
    """Returns whether the session is in no transaction, nor a Connection that the caller has bound it to."""
    bind = session.bind
    return not session.in_transaction() and not (isinstance(bind, sa.Connection) and bind.in_transaction())
