"""Trains a copy of an encoder, epoch by epoch, and measures it on a part that is held out: `fit`."""

import copy
import gc
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders import tokenization
from pg_semantic.training import random_generators
from pg_semantic.training.checkpoints import Checkpoints
from pg_semantic.training.encoder import losses, low_rank, memory, separate_batches
from pg_semantic.training.encoder.encoder_training import EncoderTraining
from pg_semantic.training.encoder.examples import Example
from pg_semantic.training.encoder.held_out_measures import HeldOutMeasure
from pg_semantic.training.encoder.separate_batches import SeparateBatches
from pg_semantic.training.epoch_measures import EpochMeasures
from pg_semantic.training.pace import OnStep, Pace
from pg_semantic.training.passages import Passage
from pg_semantic.training.query_side import choice, folds
from pg_semantic.training.report import Measured
from pg_semantic.training.shuffled_batches import EpochBatches, ShuffledBatches
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


def fit(  # noqa: PLR0913 - what keeps a training within bounds
    data: WholeSet,
    whole: "SentenceTransformer",
    options: EncoderTraining,
    *,
    halved: bool,
    limit: TimeLimit,
    checkpoints: Checkpoints,
    on_step: OnStep = lambda *_: None,
) -> WholeFit:
    """Trains a copy of ``whole``.

    Half of the held-out components choose the epoch that the other half is measured with.

    Args:
        data: What to train and measure with.
        whole: The encoder to start from, which stays as it is.
        options: How to train.
        halved: Whether to multiply in bfloat16 while training.
        limit: How long it may take.
        checkpoints: Where to continue, and where to keep the state of the training.
        on_step: Called after each step.

    Raises:
        errors.ConfigurationError: The time limit is too short, or memory runs out.
    """
    with random_generators.seeded(options.seed, whole.device):
        started = limit.elapsed
        before = [data.held_out(whole)[1], data.trained_on(whole)[1]]
        limit.reserved += limit.elapsed - started  # to measure again at the end
        limit.require_not_over("reading and measuring")
        run = _WholeRun(data, whole, options, halved=halved, limit=limit, checkpoints=checkpoints)
        tried = run.train(on_step)
    components = np.unique(data.groups, return_inverse=True)[1]
    halves = folds.divide(components, count=2, seed=options.seed)
    chosen = choice.choose(tried.of(0), halves, reported=tried.of(1))
    trained = run.finished(tried)
    after = data.trained_on(trained)[1]
    return WholeFit(trained, chosen.candidate + 1, (before[0], chosen.per_query), (before[1], after))


class _WholeRun:
    """Trains, and trains again part by part if memory runs out."""

    def __init__(
        self,
        data: WholeSet,
        whole: "SentenceTransformer",
        options: EncoderTraining,
        *,
        halved: bool,
        limit: TimeLimit,
        checkpoints: Checkpoints,
    ) -> None:
        self._data, self._whole, self._options = data, whole, options
        self._halved, self._limit, self._checkpoints = halved, limit, checkpoints
        self._trained = whole
        self._batch = min(options.batch_on(whole.device.type), data.count)
        self._mini_batch: int | None = None
        if "batch" in checkpoints.plan:
            self._batch, self._mini_batch = checkpoints.plan["batch"], checkpoints.plan["mini_batch"]
        elif whole.device.type == "cpu":
            self._estimate()

    def train(self, on_step: OnStep) -> EpochMeasures:
        """Trains with as large a batch as fits into memory.

        Raises:
            errors.ConfigurationError: The time limit is too short, or even the smallest batch doesn't fit.
        """
        least = 1 if self._options.fits_in_parts else _SMALLEST_BATCH
        while (tried := self._tried(on_step)) is None:
            self._trained = self._whole  # lets go of the copy that didn't fit
            at_once = self._mini_batch or self._batch
            if at_once <= least:
                raise errors.ConfigurationError(
                    f"Memory ran out while training, even with {at_once} at once: use lora (--lora), an encoder with "
                    "a lower limit of tokens, or a smaller encoder."
                )
            smaller = max(least, at_once // 2)
            if self._options.fits_in_parts:
                self._mini_batch = smaller
            else:
                self._batch = smaller
            self._checkpoints.remove()  # of a run with more at once
            _free(self._whole.device)
        return tried

    def finished(self, tried: EpochMeasures) -> "SentenceTransformer":
        """Returns the encoder after the best epoch."""
        self._trained.load_state_dict(tried.weights, strict=False)
        if self._options.lora:
            low_rank.merge(self._trained)
        return self._trained.eval()

    def _tried(self, on_step: OnStep) -> EpochMeasures | None:
        """Returns None if memory runs out. Doesn't keep the error, whose frames hold on to memory."""
        from pg_semantic.encoders.local import transformer

        try:
            self._trained = copy.deepcopy(self._whole)
            if self._options.lora:
                low_rank.adapt(self._trained)
            return self._epochs(on_step)
        except (MemoryError, RuntimeError) as error:
            if not transformer.is_out_of_memory(error):
                raise
            return None

    def _epochs(self, on_step: OnStep) -> EpochMeasures:
        from pg_semantic.training.encoder import plain_trainer
        from pg_semantic.training.encoder.plain_trainer import TrainerPlan
        from pg_semantic.training.quiet_trainer import TrainingProgress  # all of them import torch

        options, data, checkpoints = self._options, self._data, self._checkpoints
        latest, done, started = checkpoints.latest, checkpoints.steps, self._limit.elapsed
        with checkpoints.reading():
            tried = EpochMeasures() if latest is None else EpochMeasures.read(latest, self._whole.device)
        checkpoints.plan |= {"batch": self._batch, "mini_batch": self._mini_batch}
        batches = self._batches()
        steps = len(batches)
        checkpoints.begin_epochs(steps=steps)

        def on_epoch() -> bool:
            tried.add(data.held_out(self._trained), self._trained)
            return self._limit.allows((self._limit.elapsed - started) / (len(tried.measured) - done / steps))

        pace = Pace(
            self._limit, least=steps - done % steps, planned=options.epochs * steps, on_step=on_step, before=done
        )
        with tempfile.TemporaryDirectory() as scratch:
            plain_trainer.trainer(
                self._trained,
                data.columns(),
                losses.build(self._trained, options, guide=self._whole, mini_batch=self._mini_batch),
                plan=TrainerPlan(options.epochs, self._batch, options.highest_rate, options.seed),
                callback=TrainingProgress(pace.step, on_epoch, is_due=checkpoints.is_due),
                scratch=Path(scratch),
            ).run(batches, halved=self._halved, checkpoints=checkpoints, measures=tried)
        return tried

    def _batches(self) -> EpochBatches:
        """Returns the batches, which are special for losses that take the other texts of a batch for wrong."""
        if not self._options.is_in_batch:
            return ShuffledBatches(self._data.count, size=self._batch, seed=self._options.seed)
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


def _free(device: "torch.device") -> None:
    """Gives back memory that nothing refers to any more. A SentenceTransformer refers to itself."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
