"""Trains a table of word vectors, so that the mean over a text has the direction of the encoder's vector: `fit`.

The loss has two parts: the cosine of each text to the encoder's vector, and, within a batch, the Kullback-Leibler
divergence of the student's similarities from the encoder's, which is about ranking.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders.base import Vectors
from pg_semantic.training.pace import OnStep, Pace
from pg_semantic.training.static_student.bags import Bags
from pg_semantic.training.time_limit import TimeLimit

if TYPE_CHECKING:
    import torch

_FEWEST_STEPS = 20  # in an epoch
_SMALLEST_BATCH = 32


@dataclass(frozen=True, slots=True)
class TableRecipe:
    """How to train a table.

    Attributes:
        epochs: How many epochs at most.
        batch: Texts per step at most. With few texts, a step has fewer.
        learning_rate: Of Adam, at first; it falls to 0 in a straight line. Only the words of a batch are changed.
        scale: What cosines are multiplied with before the softmax.
        ranking: The weight of the second part of the loss.
        seed: Decides the order of the texts.
    """

    epochs: int
    batch: int = 1024
    learning_rate: float = 3e-3
    scale: float = 20.0
    ranking: float = 1.0
    seed: int = 0

    def steps(self, texts: int) -> int:
        """Returns the number of steps in an epoch."""
        return max(-(-texts // self.batch), min(_FEWEST_STEPS, -(-texts // _SMALLEST_BATCH)))


@dataclass(frozen=True, slots=True)
class StudyTexts:
    """Texts to learn from.

    Attributes:
        texts: Their tokens.
        targets: The encoder's vector of each text, of unit length, shape (texts, dimensions).
    """

    texts: Bags
    targets: Vectors


@dataclass(frozen=True, slots=True)
class FittedTable:
    """What was trained: the best table, after how many epochs, and its measure on held-out rows."""

    table: Vectors
    epochs: int
    measured: float


def fit(
    first: Vectors,
    examples: StudyTexts,
    *,
    recipe: TableRecipe,
    measure: Callable[[Vectors], float],
    limit: TimeLimit,
    on_step: OnStep = lambda *_: None,
) -> FittedTable:
    """Trains a table.

    Args:
        first: The table to start from, shape (words, dimensions).
        examples: The texts to learn from.
        recipe: How to train.
        measure: Says how good a table is, on rows that it isn't trained on. The best epoch is taken.
        limit: How long training may take, with another measure at the end. If it is short, trains for fewer epochs.
        on_step: Called after each step.

    Raises:
        errors.ConfigurationError: The time limit is too short for one epoch.
    """
    training = _TableTraining(first, examples, recipe)
    if limit.is_set:
        before = limit.elapsed
        measure(first)
        limit.reserved += 2 * (limit.elapsed - before)  # after the first epoch, and with judged queries in the end
    pace = Pace(limit, least=training.steps, planned=recipe.epochs * training.steps, on_step=on_step)
    best = FittedTable(first, 0, -1.0)
    started, epochs, done = limit.elapsed, recipe.epochs, 0
    while done < epochs:
        training.epoch(planned=epochs, on_step=pace.step)
        done += 1
        measured = measure(training.table)
        if measured > best.measured:
            best = FittedTable(training.table.copy(), done, measured)
        each = (limit.elapsed - started) / done
        while epochs > done and not limit.allows(each * (epochs - done)):
            epochs -= 1
    return best


class _TableTraining:
    """A table in training."""

    def __init__(self, first: Vectors, examples: StudyTexts, recipe: TableRecipe) -> None:
        import torch

        self.steps = recipe.steps(len(examples.texts))
        self._texts, self._recipe = examples.texts, recipe
        self._targets = torch.from_numpy(examples.targets)
        self._table = torch.nn.Parameter(torch.from_numpy(first.copy()))
        self._optimizer = torch.optim.SparseAdam([self._table], lr=recipe.learning_rate)
        self._random = np.random.default_rng(recipe.seed)
        self._done = 0

    @property
    def table(self) -> Vectors:
        """The table as it is now; a view."""
        table: Vectors = self._table.detach().numpy()
        return table

    def epoch(self, *, planned: int, on_step: Callable[[], None]) -> None:
        """Trains on each text once, as one of ``planned`` epochs."""
        order = self._random.permutation(len(self._texts))
        for numbers in np.array_split(order, self.steps):
            share = min(1.0, self._done / (planned * self.steps))
            for group in self._optimizer.param_groups:
                group["lr"] = self._recipe.learning_rate * (1 - share)
            self._step(numbers)
            self._done += 1
            on_step()

    def _step(self, numbers: NDArray[np.int64]) -> None:
        """Changes the words of a batch; the others are neither read nor written."""
        import torch

        texts = self._texts.take(numbers)
        ids, places = np.unique(texts.ids, return_inverse=True)
        rows = torch.from_numpy(ids)
        words = self._table.detach()[rows].requires_grad_()
        bags = torch.from_numpy(places), words, torch.from_numpy(texts.starts[:-1])
        made = torch.nn.functional.normalize(torch.nn.functional.embedding_bag(*bags, mode="mean"), dim=1)
        self._loss(made, self._targets[torch.from_numpy(numbers)]).backward()  # type: ignore[no-untyped-call]
        assert words.grad is not None  # noqa: S101 - for mypy
        self._table.grad = torch.sparse_coo_tensor(
            rows[None], words.grad, self._table.shape, is_coalesced=True, check_invariants=False
        )
        self._optimizer.step()  # type: ignore[no-untyped-call]

    def _loss(self, made: "torch.Tensor", wanted: "torch.Tensor") -> "torch.Tensor":
        import torch

        near = 1 - (made * wanted).sum(dim=1).mean()
        ours, theirs = (_others(self._recipe.scale * vectors @ vectors.T) for vectors in (made, wanted))
        ranked = torch.nn.functional.kl_div(ours.log_softmax(dim=1), theirs.softmax(dim=1), reduction="batchmean")
        return near + self._recipe.ranking * ranked


def _others(similarities: "torch.Tensor") -> "torch.Tensor":
    """Leaves out the similarity of each text to itself."""
    import torch

    return similarities.masked_fill(torch.eye(len(similarities), dtype=torch.bool), -1e4)
