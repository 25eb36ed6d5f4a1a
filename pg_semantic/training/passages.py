"""Reads the texts of passages, which training needs in memory and never writes: `read`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic.evaluation import existing_rows
from pg_semantic.index import keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker
from pg_semantic.search.legs import Where

T = TypeVar("T")

Passage: TypeAlias = tuple[str, int]
"""The key of a row as text, and the ordinal of one of its chunks."""

_KEYS = 1_000  # rows read by one statement


def read(
    session: orm.Session, index: BoundIndex[Any], wanted: Iterable[Passage], *, where: Where = ()
) -> dict[Passage, str]:
    """Returns the texts of passages, as they were encoded. Leaves out those that are not there any more.

    Looks up the keys first, because a key from a file may be that of another table.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index, bound to the tables of its live generation.
        wanted: The passages.
        where: Conditions on their rows. Passages of other rows are left out.
    """
    asked = set(wanted)
    canonical = existing_rows.canonical(session, index, {key for key, _ in asked})
    named = {one: (canonical[one[0]], one[1]) for one in asked if one[0] in canonical}
    passages = set(named.values())
    rows = sorted({key for key, _ in passages})
    connection, tables = generation_tracker.connect(session, index), index.tables
    found: dict[Passage, str] = {}
    for start in range(0, len(rows), _KEYS):
        batch = set(rows[start : start + _KEYS])
        ordinals = {ordinal for key, ordinal in passages if key in batch}
        table = keys.key_table(sorted(batch), len(tables.chunk_key))
        chunks = tables.chunks.c
        statement = (
            sa.select(keys.as_text(tables.chunk_key), chunks.ordinal, chunks.content)
            .select_from(of_rows(index, tables.chunks, key=tables.chunk_key, where=where))
            .join(table, keys.matches_key_table(table, tables.chunk_key))
            .where(chunks.ordinal.in_(ordinals))
        )
        texts = connection.execute(statement)
        found |= {(key, ordinal): text for key, ordinal, text in texts if (key, ordinal) in passages}
    return {one: found[passage] for one, passage in named.items() if passage in found}


def names_of(texts: Mapping[Passage, str]) -> Callable[[Passage], tuple[str, str]]:
    """Returns a function that names the row and the text of a passage, shortly. Equal texts have the same name.

    Args:
        texts: The texts of all passages.
    """
    numbers: dict[str, int] = {}
    return lambda one: (f"row {one[0]}", f"text {numbers.setdefault(texts[one], len(numbers))}")


def from_place(every: Sequence[T], place: int) -> Iterator[T]:
    """Yields all of a sequence once, beginning at a place, and copies none of it."""
    return (every[(place + step) % len(every)] for step in range(len(every)))


def of_rows(
    index: BoundIndex[Any], table: sa.FromClause, *, key: Sequence[sa.ColumnElement[Any]], where: Where
) -> sa.FromClause:
    """Returns a table with a row's key, such as that of chunks, joined with the rows that fulfill the conditions.

    Args:
        index: The semantic index.
        table: The table.
        key: Its columns that are the key of a row.
        where: Conditions on rows. Without any, the table is returned as it is.
    """
    if not where:
        return table
    named = [column.label(f"key_{number}") for number, column in enumerate(index.tables.source_key)]
    chosen = sa.select(index.entity).where(*where).with_only_columns(*named, maintain_column_froms=True)
    rows = chosen.subquery("chosen_row")
    return table.join(rows, sa.and_(*(one == other for one, other in zip(key, rows.c, strict=True))))
