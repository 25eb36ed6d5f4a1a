"""Finds the passages of pairs of rows: the two chunks that are most similar, or a random chunk of a single row."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects.postgresql import ARRAY

from pg_semantic.evaluation import existing_rows
from pg_semantic.index import distances, keys, seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker
from pg_semantic.training.passages import Passage
from pg_semantic.training.row_pairs import RowPair

_AT_ONCE = 500  # pairs per statement


def read(
    session: orm.Session, index: BoundIndex[Any], pairs: Iterable[RowPair], *, seed: int
) -> dict[RowPair, tuple[Passage, Passage]]:
    """Returns the passages of each pair whose rows have vectors.

    Compares each chunk of one row with each chunk of the other.

    Args:
        session: A session. Row-level security applies.
        index: The semantic index, bound to the tables of its live generation.
        pairs: The pairs.
        seed: Chooses the chunk of a row that is paired with itself.
    """
    distinct = list(dict.fromkeys(pairs))
    canonical = existing_rows.canonical(session, index, {key for pair in distinct for key in (pair.row, pair.key)})
    known = [pair for pair in distinct if pair.row in canonical and pair.key in canonical]
    connection = generation_tracker.connect(session, index)
    found = {}
    for start in range(0, len(known), _AT_ONCE):
        part = known[start : start + _AT_ONCE]
        both = [(canonical[pair.row], canonical[pair.key]) for pair in part]
        for number, first, second in connection.execute(_nearest_chunks(index, both, seed=seed)):
            found[part[number]] = ((both[number][0], first), (both[number][1], second))
    return {pair: found[pair] for pair in known if pair in found}


def _nearest_chunks(index: BoundIndex[Any], pairs: list[tuple[str, str]], *, seed: int) -> "sa.Select[int, int, int]":
    """Selects the number of each pair, and the ordinals of its passages."""
    columns = len(index.spec.key)
    first, second = (
        keys.key_table(
            [pair[side] for pair in pairs],
            columns,
            number=sa.bindparam(None, list(range(len(pairs))), type_=ARRAY(sa.Integer)),
        )
        for side in (0, 1)
    )
    one, other = index.tables.chunks.alias("one"), index.tables.chunks.alias("other")
    own = [[chunks.c[column.name] for column in index.spec.key] for chunks in (one, other)]
    is_same = first.c.key == second.c.key
    distance = sa.case((is_same, 0.0), else_=distances.computed_distance(one.c.vector, other.c.vector))
    drawn = seeds.order(sa.func.concat(first.c.key, "/", one.c.ordinal), seed)
    nearest = (
        sa.select(one.c.ordinal.label("first"), other.c.ordinal.label("second"))
        .select_from(one.join(other, keys.matches_key_table(second, own[1])))
        .where(keys.matches_key_table(first, own[0]))
        .where(~is_same | (one.c.ordinal == other.c.ordinal))
        .order_by(distance, drawn, other.c.ordinal)
        .limit(1)
        .lateral()
    )
    return sa.select(first.c.number, nearest.c.first, nearest.c.second).select_from(
        first.join(second, first.c.number == second.c.number).join(nearest, sa.true())
    )
