"""Reads the texts of judged rows and of random ones into memory: `read`. Writes nothing."""

from collections.abc import Set
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import errors
from pg_semantic.index import chunk_tables, keys, seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker


def read(session: orm.Session, index: BoundIndex[Any], *, judged: Set[str], most: int, seed: int) -> dict[str, str]:
    """Returns the texts of the judged rows, and of as many random ones as make up the sample.

    Scans the table once for its keys. Needs as much memory as the texts.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index, bound to the tables of its live generation.
        judged: The keys of rows that must be read. Those that don't exist are left out.
        most: How many rows to read, judged ones included.
        seed: Chooses the random rows, by a hash of their keys.

    Returns:
        By key as text the text of the row, in the order of the table's key.

    Raises:
        errors.QueryError: More rows were judged than the sample has.
    """
    if len(judged) > most:
        raise errors.QueryError(
            f"The sample has {most} rows, but {len(judged)} were judged, and the sample needs them all: use a larger "
            "sample, or fewer queries."
        )
    connection, source_key = generation_tracker.connect(session, index), index.tables.source_key
    key = keys.as_text(source_key)
    order = seeds.order(key, seed)
    drawn = sa.select(index.entity).with_only_columns(key, maintain_column_froms=True).order_by(order, key).limit(most)
    others = [one for one in connection.scalars(drawn) if one not in judged][: most - len(judged)]
    table = keys.key_table([*sorted(judged), *others], len(source_key))
    statement = (
        sa.select(index.entity)
        .join(table, keys.matches_key_table(table, source_key))
        .with_only_columns(key, chunk_tables.text_of(index.spec, index.tables.source), maintain_column_froms=True)
        .order_by(*source_key)
    )
    return dict(connection.execute(statement).all())
