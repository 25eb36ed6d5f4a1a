"""Selects random passages, the same for the same rows and seed: of any chunks, or one of each of some rows.

Both first choose keys, so that no text is sorted but those that are chosen.
"""

from typing import Any

import sqlalchemy as sa

from pg_semantic.index import keys, seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search.legs import Where
from pg_semantic.training import passages


def of_any_chunks(index: BoundIndex[Any], *, count: int, where: Where, seed: int) -> "sa.Select[str, int, str]":
    """Selects the key, the ordinal and the text of random chunks. Computes a hash for each chunk.

    Args:
        index: The semantic index, bound to the tables of its live generation.
        count: How many, at most.
        where: Conditions on their rows.
        seed: Chooses them.
    """
    tables = index.tables
    ordinal, name = tables.chunks.c.ordinal, keys.as_text(tables.chunk_key)
    named = sa.func.concat(name, "/", ordinal)
    order = seeds.order(named, seed)
    key = [column.label(f"key_{number}") for number, column in enumerate(tables.chunk_key)]
    chosen = passages.of_rows(index, tables.chunks, key=tables.chunk_key, where=where)
    drawn = (
        sa.select(*key, name.label("key"), ordinal.label("ordinal"), named.label("named"), order.label("drawn"))
        .select_from(chosen)
        .order_by(order, named)
        .limit(count)
        .subquery()
    )
    chunks = tables.chunks.alias()
    own = [chunks.c[column.name] == drawn.c[label.name] for column, label in zip(tables.chunk_key, key, strict=True)]
    texts = sa.select(drawn.c.key, drawn.c.ordinal, chunks.c.content)
    joined = texts.join_from(drawn, chunks, sa.and_(*own, chunks.c.ordinal == drawn.c.ordinal))
    return joined.order_by(drawn.c.drawn, drawn.c.named)


def one_of_each_row(
    index: BoundIndex[Any], *, count: int, where: Where, seed: int, after: int = 0
) -> "sa.Select[str, str]":
    """Selects the keys of random rows, with the text of a random chunk of each. Computes a hash for each row.

    Args:
        index: The semantic index, bound to the tables of its live generation.
        count: How many rows, at most. Those without chunks, which have no text, are left out of them.
        where: Conditions on the rows.
        seed: Chooses them.
        after: How many rows to skip, which were selected before.
    """
    tables = index.tables
    name, ordinal = keys.as_text(tables.receipt_key), tables.chunks.c.ordinal
    order = seeds.order(name, seed)
    key = [column.label(f"key_{number}") for number, column in enumerate(tables.receipt_key)]
    chosen = passages.of_rows(index, tables.receipts, key=tables.receipt_key, where=where)
    rows = sa.select(*key, name.label("key"), order.label("drawn")).select_from(chosen)
    drawn = rows.order_by(order, name).limit(count).offset(after).subquery()
    own = (column == drawn.c[label.name] for column, label in zip(tables.chunk_key, key, strict=True))
    place = seeds.order(sa.func.concat(drawn.c.key, "/", ordinal), seed)
    one = sa.select(tables.chunks.c.content).where(*own).order_by(place, ordinal).limit(1).lateral()
    return sa.select(drawn.c.key, one.c.content).join_from(drawn, one, sa.true()).order_by(drawn.c.drawn, drawn.c.key)
