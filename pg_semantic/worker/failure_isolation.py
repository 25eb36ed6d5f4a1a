"""One bad row never stops the others: a step that the data makes fail is taken again with each half of the rows."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import exc

from pg_semantic import database

T = TypeVar("T")
R = TypeVar("R")


def halving(
    items: Sequence[T], step: Callable[[Sequence[T]], R], *, blame: Callable[[T, exc.DBAPIError], None]
) -> list[R]:
    """Takes a step with all items, or with each half where their data makes it fail, down to the item that is bad.

    Args:
        items: What the step is taken with; rows or jobs.
        step: A transaction of its own.
        blame: Called with each item that fails alone, and with its error.

    Returns:
        What each successful step gave, in the order of the items.

    Raises:
        sqlalchemy.exc.DBAPIError: For an error that no row is to blame for.
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
