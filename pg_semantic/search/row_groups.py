"""Groups of rows that are alike: `groups`, and the `Group` that it returns.

A group is a connected component of the pairs that `duplicates` finds: each row is like another one of the group, but
two rows of a large group need not be alike.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import orm
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from pg_semantic import database, errors
from pg_semantic.index import distances, keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import connected_rows, generation_tracker, rows_by_key
from pg_semantic.search.connected_rows import DisjointSets
from pg_semantic.search.duplicates import similarity
from pg_semantic.search.legs import Where
from pg_semantic.search.similar_chunks import SimilarChunks

T = TypeVar("T")

_PAIR = 2
_MEMBERS = 10_000  # per statement, unless a single group has more
_DIGITS = 5  # of a mean similarity; rounding errors beyond them don't decide between rows


@dataclass(frozen=True, slots=True)
class Group(Generic[T]):
    """Rows that are alike, directly or through other rows of the group.

    Attributes:
        members: The rows, in key order.
        medoid: The member with the highest mean similarity to all members; of equal ones, the first. A row counts as
            the normalized mean of its chunks.
    """

    members: tuple[T, ...]
    medoid: T


def groups(
    session: orm.Session,
    index: BoundIndex[T],
    *,
    least: float = 0.9,
    smallest: int = 2,
    where: Where = (),
    on_rows: Callable[[int], object] = lambda _: None,
) -> list[Group[T]]:
    """Finds groups of rows that are alike: the connected components of all pairs that `duplicates` finds.

    Takes a search through the vector index for each chunk, also among many rows that are all alike. If there are
    several groups of many such rows, those but the largest are searched up to their number of rows, to find whether
    they are connected. The memory grows with the number of rows in groups. With an AsyncSession: ``await
    session.run_sync(search.groups, Article.semantic)``.

    Args:
        session: As in `duplicates`; so are ``index``, ``where`` and ``on_rows``.
        least: The least similarity of two rows that are alike, above 0 to 1. The lower it is, the more groups merge.
        smallest: How many members a group has at least.

    Returns:
        The groups, largest first; groups of equal size are in the order of their first members.

    Raises:
        errors.QueryError: ``least``, ``smallest`` or ``where`` is not valid.
        errors.IndexNotFound: The index has not been created.
    """
    farthest = similarity(least)
    members = _checked_size(smallest)
    sets, copied = DisjointSets(), set[bytes]()
    with database.translated():
        chunks = SimilarChunks.live(session, index, where)
        for text in chunks.copies():
            copied.add(text.content_hash)
            for row in text.rows:
                sets.join(text.rows[0], row)
        connected_rows.connect(chunks, sets, copied=copied, least=farthest, on_rows=on_rows)
        return _loaded(session, chunks.index, sets.sets(), smallest=members)


def _checked_size(smallest: object) -> int:
    if isinstance(smallest, bool) or not isinstance(smallest, int) or smallest < _PAIR:
        raise errors.QueryError(f"smallest={smallest!r}: it must be a whole number of rows, {_PAIR} or more.")
    return smallest


def _loaded(
    session: orm.Session, index: BoundIndex[T], found: Sequence[Sequence[str]], *, smallest: int
) -> list[Group[T]]:
    wanted = [key for members in found if len(members) >= smallest for key in members]
    rows = rows_by_key.load(session, index, wanted)
    place = {key: number for number, key in enumerate(rows)}
    known = (sorted((key for key in members if key in place), key=place.__getitem__) for members in found)
    ordered = sorted((m for m in known if len(m) >= smallest), key=lambda members: (-len(members), place[members[0]]))
    connection = generation_tracker.connect(session, index)
    made = []
    for part in _parts(ordered):
        medoids: dict[int, str] = dict(connection.execute(_medoids(index, part)).all())
        made += [
            Group(tuple(rows[key] for key in members), rows[medoids.get(number, members[0])])
            for number, members in enumerate(part)
        ]
    return made


def _parts(groups: Sequence[Sequence[str]]) -> Iterator[Sequence[Sequence[str]]]:
    """Yields the groups in lists of up to `_MEMBERS` members, and of one group at least."""
    part: list[Sequence[str]] = []
    for members in groups:
        if part and sum(map(len, part)) + len(members) > _MEMBERS:
            yield part
            part = []
        part.append(members)
    if part:
        yield part


def _medoids(index: BoundIndex[Any], groups: Sequence[Sequence[str]]) -> "sa.Select[int, str]":
    """Selects the number of each group and the key of its medoid.

    The mean of the inner products of a vector with others is its inner product with their mean. So the time is
    proportional to the number of members.
    """
    found = [(number, place, key) for number, members in enumerate(groups) for place, key in enumerate(members)]
    numbers, places, members = zip(*found, strict=True)
    table = keys.key_table(
        members,
        len(index.spec.key),
        number=sa.bindparam(None, numbers, type_=ARRAY(sa.Integer)),
        place=sa.bindparam(None, places, type_=ARRAY(sa.Integer)),
    )
    vector = distances.normalized(sa.cast(index.tables.chunks.c.vector, VECTOR()))
    row = (
        sa.select(table.c.number, table.c.place, table.c.key, distances.normalized(_mean(vector)).label("vector"))
        .join(index.tables.chunks, keys.matches_key_table(table, index.tables.chunk_key))
        .group_by(table.c.number, table.c.place, table.c.key)
        .cte("member")
    )
    center = sa.select(row.c.number, _mean(row.c.vector).label("vector")).group_by(row.c.number).cte("center")
    nearness: sa.ColumnElement[float] = -row.c.vector.op("<#>", return_type=sa.Double())(center.c.vector)
    best_first = (sa.func.round(sa.cast(nearness, sa.Numeric), _DIGITS).desc(), row.c.place)
    in_order = sa.func.array_agg(aggregate_order_by(row.c.key, *best_first), type_=ARRAY(sa.Text))
    same_group = center.c.number == row.c.number
    return sa.select(row.c.number, in_order[1]).join(center, same_group).group_by(row.c.number)


def _mean(vector: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.avg(vector, type_=VECTOR())
