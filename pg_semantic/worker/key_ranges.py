"""Pages through a table in key order, so that no statement on a large table takes long."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from pg_semantic.database import transaction
from pg_semantic.index import keys
from pg_semantic.index.key_range import KeyRange


def ranges(engine: sa.Engine, columns: Sequence[sa.ColumnElement[Any]], *, rows: int) -> Iterator[KeyRange]:
    """Yields ranges of about ``rows`` rows that cover all keys, including keys that are added meanwhile."""
    after: str | None = None
    while True:
        rest = KeyRange(after, None)
        last = sa.select(keys.as_text(columns)).where(rest.of(columns)).order_by(*columns).offset(rows - 1).limit(1)
        upto: str | None = next((key for (key,) in transaction.patiently(engine, last)), None)
        yield KeyRange(after, upto)
        if upto is None:
            return
        after = upto
