"""Isolates bad rows: a step that fails because of its data is repeated with each half of the rows."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import exc

from pg_semantic import database

T = TypeVar("T")
R = TypeVar("R")


def is_caused_by_data(error: BaseException) -> bool:
    """Returns whether data may have caused an error of a library, so that other texts should be tried by themselves.

    That is any `Exception`, and a panic of Rust code, as in tokenizers, which Python doesn't count as one.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def halving(
    items: Sequence[T], step: Callable[[Sequence[T]], R], *, blame: Callable[[T, exc.DBAPIError], None]
) -> list[R]:
    """Runs a step with all items, or with each half if their data makes it fail, down to the bad items.

    Args:
        items: The rows or jobs to run the step with.
        step: Runs in a transaction of its own.
        blame: Called with each item that fails alone, and its error.

    Returns:
        The results of the successful steps, in the order of the items.

    Raises:
        sqlalchemy.exc.DBAPIError: The failure isn't caused by a row.
    """
    try:
        return [step(items)]
    except exc.DBAPIError as error:
        if database.fault(error) not in {"row", "key", "taken"}:
            raise
        if len(items) <= 1:
            for item in items:
                blame(item, error)
            return []
    half = len(items) // 2
    return [given for part in (items[:half], items[half:]) for given in halving(part, step, blame=blame)]
