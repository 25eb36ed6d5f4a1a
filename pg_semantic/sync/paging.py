"""A table in pages: ranges of its key in key order, so that no statement over a large table is long."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pg_semantic import keys
from pg_semantic.sync import transaction


@dataclass(frozen=True, slots=True)
class Range:
    """Keys after one, up to and with another; None is the beginning or the end. Both are keys as text."""

    after: str | None
    upto: str | None

    def of(self, columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
        """The condition that a row's key is in the range; an index on the key serves it."""
        bounds: list[sa.ColumnElement[bool]] = [sa.true()]
        if self.after is not None:
            bounds.append(sa.tuple_(*columns) > _value(self.after, columns))
        if self.upto is not None:
            bounds.append(sa.tuple_(*columns) <= _value(self.upto, columns))
        return sa.and_(*bounds)


def ranges(engine: sa.Engine, columns: Sequence[sa.ColumnElement[Any]], *, rows: int) -> Iterator[Range]:
    """Ranges of about so many rows that cover all keys, those too that come to be while they are gone through."""
    after: str | None = None
    while True:
        rest = Range(after, None)
        last = sa.select(keys.as_text(columns)).where(rest.of(columns)).order_by(*columns).offset(rows - 1).limit(1)
        upto: str | None = next((key for (key,) in transaction.patiently(engine, last)), None)
        yield Range(after, upto)
        if upto is None:
            return
        after = upto


def _value(key: str, columns: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
    parts = keys.split(key, len(columns))
    return sa.tuple_(*(sa.cast(part, column.type) for part, column in zip(parts, columns, strict=True)))
