"""Near-duplicates: `duplicates`, the pairs of rows that are most alike, and `Duplicate`, such a pair.

The similarity of two rows is that of their most similar chunks. `similar_chunks` finds the chunks.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import rows_by_key, validation
from pg_semantic.search.legs import Where
from pg_semantic.search.similar_chunks import SimilarChunks

T = TypeVar("T")

_COPY = 1.0  # the score of two rows that have a chunk with the same text


@dataclass(frozen=True, slots=True)
class Duplicate(Generic[T]):
    """Two rows that are alike.

    Attributes:
        first: The row whose key comes first, as an instance of the mapped class.
        second: The other row.
        score: The cosine similarity of their most similar chunks, above 0 to 1; exactly 1 if a chunk of one row has the
            same text as a chunk of the other.
    """

    first: T
    second: T
    score: float


def duplicates(
    session: orm.Session,
    index: BoundIndex[T],
    *,
    least: float = 0.95,
    limit: int = 1000,
    where: Where = (),
    on_rows: Callable[[int], object] = lambda _: None,
) -> list[Duplicate[T]]:
    """Finds pairs of rows that are alike, best first.

    Rows that share the text of a chunk are found by its hash, the others through the vector index, which can miss a
    pair. The time grows with the number of rows and of similar rows per row, the memory with ``limit`` and the number
    of texts that several rows have. A REPEATABLE READ transaction compares all rows as of one moment. Otherwise, if the
    session is in no transaction, each page is read in one of its own. With an AsyncSession: ``await
    session.run_sync(search.duplicates, Article.semantic)``.

    Args:
        session: Runs the statements, with its privileges and row-level security.
        index: The semantic index, such as ``Article.semantic``. No encoder is needed.
        least: The least similarity, above 0 to 1. What counts as alike depends on the encoder.
        limit: How many pairs to return.
        where: Filters, which both rows of a pair match.
        on_rows: Called after each page with its number of rows, if vectors need to be compared.

    Returns:
        Each pair once. Pairs with equal scores are in key order. If more pairs than ``limit`` have the score of the
        last one, it is not defined which of them you get.

    Raises:
        errors.QueryError: ``least``, ``limit`` or ``where`` is not valid.
        errors.IndexNotFound: The index has not been created.
    """
    best = BestPairs(least=similarity(least), limit=_checked_limit(limit))
    with database.translated():
        chunks = SimilarChunks.live(session, index, where)
        copies = _copies(chunks, best)
        if not best.is_full:  # no other pair could be better
            _add_near(chunks, best, copies, on_rows=on_rows)
        return _loaded(session, chunks.index, best.pairs())


def similarity(least: object) -> float:
    """Returns a least similarity. Raises `errors.QueryError` if it is not a number above 0 and up to 1."""
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0 < least <= 1:
        raise errors.QueryError(f"least={least!r}: the least similarity must be a number above 0 and at most 1.")
    return float(least)


def _checked_limit(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= validation.MOST_ROWS:
        raise errors.QueryError(f"limit={limit!r}: it must be a whole number from 1 to {validation.MOST_ROWS}.")
    return limit


@dataclass(slots=True)
class BestPairs:
    """The best pairs of keys so far.

    Attributes:
        limit: How many pairs are wanted. Up to twice as many are kept.
        least: The least score that a pair needs. It grows when pairs are dropped.
    """

    limit: int
    least: float
    _scores: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether there are as many pairs as are wanted."""
        return len(self._scores) >= self.limit

    def add(self, one: str, other: str, *, score: float) -> None:
        """Adds a pair, or a better score of a known pair, unless both are the same row or the score is too low."""
        if one == other or score < self.least:
            return
        pair = (one, other) if one < other else (other, one)
        self._scores[pair] = max(score, self._scores.get(pair, -math.inf))
        if len(self._scores) >= 2 * self.limit:
            self._scores = dict(self.pairs())
            self.least = max(self.least, min(self._scores.values()))

    def pairs(self) -> list[tuple[tuple[str, str], float]]:
        """Returns up to ``limit`` pairs with their scores."""
        return heapq.nlargest(self.limit, self._scores.items(), key=lambda pair: pair[1])


def _copies(chunks: SimilarChunks, best: BestPairs) -> dict[bytes, Sequence[str]]:
    """Adds the pairs of rows that share the text of a chunk, and returns the rows of each such text by its hash.

    It stops when there are enough such pairs.
    """
    copies: dict[bytes, Sequence[str]] = {}
    for text in chunks.copies(most_rows=best.limit + 1):
        copies[text.content_hash] = text.rows
        for pair in itertools.combinations(text.rows, 2):
            best.add(*pair, score=_COPY)
            if best.is_full:
                return copies
    return copies


def _add_near(
    chunks: SimilarChunks, best: BestPairs, copies: Mapping[bytes, Sequence[str]], *, on_rows: Callable[[int], object]
) -> None:
    """Adds the pairs of rows that have near chunks: all rows with the text of one chunk, and all with the other's."""
    for near in chunks.near(copied=copies, least=lambda: best.least, most_rows=best.limit, on_rows=on_rows):
        first, second = (copies.get(one.content_hash, (one.row,)) for one in (near.first, near.second))
        for pair in itertools.product(first, second):
            best.add(*pair, score=near.score)


def _loaded(
    session: orm.Session, index: BoundIndex[T], pairs: list[tuple[tuple[str, str], float]]
) -> list[Duplicate[T]]:
    rows = rows_by_key.load(session, index, sorted({key for pair, _ in pairs for key in pair}))
    place = {key: number for number, key in enumerate(rows)}
    found = [(sorted(map(place.__getitem__, pair)), score) for pair, score in pairs if place.keys() >= set(pair)]
    found.sort(key=lambda one: (-one[1], one[0]))
    entities = list(rows.values())
    return [Duplicate(entities[first], entities[second], score) for (first, second), score in found]
