"""`Fit`: a trained map of query vectors or a trained query encoder, with its figures. See `fit_map`, `fit_encoder`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders.base import Vectors
from pg_semantic.training.query_side import training_queries
from pg_semantic.training.query_side.training_queries import TrainingQueries
from pg_semantic.training.report import Measured

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The queries to train on, and which of them are held out when.

    Attributes:
        queries: The queries.
        vectors: Their vectors before training, shape (queries, dimensions).
        folds: The fold of each query, shape (queries,); see `folds.divide`.
        components: The component of each query, shape (queries,).
        seed: Decides the order of the pairs.
    """

    queries: TrainingQueries
    vectors: Vectors
    folds: NDArray[np.int64]
    components: NDArray[np.int64]
    seed: int = 0

    @property
    def all(self) -> list[int]:
        """The number of each query."""
        return list(range(len(self.folds)))

    def inside(self, fold: int) -> list[int]:
        """Returns the numbers of the queries in a fold."""
        found: list[int] = np.flatnonzero(self.folds == fold).tolist()
        return found

    def outside(self, fold: int) -> list[int]:
        """Returns the numbers of the queries in all other folds."""
        found: list[int] = np.flatnonzero(self.folds != fold).tolist()
        return found

    def ndcg(self, numbers: list[int], vectors: Vectors) -> Measured:
        """Measures queries by vectors of theirs; see `training_queries.ndcg`."""
        return training_queries.ndcg(self.queries, numbers, vectors)


@dataclass(frozen=True, slots=True)
class Fit:
    """What was trained.

    Attributes:
        trained: A map, shape (dimensions, dimensions), or an encoder.
        epochs: How many epochs it was trained for.
        decay: The decay of a map.
        held_out: nDCG@10 of each held-out query before and after training.
        trained_on: The same of each query that ``trained`` was trained on.
        components: The component of each held-out query, shape (queries,).
    """

    trained: "Vectors | SentenceTransformer"
    epochs: int
    decay: float | None
    held_out: tuple[Measured, Measured]
    trained_on: tuple[Measured, Measured]
    components: NDArray[np.int64]
