"""Trains the queries' side of an encoder for one epoch after another, against stored vectors that don't change.

The loss is the softmax cross entropy over cosines, as in sentence-transformers' MultipleNegativesRankingLoss, whose
scale of 20 it has too. Its negatives are not the other texts of a batch but all stored vectors that were read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pg_semantic.training.query_side import training_queries
from pg_semantic.training.query_side.training_queries import TrainingQueries

if TYPE_CHECKING:
    import torch

    from pg_semantic.encoders.base import Vectors

SCALE = 20.0
_NEAR_COPY = 0.98  # cosine to the positive vector from which another vector isn't a negative


class TrainableQueries(Protocol):
    """What computes the vectors of queries, and can be trained."""

    @property
    def device(self) -> "torch.device":
        """Where it computes."""
        ...

    def parameters(self) -> "Iterable[torch.nn.Parameter]":
        """What is trained."""
        ...

    def forward(self, numbers: Sequence[int]) -> "torch.Tensor":
        """Returns the vectors of queries for training, with gradients, shape (queries, dimensions), of unit length."""
        ...

    def penalty(self) -> "torch.Tensor | float":
        """What is added to the loss, to stay near the start."""
        ...

    def vectors(self, numbers: Sequence[int]) -> "Vectors":
        """Returns the vectors of queries as they are computed once training is over."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: How many epochs at most.
        batch: Pairs per step.
        learning_rate: Of AdamW, constant.
        weight_decay: Of AdamW.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.0


class Negatives:
    """The stored vectors on a device, with the positive one of each pair.

    Args:
        queries: The queries and their relevant rows.
        vectors: The vectors of all queries before training, which decide which of a row's vectors is the positive one.
        device: Where to compute.
    """

    def __init__(self, queries: TrainingQueries, vectors: "Vectors", *, device: "torch.device") -> None:
        import torch

        self.stored = torch.from_numpy(queries.stored.vectors).to(device)
        self.positives = training_queries.nearest_vectors(queries, vectors)
        self._ignored = {
            (number, positive): [place for place in near if place != positive]
            for number, rows in enumerate(queries.relevant)
            for positive, near in self._near(queries, number, rows).items()
        }

    def _near(self, queries: TrainingQueries, number: int, rows: Sequence[int]) -> dict[int, list[int]]:
        """Returns for each positive vector of a query which vectors are not negatives."""
        known = [place for row in rows for place in queries.stored.of_row(row)]
        positives = self.positives[number]
        copies = self.stored[positives] @ self.stored.T >= _NEAR_COPY
        return {
            positive: [*dict.fromkeys([*known, *copy.nonzero().flatten().tolist()])]
            for positive, copy in zip(positives, copies, strict=True)
        }

    def pairs(self, numbers: Sequence[int]) -> list[tuple[int, int]]:
        """Returns each pair of a query and its positive vector, for these queries."""
        return [(number, positive) for number in numbers for positive in self.positives[number]]

    def loss(self, vectors: "torch.Tensor", pairs: Sequence[tuple[int, int]]) -> "torch.Tensor":
        """Returns the mean loss of a batch.

        A query's other relevant rows are not its negatives. Neither are near copies of the positive vector, which are
        more likely rows of the same text than rows that are wrong.

        Args:
            vectors: The vectors of the queries, shape (pairs, dimensions), of unit length.
            pairs: The pairs, in the same order.
        """
        import torch

        wanted = torch.tensor([positive for _, positive in pairs], device=vectors.device)
        scores = SCALE * (vectors @ self.stored.T)
        ignored = [(row, place) for row, pair in enumerate(pairs) for place in self._ignored[pair]]
        if ignored:
            rows, places = torch.tensor(ignored, device=vectors.device).T
            scores = scores.index_put((rows, places), scores.new_tensor(-torch.inf))
        return torch.nn.functional.cross_entropy(scores, wanted)


def run(
    side: TrainableQueries,
    negatives: Negatives,
    numbers: Sequence[int],
    *,
    recipe: Recipe,
    seed: int,
    on_step: Callable[[], Any],
) -> Iterator[None]:
    """Trains step by step.

    Args:
        side: What to train.
        negatives: What to train against.
        numbers: The queries to train on.
        recipe: How to train.
        seed: Decides the order of the pairs.
        on_step: Called after each step.

    Yields:
        After each epoch. It stops after ``recipe.epochs``.

    Raises:
        errors.EncoderError: The loss is no longer finite: the learning rate is too high.
    """
    import torch

    order = np.random.default_rng(seed)
    pairs = negatives.pairs(numbers)
    optimizer = torch.optim.AdamW(
        side.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=False
    )
    for _ in range(recipe.epochs):
        shuffled = [pairs[place] for place in order.permutation(len(pairs))]
        for start in range(0, len(shuffled), recipe.batch):
            batch = shuffled[start : start + recipe.batch]
            loss = negatives.loss(side.forward([query for query, _ in batch]), batch) + side.penalty()
            _step(optimizer, loss)
            on_step()
        yield


def _step(optimizer: "torch.optim.Optimizer", loss: "torch.Tensor") -> None:
    training_queries.require_finite(loss.detach().cpu().numpy())
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def steps(negatives: Negatives, numbers: Sequence[int], recipe: Recipe) -> int:
    """Returns the number of steps of an epoch."""
    return -(-len(negatives.pairs(numbers)) // recipe.batch)
