"""The legs of a search: rankings with the caller's filters inside, to be fused or used alone.

A leg is a materialized CTE of up to ``depth`` rows with the columns ``key_0``, ``key_1`` and so on, ``value``, and
``rank``, which starts at 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import statements
from pg_semantic.search.statements import QueryLike, Ranked

T = TypeVar("T")
Where: TypeAlias = Sequence[sa.ColumnExpressionArgument[bool]]


@dataclass(frozen=True, slots=True)
class Leg:
    """A ranking of rows; ``lowest`` is the lowest possible value."""

    name: str
    rows: sa.CTE
    lowest: float

    @property
    def key(self) -> list[sa.ColumnElement[Any]]:
        """The key columns, in key order."""
        return [column for column in self.rows.c if column.name.startswith("key_")]


def dense(
    index: BoundIndex[T],
    vector: QueryLike,
    *,
    where: Where,
    depth: int,
    exact: bool,
    ef_search: int | None = None,
) -> Leg:
    """Ranks rows by the cosine similarity of their best chunk, through the vector index unless ``exact``."""
    if exact:
        ranked = statements.ranked_exact(index, vector, limit=depth, offset=0)
    elif index.spec.compressed is not None:
        found = statements.candidates(index, vector, where=where, limit=depth, ef_search=ef_search).subquery()
        return Leg("dense", _ranked(found, depth=depth), lowest=-1.0)
    else:
        ranked = statements.ranked_knn(index, vector, limit=depth, offset=0, order="relaxed_order", ef_search=ef_search)
    return Leg("dense", _rows(index, ranked, where), lowest=-1.0)


def lexical(index: BoundIndex[T], text: sa.ColumnElement[str], *, where: Where, depth: int, match: Match) -> Leg:
    """Ranks rows by BM25."""
    ranked = statements.ranked_lexical(index, text, match=match, limit=depth, offset=0)
    return Leg("lexical", _rows(index, ranked, where), lowest=0.0)


def _rows(index: BoundIndex[T], ranked: Ranked[T], where: Where) -> sa.CTE:
    key = [column.label(f"key_{number}") for number, column in enumerate(index.tables.source_key)]
    columns = ranked.statement.with_only_columns(*key, ranked.score.label("score"), maintain_column_froms=True)
    return _ranked(columns.where(*where).subquery())


def _ranked(found: sa.Subquery, *, depth: int | None = None) -> sa.CTE:
    """Ranks rows with a key and a score; only the best ``depth`` of them, if it is given."""
    key = [column for column in found.c if column.name.startswith("key_")]
    in_order = (found.c.score.desc(), *key)
    rank = sa.func.row_number().over(order_by=in_order)
    statement = sa.select(*key, found.c.score.label("value"), rank.label("rank"))
    if depth is not None:
        statement = statement.order_by(*in_order).limit(depth)
    return statement.cte().prefix_with("MATERIALIZED")


def require_own(index: BoundIndex[Any], where: Where) -> None:
    """Raises `errors.QueryError` if a condition is on another table than the index.

    Unless it joins that table by a whole key, such a condition would not filter, or would return a row several times.
    """
    if not where:
        return
    own = set(_tables(sa.inspect(index.entity).selectable))
    others = [one for one in sa.select(sa.literal(1)).where(*where).get_final_froms() if one not in own]
    if others:
        of = [getattr(one, "element", one) for one in others]  # the table of an alias
        names = ", ".join(str(getattr(one, "name", "a subquery")) for one in of)
        raise errors.QueryError(
            f"where has a condition on {names}, but the search is on {index.spec.table}: use EXISTS, such as "
            "Article.author.has(Author.name == 'Ada') or Article.tags.any(Tag.id == 7), not a join or contains(). To "
            "search an alias of the class, use index.of(alias)."
        )


def _tables(selectable: sa.FromClause) -> list[sa.FromClause]:
    """Returns the tables and aliases of a join, or the single table or alias."""
    if isinstance(selectable, sa.Join):
        return [*_tables(selectable.left), *_tables(selectable.right)]
    return [selectable]


def conditions(where: Any) -> Where:  # noqa: ANN401 - callers may pass a bare condition
    """Returns the filters unchanged. Raises `errors.QueryError` if they are not a list."""
    if isinstance(where, list | tuple):
        return where
    raise errors.QueryError(f"where={where!r}: pass a list of conditions, such as where=[Article.lang == 'en'].")
