"""Trains a copy of an encoder, epoch by epoch, and measures it on a part that is held out: `fit`."""

import contextlib
import copy
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders import tokenization
from pg_semantic.training.encoder import losses, low_rank, memory, separate_batches
from pg_semantic.training.encoder.encoder_training import EncoderTraining
from pg_semantic.training.encoder.examples import Example
from pg_semantic.training.encoder.held_out_measures import HeldOutMeasure
from pg_semantic.training.encoder.separate_batches import SeparateBatches
from pg_semantic.training.pace import OnStep, Pace
from pg_semantic.training.passages import Passage
from pg_semantic.training.query_side import choice, folds
from pg_semantic.training.report import Measured
from pg_semantic.training.time_limit import TimeLimit

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


_SMALLEST_BATCH = 2  # because scores are compared with each other
_DECODED = 3  # times the memory: a decoder also has a number for each word of the vocabulary


@dataclass(frozen=True, slots=True)
class WholeSet:
    """What to train and measure with.

    Attributes:
        examples: What to train on, all with the same number of negatives.
        texts: The texts of all passages.
        held_out: Measures on queries that share no row with those that are trained on.
        trained_on: Measures on some of the queries that are trained on.
        groups: The component of each query of ``held_out``, shape (queries,).
        scores: What the losses that need them learn: the score of each example, or those of its positive and negatives.
        restored: Damaged texts with the texts to restore, which are trained on in place of the examples.
    """

    examples: Sequence[Example]
    texts: Mapping[Passage, str]
    held_out: HeldOutMeasure
    trained_on: HeldOutMeasure
    groups: NDArray[np.int64]
    scores: Sequence[float | Sequence[float] | None] | None = None
    restored: Sequence[tuple[str, str]] | None = None

    @property
    def count(self) -> int:
        """How many examples an epoch has."""
        return len(self.examples) if self.restored is None else len(self.restored)

    def columns(self) -> dict[str, list[Any]]:
        """Returns the texts to train on by column, and the scores."""
        if self.restored is not None:
            return {"damaged": [one for one, _ in self.restored], "text": [text for _, text in self.restored]}
        found: dict[str, list[Any]] = {
            "query": [one.query for one in self.examples],
            "positive": [self.texts[one.positive] for one in self.examples],
        }
        for place in range(len(self.examples[0].negatives)):
            found[f"negative_{place + 1}"] = [self.texts[one.negatives[place]] for one in self.examples]
        return found if self.scores is None else found | {"score": list(self.scores)}


@dataclass(frozen=True, slots=True)
class WholeFit:
    """What was trained.

    Attributes:
        trained: The encoder after the chosen epoch.
        epochs: The number of that epoch.
        held_out: The measure of each held-out query before and after training.
        trained_on: The same of queries that ``trained`` was trained on.
    """

    trained: "SentenceTransformer"
    epochs: int
    held_out: tuple[Measured, Measured]
    trained_on: tuple[Measured, Measured]


def fit(
    data: WholeSet,
    whole: "SentenceTransformer",
    options: EncoderTraining,
    *,
    precision: str,
    limit: TimeLimit,
    on_step: OnStep = lambda *_: None,
) -> WholeFit:
    """Trains a copy of ``whole``.

    Half of the held-out components choose the epoch that the other half is measured with.

    Args:
        data: What to train and measure with.
        whole: The encoder to start from, which stays as it is.
        options: How to train.
        precision: ``bfloat16``, or else 32-bit arithmetic.
        limit: How long it may take.
        on_step: Called after each step.

    Raises:
        errors.ConfigurationError: The time limit is too short.
    """
    with _seeded(options.seed, whole.device):
        started = limit.elapsed
        before = [data.held_out(whole)[1], data.trained_on(whole)[1]]
        limit.reserved += limit.elapsed - started  # to measure again at the end
        limit.require_not_over("reading and measuring")
        run = _WholeRun(data, whole, options, precision=precision, limit=limit)
        tried = run.train(on_step)
    components = np.unique(data.groups, return_inverse=True)[1]
    halves = folds.divide(components, count=2, seed=options.seed)
    chosen = choice.choose(np.stack(tried.chosen_by), halves, reported=np.stack(tried.reported))
    trained = run.finished(tried)
    after = data.trained_on(trained)[1]
    return WholeFit(trained, chosen.candidate + 1, (before[0], chosen.per_query), (before[1], after))


@dataclass(slots=True)
class _EpochMeasures:
    """What was measured after each epoch, and the weights after the best one."""

    chosen_by: list[Measured] = field(default_factory=list)
    reported: list[Measured] = field(default_factory=list)
    weights: "dict[str, torch.Tensor]" = field(default_factory=dict)
    best: float = -np.inf

    def add(self, measured: tuple[Measured, Measured], trained: "SentenceTransformer") -> None:
        """Adds an epoch."""
        self.chosen_by.append(measured[0])
        self.reported.append(measured[1])
        if measured[0].mean() > self.best:
            self.best = float(measured[0].mean())
            self.weights = _weights(trained)


class _WholeRun:
    """Trains, and trains again part by part if memory runs out."""

    def __init__(
        self,
        data: WholeSet,
        whole: "SentenceTransformer",
        options: EncoderTraining,
        *,
        precision: str,
        limit: TimeLimit,
    ) -> None:
        self._data, self._whole, self._options = data, whole, options
        self._precision, self._limit = precision, limit
        self._trained = whole
        self._batch = min(options.batch_on(whole.device.type), data.count)
        self._mini_batch: int | None = None
        if whole.device.type == "cpu":
            self._estimate()

    def train(self, on_step: OnStep) -> _EpochMeasures:
        """Trains with as large a batch as fits into memory.

        Raises:
            errors.ConfigurationError: The time limit is too short.
        """
        while (tried := self._tried(on_step)) is None:
            smaller = (self._mini_batch or self._batch) // 2
            if self._options.fits_in_parts:
                self._mini_batch = smaller
            else:
                self._batch = smaller
            _free(self._whole.device)
        return tried

    def finished(self, tried: _EpochMeasures) -> "SentenceTransformer":
        """Returns the encoder after the best epoch."""
        self._trained.load_state_dict(tried.weights, strict=False)
        if self._options.lora:
            low_rank.merge(self._trained)
        return self._trained.eval()

    def _tried(self, on_step: OnStep) -> _EpochMeasures | None:
        """Returns None if memory runs out. Doesn't keep the error, whose frames hold on to memory."""
        from pg_semantic.encoders.local import transformer

        self._trained = copy.deepcopy(self._whole)
        if self._options.lora:
            low_rank.adapt(self._trained)
        try:
            return self._epochs(on_step)
        except (MemoryError, RuntimeError) as error:
            if (self._mini_batch or self._batch) < 2 or not transformer.is_out_of_memory(error):  # noqa: PLR2004
                raise
            return None

    def _epochs(self, on_step: OnStep) -> _EpochMeasures:
        from pg_semantic.training.encoder import plain_trainer
        from pg_semantic.training.quiet_trainer import TrainingProgress

        options, data = self._options, self._data
        tried, started = _EpochMeasures(), self._limit.elapsed

        def on_epoch() -> bool:
            tried.add(data.held_out(self._trained), self._trained)
            return self._limit.allows((self._limit.elapsed - started) / len(tried.reported))

        loss = losses.build(self._trained, options, guide=self._whole, mini_batch=self._mini_batch)
        batches = self._batches()
        least = -(-data.count // self._batch) if batches is None else len(batches)
        pace = Pace(self._limit, least=least, planned=options.epochs * least, on_step=on_step)
        plan = plain_trainer.TrainerPlan(
            options.epochs, self._batch, options.highest_rate, options.seed, self._precision, batches
        )
        with tempfile.TemporaryDirectory() as scratch:
            plain_trainer.trainer(
                self._trained,
                data.columns(),
                loss,
                plan=plan,
                callback=TrainingProgress(pace.step, on_epoch),
                scratch=Path(scratch),
            ).train()
        return tried

    def _batches(self) -> SeparateBatches | None:
        """Returns the batches for losses that take the other texts of a batch for wrong."""
        if not self._options.is_in_batch:
            return None
        needs = separate_batches.needs(self._data.examples, self._data.texts)
        return SeparateBatches(needs, size=self._batch, seed=self._options.seed)

    def _estimate(self) -> None:
        """Chooses how much of a batch to encode at once, or a smaller batch if the loss needs all of it at once."""
        columns = {name: texts for name, texts in self._data.columns().items() if name != "score"}
        longest = max((text for name, texts in columns.items() if name != "query" for text in texts), key=len)
        features = self._whole.preprocess([longest], prompt=None, task="document")
        tokens = min(features["input_ids"].shape[-1], tokenization.limit(self._whole, "document"))
        if self._options.fits_in_parts:
            self._mini_batch = memory.mini_batch(self._whole, batch=self._batch, columns=len(columns), tokens=tokens)
        elif (fits := memory.texts_at_once(self._whole, tokens=tokens)) is not None:
            encoded = len(columns) * (1 if self._data.restored is None else _DECODED)
            self._batch = min(self._batch, max(_SMALLEST_BATCH, fits // encoded))


@contextlib.contextmanager
def _seeded(seed: int, device: "torch.device") -> Iterator[None]:
    """Seeds everything that is random in the block, and leaves the generators of the process as they were."""
    import torch

    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _weights(trained: "SentenceTransformer") -> "dict[str, torch.Tensor]":
    """Returns a copy of what is trained."""
    return {
        name: parameter.detach().clone() for name, parameter in trained.named_parameters() if parameter.requires_grad
    }


def _free(device: "torch.device") -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
