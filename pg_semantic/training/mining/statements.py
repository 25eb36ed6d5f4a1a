"""Statements of mining: the positives of a query with their scores, and the rows that a search for it finds.

Both read stored vectors only, as the caller: row-level security and the filters apply to positives and candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic.index import distances, keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import fusion, legs
from pg_semantic.search.fusion import Rrf
from pg_semantic.search.legs import Leg, Where
from pg_semantic.search.request import Mode

Statement: TypeAlias = "sa.Select[*tuple[Any, ...]]"


@dataclass(frozen=True, slots=True)
class Searched:
    """How to search for candidates, and what to read of each passage, the same for all queries of a run."""

    index: BoundIndex[Any]
    where: Where
    mode: Mode
    depth: int
    group: "sa.ColumnElement[Any] | orm.InstrumentedAttribute[Any] | None"
    contents: bool

    @property
    def leg_depth(self) -> int:
        """How many rows each leg contributes: more than wanted if two legs are fused, as in a search."""
        return max(self.depth, fusion.depth_of(None)) if self.mode == "hybrid" else self.depth


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A query as SQL."""

    text: sa.ColumnElement[str]
    vector: sa.ColumnElement[Any]


def positives(searched: Searched, query: AskedQuery, given: Sequence[str]) -> Statement:
    """Selects the rows with the given keys: ``key``, ``ordinal``, ``score`` and whether the query is ``quoted``.

    Rows without vectors are left out, and those that the filters or row-level security hide.
    """
    tables = searched.index.tables
    wanted = keys.key_table(given, len(tables.spec.key))
    best = _nearest_chunk(searched, tables.source_key, query.vector)
    quoted = sa.func.strpos(best.c.content, query.text, type_=sa.Integer) > 0
    return (
        sa.select(searched.index.entity)
        .join(wanted, keys.matches_key_table(wanted, tables.source_key))
        .join(best, sa.true())
        .where(*distances.same_encoder(tables), *distances.same_table(tables), *searched.where)
        .with_only_columns(
            *_columns(searched, tables.source_key, best), quoted.label("quoted"), maintain_column_froms=True
        )
    )


def candidates(searched: Searched, query: AskedQuery, answers: Sequence[str], *, exact: bool) -> Statement:
    """Selects what a search finds, best first: ``key``, ``ordinal``, ``score``, ``nearness`` and ``scanned``.

    The score is the cosine similarity of the row's best chunk, however the rows are ranked. ``nearness`` is the highest
    similarity of that chunk to a chunk of the answers, and ``scanned`` how many rows the dense leg found.
    """
    index = searched.index
    found_by = _legs(searched, query, exact=exact)
    ranking = fusion.fused(found_by, Rrf(), depth=searched.leg_depth, reach=searched.leg_depth)
    scanned = sa.select(sa.func.count()).select_from(found_by[0].rows).scalar_subquery().label("scanned")
    found = ranking.add_columns(scanned).limit(searched.depth).subquery()
    key = [found.c[f"key_{number}"] for number in range(len(index.spec.key))]
    best = _nearest_chunk(searched, key, query.vector)
    columns = (*_columns(searched, index.tables.source_key, best), _nearness(index, best, answers), found.c.scanned)
    rows = fusion.rows_of(index, found).join(best, sa.true())
    return rows.with_only_columns(*columns, maintain_column_froms=True)


def _legs(searched: Searched, query: AskedQuery, *, exact: bool) -> list[Leg]:
    where, depth = searched.where, searched.leg_depth
    found = []
    if searched.mode != "lexical":
        found.append(legs.dense(searched.index, query.vector, where=where, depth=depth, exact=exact))
    if searched.mode != "dense":
        found.append(legs.lexical(searched.index, query.text, where=where, depth=depth, match="any"))
    return found


def _nearest_chunk(
    searched: Searched, key: Sequence[sa.ColumnElement[Any]], vector: sa.ColumnElement[Any]
) -> sa.FromClause:
    """The chunk of a row that is nearest to the query."""
    chunks = searched.index.tables.chunks.alias()
    distance = distances.computed_distance(chunks.c.vector, vector)
    own = [chunks.c[column.name] for column in searched.index.spec.key]
    return (
        sa.select(chunks.c.ordinal, chunks.c.content, chunks.c.vector, (1 - distance).label("score"))
        .where(*(one == other for one, other in zip(own, key, strict=True)))
        .order_by(distance, chunks.c.ordinal)
        .limit(1)
        .lateral()
    )


def _columns(
    searched: Searched, key: Sequence[sa.ColumnElement[Any]], best: sa.FromClause
) -> list[sa.ColumnElement[Any]]:
    group = sa.null() if searched.group is None else searched.group
    content = best.c.content if searched.contents else sa.literal_column("''", sa.Text)
    return [
        keys.as_text(key).label("key"),
        best.c.ordinal,
        best.c.score,
        sa.cast(group, sa.Text).label("group"),
        content.label("content"),
    ]


def _nearness(index: BoundIndex[Any], best: sa.FromClause, answers: Sequence[str]) -> sa.ColumnElement[Any]:
    """The highest cosine similarity between a passage and a chunk of the answers."""
    chunks = index.tables.chunks.alias()
    wanted = keys.key_table(answers, len(index.spec.key))
    own = [chunks.c[column.name] for column in index.spec.key]
    similarity = 1 - distances.computed_distance(chunks.c.vector, best.c.vector)
    return (
        sa.select(sa.func.max(similarity, type_=sa.Float))
        .join_from(wanted, chunks, keys.matches_key_table(wanted, own))
        .correlate(best)
        .scalar_subquery()
        .label("nearness")
    )
