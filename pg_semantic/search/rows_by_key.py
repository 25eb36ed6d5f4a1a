"""Loads rows of the mapped class, or their headlines, by their keys as text."""

from collections.abc import Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic.index import keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import headlines

T = TypeVar("T")


def load(session: orm.Session, index: BoundIndex[T], wanted: Sequence[str]) -> dict[str, T]:
    """Returns the rows with these keys, in key order. A row that was deleted meanwhile, or is hidden, is left out."""
    table = keys.key_table(wanted, len(index.spec.key))
    rows = sa.select(index.entity, table.c.key).join(table, _is_row(index, table)).order_by(*index.tables.source_key)
    found: list[Any] = list(session.execute(rows).unique(lambda row: row[1])) if wanted else []
    return {key: row for row, key in found}


def load_headlines(session: orm.Session, index: BoundIndex[Any], wanted: Sequence[str]) -> dict[str, str | None]:
    """Returns the headlines of the rows with these keys; None for a row whose text columns are all blank."""
    table = keys.key_table(wanted, len(index.spec.key))
    beginning = headlines.beginning(index.spec, index.tables.source)
    rows = sa.select(index.entity).join(table, _is_row(index, table))
    found = session.execute(rows.with_only_columns(table.c.key, beginning, maintain_column_froms=True))
    return {key: text and headlines.on_one_line(text) for key, text in found}


def _is_row(index: BoundIndex[Any], table: sa.TableValuedAlias) -> sa.ColumnElement[bool]:
    values = keys.typed_columns(table, index.tables.chunk_key)
    return sa.and_(*(a == b for a, b in zip(index.tables.source_key, values, strict=True)))
