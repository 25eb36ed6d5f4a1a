"""Fusion of two rankings, by reciprocal ranks or by a convex combination of scores.

Both rankings are in one statement, so they see the same snapshot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.distances import Vector
from pg_semantic.index.more_like_this import Examples
from pg_semantic.search import legs, statements, validation
from pg_semantic.search.legs import Leg, Where

T = TypeVar("T")

_DEPTH = 100


def _require_weights(dense: float, lexical: float) -> None:
    weights = (dense, lexical)
    if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise errors.QueryError(f"dense={dense}, lexical={lexical}: weights must be finite, 0 or more, and not both 0.")


@dataclass(frozen=True, slots=True)
class Rrf:
    """Reciprocal rank fusion (Cormack et al. 2009): the sum over the legs of weight / (k + rank), ranks from 1.

    The score is useful only for ordering.

    Args:
        k: 0 or more. The higher it is, the less the top ranks count.
        dense: Weight of the dense leg. A leg with weight 0 adds nothing to the score.
        lexical: Weight of the lexical leg.

    Raises:
        errors.QueryError: ``k`` or a weight is negative, a weight is not finite, or both weights are 0.
    """

    k: int = 60
    dense: float = 1.0
    lexical: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 0:
            raise errors.QueryError(f"Rrf(k={self.k}): k must be 0 or more; 60 is usual.")
        _require_weights(self.dense, self.lexical)

    def share(self, leg: Leg) -> sa.ColumnElement[float]:
        """Returns what a leg adds to the score of a row that it has."""
        return _weight(self, leg) / (sa.cast(self.k, sa.Double) + leg.rows.c.rank)


@dataclass(frozen=True, slots=True)
class Convex:
    """A weighted mean of the legs' scores (Bruch et al. 2022), each scaled to 0..1.

    0 is the lowest possible score of a leg (a cosine of -1, a BM25 score of 0), and 1 is the best score of this query.
    A row that a leg did not find has 0 there.

    Args:
        dense: Weight of the dense leg. Only the ratio of the weights matters.
        lexical: Weight of the lexical leg.

    Raises:
        errors.QueryError: A weight is negative or not finite, or both are 0.
    """

    dense: float = 0.5
    lexical: float = 0.5

    def __post_init__(self) -> None:
        _require_weights(self.dense, self.lexical)

    def share(self, leg: Leg) -> sa.ColumnElement[float]:
        """Returns what a leg adds to the score of a row that it has."""
        best = sa.select(sa.func.max(leg.rows.c.value)).scalar_subquery()
        # Without its type, SQLAlchemy divides by a NUMERIC, which Postgres rounds to 15 digits.
        reach = sa.func.nullif(best - leg.lowest, 0.0, type_=sa.Double)
        scaled = (leg.rows.c.value - leg.lowest) / reach
        return _weight(self, leg) / (self.dense + self.lexical) * scaled


Fusion: TypeAlias = Rrf | Convex


def hybrid(  # noqa: PLR0913 - search options
    index: BoundIndex[T],
    vector: Vector | Examples,
    text: str,
    *,
    limit: int = 10,
    offset: int = 0,
    where: Where = (),
    fusion: Fusion = Rrf(),
    match: Match = "any",
    depth: int | None = None,
) -> "sa.Select[T, float]":
    """Selects the rows that are best by meaning and by words together, best first, with their fused scores.

    Rows with equal scores are ordered by key.

    Args:
        vector: The query for the dense leg, as in `knn`; ``text`` and ``match`` are for the lexical leg.
        where: Filters, which both legs apply before they rank. What you add to the statement itself applies after
            the limit. For a filter on another table use EXISTS: ``Article.author.has(Author.name == "Ada")``.
        fusion: `Rrf` or `Convex`.
        depth: How many rows of each leg are fused; 100 by default. Pages beyond the depth add as many rows again, then
            twice as many, and so on, so that consecutive pages fit together.

    Raises:
        errors.QueryError: As in `knn` and `lexical`, or ``where`` or ``depth`` is not valid.
    """
    depth = depth_of(depth)
    far = reach(limit=limit, offset=offset, depth=depth)
    filters, words = legs.conditions(where), statements.query_words(text, match)
    legs.require_own(index, filters)
    dense = legs.dense(index, vector, where=filters, depth=far, exact=False)
    lexical = legs.lexical(index, words, where=filters, depth=far, match=match)
    found = validation.paginate(
        fused((dense, lexical), fusion, depth=depth, reach=far), limit=limit, offset=offset
    ).subquery()
    return rows_of(index, found)


def depth_of(given: int | None) -> int:
    """Returns how many rows of each leg are fused. Raises `errors.QueryError` if ``given`` is out of range."""
    depth = _DEPTH if given is None else given
    if not 1 <= depth <= validation.MOST_ROWS:
        raise errors.QueryError(f"depth={given}: depth must be between 1 and {validation.MOST_ROWS} rows per leg.")
    return depth


def reach(*, limit: int, offset: int, depth: int) -> int:
    """Returns how many rows a leg contributes: the depth, doubled until it covers the page."""
    validation.check_page(limit=limit, offset=offset)
    while depth < limit + offset:
        depth *= 2
    return min(depth, validation.MOST_ROWS)


def fused(found: Sequence[Leg], fusion: Fusion, *, depth: int, reach: int) -> "sa.Select[*tuple[Any, ...]]":
    """Selects every row of the legs, best first: key columns, ``step``, ``score``, and each leg's value by its name.

    A row belongs to the first step at which a leg has it: within the depth, within twice the depth, and so on. Only
    ranks within that step count for its score, so neither its score nor its place depends on how far the legs reach.
    """
    first, *others = found
    key = first.key
    joined: sa.FromClause = first.rows
    for leg in others:
        same = sa.and_(*(a == b for a, b in zip(key, leg.key, strict=True)))
        joined = joined.outerjoin(leg.rows, same, full=True)
        key = [sa.func.coalesce(a, b) for a, b in zip(key, leg.key, strict=True)]
    score: sa.ColumnElement[float] = first.rows.c.value
    step: sa.ColumnElement[int] = sa.literal_column("0", sa.Integer)
    if others:
        shares = [fusion.share(leg) for leg in found]
        if reach > depth:
            step = _step(found, depth=depth, reach=reach)
            heard = zip(found, shares, strict=True)
            shares = [sa.case((leg.rows.c.rank <= step, share), else_=0.0) for leg, share in heard]
        score = sum((sa.func.coalesce(share, 0.0) for share in shares), start=sa.cast(0.0, sa.Double))
    named = [column.label(f"key_{number}") for number, column in enumerate(key)]
    values = [leg.rows.c.value.label(leg.name) for leg in found]
    rows = sa.select(*named, step.label("step"), score.label("score"), *values).select_from(joined)
    return rows.order_by("step", sa.desc("score"), *named)


def rows_of(index: BoundIndex[T], found: sa.FromClause) -> "sa.Select[T, float]":
    """Selects the entities of the found keys, in the order of the ranking."""
    key = [found.c[f"key_{number}"] for number in range(len(index.spec.key))]
    same = sa.and_(*(a == b for a, b in zip(index.tables.source_key, key, strict=True)))
    score: sa.ColumnElement[float] = found.c.score
    return sa.select(index.entity, score).join(found, same).order_by(found.c.step, score.desc(), *key)


def _step(found: Sequence[Leg], *, depth: int, reach: int) -> sa.ColumnElement[int]:
    """Returns the step of a row: the number of rows per leg that first includes it."""
    best = sa.func.least(*(leg.rows.c.rank for leg in found))
    steps = [depth]
    while steps[-1] < reach:
        steps.append(steps[-1] * 2)
    return sa.case(*((best <= rows, rows) for rows in steps))


def _weight(fusion: Fusion, leg: Leg) -> sa.ColumnElement[float]:
    weight: float = getattr(fusion, leg.name)
    return sa.cast(weight, sa.Double)
