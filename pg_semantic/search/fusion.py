"""One ranking of two: reciprocal ranks or a convex combination of scores, in one statement and so of one snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.index.bm25 import Match
from pg_semantic.index.declare import BoundIndex
from pg_semantic.index.distances import Vector
from pg_semantic.index.more_like_this import Examples
from pg_semantic.search import rankings, statements, validation
from pg_semantic.search.rankings import Leg, Where

T = TypeVar("T")

_DEPTH = 100


def _require_weights(dense: float, lexical: float) -> None:
    weights = (dense, lexical)
    if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise errors.QueryError(
            f"Weights dense={dense}, lexical={lexical}: they are 0 or more, and one is more than 0."
        )


@dataclass(frozen=True, slots=True)
class Rrf:
    """Reciprocal rank fusion (Cormack et al. 2009): the sum over the legs of weight / (k + rank), ranks from 1.

    A leg of weight 0 is not heard. The score has no meaning beyond its order.
    """

    k: int = 60
    dense: float = 1.0
    lexical: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 0:
            raise errors.QueryError(f"Rrf(k={self.k}): give 0 or more; 60 is usual.")
        _require_weights(self.dense, self.lexical)

    def share(self, leg: Leg) -> sa.ColumnElement[float]:
        """What a leg adds to the score of a row that is in it."""
        return _weight(self, leg) / (sa.cast(self.k, sa.Double) + leg.rows.c.rank)


@dataclass(frozen=True, slots=True)
class Convex:
    """A weighted mean of the legs' scores (Bruch et al. 2022), each put on a scale of 0 to 1.

    0 is the least that a leg's score can be (a cosine of -1, a BM25 of 0), 1 the best of this query; a row that a leg
    did not find has 0 there. Weights count in proportion.
    """

    dense: float = 0.5
    lexical: float = 0.5

    def __post_init__(self) -> None:
        _require_weights(self.dense, self.lexical)

    def share(self, leg: Leg) -> sa.ColumnElement[float]:
        """What a leg adds to the score of a row that is in it."""
        best = sa.select(sa.func.max(leg.rows.c.value)).scalar_subquery()
        scaled = (leg.rows.c.value - leg.lowest) / sa.func.nullif(best - leg.lowest, 0.0)
        return _weight(self, leg) / (self.dense + self.lexical) * scaled


Fusion: TypeAlias = Rrf | Convex


def hybrid(  # noqa: PLR0913 - what a search can be told
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
    """The rows that are best by meaning and by words together, best first, with their fused scores.

    ``where`` are filters, which both legs apply before they rank; what is added to the statement itself comes after the
    limit. A filter on another table is an EXISTS, as in ``Article.author.has(Author.name == "Ada")``. ``depth`` is
    how many rows of each leg are fused, by default a hundred. Where a page goes beyond them, as many again follow, and
    twice as many after these: so that the pages of one ranking fit each other. Equal scores are ordered by key.

    Raises what `statements.knn` and `statements.lexical` raise.
    """
    depth = depth_of(depth)
    far = reach(limit=limit, offset=offset, depth=depth)
    filters, words = rankings.conditions(where), statements.query_words(text, match)
    rankings.require_own(index, filters)
    dense = rankings.dense(index, vector, where=filters, depth=far, exact=False)
    lexical = rankings.lexical(index, words, where=filters, depth=far, match=match)
    found = validation.paginate(
        fused((dense, lexical), fusion, depth=depth, reach=far), limit=limit, offset=offset
    ).subquery()
    return rows_of(index, found)


def depth_of(given: int | None) -> int:
    """How many rows of each leg are fused; raises `errors.QueryError` for a number that makes no sense."""
    depth = _DEPTH if given is None else given
    if not 1 <= depth <= validation.MOST_ROWS:
        raise errors.QueryError(f"depth={given}: give 1 to {validation.MOST_ROWS} rows for each leg.")
    return depth


def reach(*, limit: int, offset: int, depth: int) -> int:
    """How many rows a leg gives: the depth, doubled until the page is within."""
    validation.check_page(limit=limit, offset=offset)
    while depth < limit + offset:
        depth *= 2
    return min(depth, validation.MOST_ROWS)


def fused(found: Sequence[Leg], fusion: Fusion, *, depth: int, reach: int) -> "sa.Select[*tuple[Any, ...]]":
    """Every row of the legs, best first: key columns, ``step``, ``score``, and each leg's value under its name.

    A row is of the first step at which a leg has it: within the depth, within twice the depth and so on. It is scored
    by what the legs have within that step, so that neither its score nor its place depend on how far they reach.
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
    """The rows of the keys that were found, in the order of their scores."""
    key = [found.c[f"key_{number}"] for number in range(len(index.spec.key))]
    same = sa.and_(*(a == b for a, b in zip(index.tables.source_key, key, strict=True)))
    score: sa.ColumnElement[float] = found.c.score
    return sa.select(index.entity, score).join(found, same).order_by(found.c.step, score.desc(), *key)


def _step(found: Sequence[Leg], *, depth: int, reach: int) -> sa.ColumnElement[int]:
    """How many rows of each leg are looked at where a row is first among them."""
    best = sa.func.least(*(leg.rows.c.rank for leg in found))
    steps = [depth]
    while steps[-1] < reach:
        steps.append(steps[-1] * 2)
    return sa.case(*((best <= rows, rows) for rows in steps))


def _weight(fusion: Fusion, leg: Leg) -> sa.ColumnElement[float]:
    weight: float = getattr(fusion, leg.name)
    return sa.cast(weight, sa.Double)
