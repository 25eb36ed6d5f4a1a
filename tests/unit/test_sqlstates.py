import psycopg
import pytest
from sqlalchemy import exc

from pg_semantic import database
from pg_semantic.database import sqlstates
from pg_semantic.database.sqlstates import Fault


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        ("22001", "row"),
        ("22003", "row"),
        ("22P05", "row"),
        ("23502", "row"),
        ("23514", "row"),
        ("54000", "row"),
        ("XX001", "row"),
        ("23503", "key"),
        ("23505", "taken"),
        ("40001", "busy"),
        ("40P01", "busy"),
        ("55P03", "busy"),
        ("08006", "lost"),
        ("57P01", "lost"),
        ("25006", "lost"),
        ("57014", "later"),
        ("53100", "later"),
        ("53200", "later"),
    ],
)
def test_an_sqlstate_says_who_caused_an_error(state: str, fault: Fault) -> None:
    assert sqlstates.fault(state) == fault


@pytest.mark.parametrize("state", ["P0001", "XX000", "42P01", "23000", "99999", ""])
def test_no_row_is_blamed_for_an_error_that_is_not_known(state: str) -> None:
    assert sqlstates.fault(state) == "later"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (exc.DataError("", None, psycopg.DataError("cannot contain NUL")), "row"),
        (exc.OperationalError("", None, psycopg.OperationalError("connection refused")), "lost"),
        (exc.InterfaceError("", None, psycopg.InterfaceError("the connection is closed")), "lost"),
        (exc.ProgrammingError("", None, psycopg.ProgrammingError("cannot adapt type")), "later"),
    ],
)
def test_an_error_of_the_driver_alone_is_the_rows_or_the_connections(error: exc.DBAPIError, fault: Fault) -> None:
    assert database.fault(error) == fault


def test_the_class_that_sqlalchemy_puts_before_a_message_of_asyncpg_is_not_repeated() -> None:
    said = exc.ProgrammingError("", None, Exception("<class 'asyncpg.exceptions.SyntaxError'>: it is wrong\nHINT: fix"))
    assert str(database.reason(said)) == "Exception: it is wrong"
