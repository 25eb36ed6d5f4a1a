"""`KeyRange`: a part of a table in key order, as a condition for any statement."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from pg_semantic.index import keys

_Compare: TypeAlias = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A range of keys.

    Attributes:
        after: The key before the range, as text; None for the start of the table.
        upto: The last key in the range, as text; None for the end of the table.
    """

    after: str | None
    upto: str | None

    def of(self, columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
        """Returns the condition that a row's key is in the range. An index on the key can serve it."""
        bounds: list[sa.ColumnElement[bool]] = [sa.true()]
        if self.after is not None:
            bounds.append(_beyond(columns, _values(self.after, columns), than=operator.gt, last=operator.gt))
        if self.upto is not None:
            bounds.append(_beyond(columns, _values(self.upto, columns), than=operator.lt, last=operator.le))
        return sa.and_(*bounds)


def _values(key: str, columns: Sequence[sa.ColumnElement[Any]]) -> Sequence[sa.ColumnElement[Any]]:
    parts = keys.split(key, len(columns))
    # Sent as text: asyncpg would send a bind of another type in binary, which takes a value of that type.
    return [sa.cast(sa.literal(part, sa.Text), column.type) for part, column in zip(parts, columns, strict=True)]


def _beyond(
    columns: Sequence[sa.ColumnElement[Any]], values: Sequence[sa.ColumnElement[Any]], *, than: _Compare, last: _Compare
) -> sa.ColumnElement[bool]:
    """Returns the condition that a row is before or after another, or equal to it: ``last`` compares the last column.

    A row comparison uses the operators of one schema, so a key with operators of its own is compared column by column.
    """
    if all(getattr(column.type, "operators", None) is None for column in columns):
        return sa.and_(last(sa.tuple_(*columns), sa.tuple_(*values)))
    if len(columns) == 1:
        return sa.and_(last(columns[0], values[0]))
    at_least = operator.ge if than is operator.gt else operator.le
    further = _beyond(columns[1:], values[1:], than=than, last=last)
    return sa.and_(at_least(columns[0], values[0]), sa.or_(than(columns[0], values[0]), further))
