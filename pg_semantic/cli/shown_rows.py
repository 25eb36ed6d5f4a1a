"""How commands show rows of a table: by their keys and their headlines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import orm

from pg_semantic.cli import output
from pg_semantic.index import keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import rows_by_key

_HEADLINE_WIDTH = 40


@dataclass(frozen=True, slots=True)
class ShownRows:
    """Rows to show: the names of the key columns, and the headlines by key."""

    names: Sequence[str]
    headlines: Mapping[str, str | None]

    @classmethod
    def read(cls, session: orm.Session, index: BoundIndex[Any], rows: Sequence[object]) -> "ShownRows":
        """Reads the headlines of rows, which are instances of the mapped class."""
        known = cls([column.name for column in index.spec.key], {})
        wanted = sorted({keys.joined(known.key(row)) for row in rows})
        return cls(known.names, rows_by_key.load_headlines(session, index, wanted))

    def key(self, row: object) -> tuple[object, ...]:
        """Returns the values of a row's key columns."""
        return tuple(getattr(row, name) for name in self.names)

    def cells(self, row: object) -> tuple[object, ...]:
        """Returns a row for a table: its key columns, and its headline."""
        headline = self.headlines.get(keys.joined(self.key(row)))
        return (*self.key(row), headline and output.one_line(headline, width=_HEADLINE_WIDTH))

    def as_object(self, row: object) -> dict[str, object]:
        """Returns a row for JSON."""
        key = self.key(row)
        return {"key": dict(zip(self.names, key, strict=True)), "headline": self.headlines.get(keys.joined(key))}
