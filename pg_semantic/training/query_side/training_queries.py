"""`TrainingQueries`: queries with their relevant rows among the stored vectors; and how well vectors find these."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders.base import Vectors
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.training.pairs import Pair
from pg_semantic.training.query_side.stored_vectors import StoredVectors

DEPTH = 10
_BLOCK = 64  # queries that are scored at once, against all vectors


@dataclass(frozen=True, slots=True)
class TrainingQueries:
    """Queries and their relevant rows.

    Attributes:
        queries: The queries, each once.
        relevant: The rows that are relevant to each query, by their number in ``stored``; at least one.
        stored: The vectors of the rows.
        gone: How many pairs name a row without vectors. They are left out.
    """

    queries: tuple[str, ...]
    relevant: tuple[tuple[int, ...], ...]
    stored: StoredVectors
    gone: int

    @property
    def rows(self) -> int:
        """The number of rows that are relevant to a query."""
        return len({row for rows in self.relevant for row in rows})

    @property
    def pairs(self) -> int:
        """The number of pairs."""
        return sum(map(len, self.relevant))


def of(pairs: Iterable[Pair], stored: StoredVectors) -> TrainingQueries:
    """Returns the queries of pairs that have rows among the stored vectors, in the order of the pairs.

    Queries that differ only in case, width or white space are one query: the first of them.
    """
    numbers = {key: number for number, key in enumerate(stored.keys)}
    first: dict[bytes, str] = {}
    found: dict[str, dict[int, None]] = {}
    gone = 0
    for query, key in dict.fromkeys((first.setdefault(query_hash(pair.query), pair.query), pair.key) for pair in pairs):
        if key in numbers:
            found.setdefault(query, {})[numbers[key]] = None
        else:
            gone += 1
    return TrainingQueries(tuple(found), tuple(map(tuple, found.values())), stored, gone)


def ndcg(queries: TrainingQueries, numbers: Sequence[int], vectors: Vectors) -> NDArray[np.float64]:
    """Returns nDCG@10 of queries (Järvelin and Kekäläinen 2002), with all relevant rows of the same grade.

    A row's score is that of its best chunk, and all rows are ranked, as in an exact search.

    Args:
        queries: The queries.
        numbers: Which queries, shape (queries,).
        vectors: Their vectors, shape (queries, dimensions). Their lengths don't matter.

    Returns:
        Shape (queries,), 0 to 1.

    Raises:
        errors.EncoderError: A vector has a number that isn't finite. It would have no rank, and count as the best.
    """
    require_finite(vectors)
    stored = queries.stored
    gains = np.zeros(len(numbers))
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    for start, block in _blocks(vectors):
        scores = np.maximum.reduceat(block @ stored.vectors.T, stored.starts, axis=1)
        for at, of_rows in enumerate(scores, start):
            rows = list(queries.relevant[numbers[at]])
            ranks = [_rank(of_rows, row) for row in rows]
            gained = sum(discounts[rank] for rank in ranks if rank < DEPTH)
            gains[at] = gained / discounts[: len(rows)].sum()
    return gains


def require_finite(numbers: NDArray[np.floating[Any]]) -> None:
    """Raises `errors.EncoderError` if training has made numbers that aren't finite, such as a loss or vectors."""
    if not np.isfinite(numbers).all():
        raise errors.EncoderError(
            "Training diverged: the loss or the vectors of queries are no longer finite numbers. Lower the learning "
            "rate, such as to a tenth."
        )


def nearest_vectors(queries: TrainingQueries, vectors: Vectors) -> list[list[int]]:
    """Returns the positive vector of each query and relevant row: the row's chunk that is nearest to the query.

    Args:
        queries: The queries.
        vectors: The vectors of all queries, shape (queries, dimensions).
    """
    stored = queries.stored
    return [
        [stored.of_row(row)[int(np.argmax(stored.vectors[slice(*_ends(stored.of_row(row)))] @ vector))] for row in rows]
        for rows, vector in zip(queries.relevant, vectors, strict=True)
    ]


def _ends(places: range) -> tuple[int, int]:
    return places.start, places.stop


def _rank(scores: Vectors, row: int) -> int:
    """Returns the rank of a row from 0; rows of equal scores are ranked in their order.

    A row whose score is not a number, because the weights have become too large, is ranked last.
    """
    return int((~(scores <= scores[row])).sum() + (scores[:row] == scores[row]).sum())


def _blocks(vectors: Vectors) -> Iterator[tuple[int, Vectors]]:
    for start in range(0, len(vectors), _BLOCK):
        yield start, vectors[start : start + _BLOCK]
