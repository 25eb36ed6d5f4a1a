"""`Candidates`: what the legs find for one query, from which the ranking of every setting can be computed.

There is one dense leg, and one lexical leg for each match. Each is asked once, at the greatest depth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database
from pg_semantic.index import keys
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.distances import Vector
from pg_semantic.search import Fusion, Rrf, generation_tracker, legs, statements
from pg_semantic.search.legs import Where

_DENSE = "dense"
_LOWEST = {"dense": -1.0, "lexical": 0.0}  # the lowest possible value of each leg


@dataclass(frozen=True, slots=True)
class Candidates:
    """The rows that the legs find for one query, in the order of their keys.

    Attributes:
        keys: Their keys as text.
        values: By leg, the value of each row (a cosine similarity, a BM25 score), shape (rows,), float64; NaN for rows
            that the leg did not find. The dense leg is called ``dense``, and each lexical leg like its match.
        ranks: By leg, the rank of each row from 1, shape (rows,), float64; infinity for rows that it did not find.
    """

    keys: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]
    ranks: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, keys: Sequence[str], **values: Sequence[float | None]) -> "Candidates":
        """Returns candidates with ranks: a leg orders rows by value, and equal ones by key."""
        known = {leg: np.array(found, np.float64) for leg, found in values.items()}  # None becomes NaN
        ranks = {}
        for leg, found in known.items():
            ranks[leg] = np.full(len(found), np.inf)
            order = np.argsort(-found, kind="stable")  # NaN comes last
            count = int(np.isfinite(found).sum())
            ranks[leg][order[:count]] = np.arange(1, count + 1)
        return cls(tuple(keys), known, ranks)

    def fused(self, how: Fusion, *, depth: int, limit: int, match: Match = "any") -> list[str]:
        """Returns the keys of the best rows, best first, as `search.fusion` computes them in SQL.

        Args:
            how: The fusion.
            depth: How many rows of each leg are fused; at most the depth that the legs were asked for.
            limit: How many keys to return.
            match: Which of the lexical legs is fused with the dense one.
        """
        score = np.zeros(len(self.keys))
        found = np.zeros(len(self.keys), bool)
        for leg, name in (("dense", _DENSE), ("lexical", match)):
            within = self.ranks[name] <= depth
            found |= within
            share = _share(how, leg, values=self.values[name], ranks=self.ranks[name], within=within)
            score += np.where(within & np.isfinite(share), share, 0.0)
        rows = np.flatnonzero(found)
        best = rows[np.argsort(-score[rows], kind="stable")][:limit]  # equal scores: by key
        return [self.keys[row] for row in best]


@dataclass(frozen=True, slots=True)
class LegOptions:
    """How the legs are asked.

    Attributes:
        depth: How many rows each finds, at most.
        matches: Which rows match by words: there is a lexical leg for each.
        where: Conditions on the searched table.
        exact: Computes every distance instead of scanning the vector index.
    """

    depth: int
    matches: Sequence[Match] = ("any",)
    where: Where = ()
    exact: bool = False


def find(session: orm.Session, index: BoundIndex[Any], query: str, *, vector: Vector, how: LegOptions) -> Candidates:
    """Asks all legs, in one statement.

    Raises:
        errors.QueryError: The index has no BM25, or the query is not valid with a match.
    """
    connection = generation_tracker.connect(session, index)
    text = database.searchable(query, connection)
    found = {_DENSE: legs.dense(index, vector, where=how.where, depth=how.depth, exact=how.exact)}
    for match in how.matches:
        words = statements.query_words(text, match)
        found[match] = legs.lexical(index, words, where=how.where, depth=how.depth, match=match)
    parts = [sa.select(sa.literal(name).label("leg"), *leg.key, leg.rows.c.value) for name, leg in found.items()]
    together = sa.union_all(*parts).subquery()
    key = [together.c[f"key_{number}"] for number in range(len(index.spec.key))]
    values: dict[str, dict[str, float]] = {}
    found_rows = sa.select(keys.as_text(key), together.c.leg, together.c.value).order_by(*key)
    for row, leg, value in connection.execute(found_rows):
        values.setdefault(row, {})[leg] = value
    return Candidates.of(list(values), **{name: [row.get(name) for row in values.values()] for name in found})


def _share(
    how: Fusion, leg: str, *, values: NDArray[np.float64], ranks: NDArray[np.float64], within: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Returns what a leg adds to the score of each row."""
    weight: float = getattr(how, leg)
    if isinstance(how, Rrf):
        return weight / (how.k + ranks)
    lowest = _LOWEST[leg]
    reach = float(np.max(values[within], initial=lowest)) - lowest
    if reach == 0:
        return np.zeros(len(values))
    return weight / (how.dense + how.lexical) * ((values - lowest) / reach)
