"""The trainer of sentence-transformers for a cross-encoder, without files, cards and reports: `trainer`.

This module imports torch, so import it only to train.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder import losses

from pg_semantic.training import quiet_trainer
from pg_semantic.training.quiet_trainer import OneDevice, QuietTrainer, TrainingProgress
from pg_semantic.training.reranker.reranker_training import RerankerTraining
from pg_semantic.training.reranker.starting_point import HEAD, StartingPoint
from pg_semantic.training.reranker.training_lists import TrainingList
from pg_semantic.training.shuffled_batches import ShuffledBatches

_NEW_HEAD_RATE = 1e-3  # a new head has everything to learn


class CrossArguments(OneDevice, CrossEncoderTrainingArguments):  # type: ignore[misc]  # types are not followed
    """The arguments of `CrossTrainer`."""


class CrossTrainer(QuietTrainer, CrossEncoderTrainer):  # type: ignore[misc]  # its types are not followed
    """The trainer of a cross-encoder."""


def trainer(
    start: StartingPoint,
    lists: Sequence[TrainingList],
    options: RerankerTraining,
    *,
    progress: TrainingProgress,
    scratch: Path,
) -> CrossTrainer:
    """Returns a trainer of all weights.

    Args:
        start: The cross-encoder, which is trained in place.
        lists: The passages to train on.
        options: How to train.
        progress: What to call.
        scratch: An empty folder. Nothing is written to it.
    """
    trained, is_listwise = start.cross_encoder, options.loss == "lambda"
    return CrossTrainer(
        model=trained,
        args=_arguments(start, options, batch=batch(lists, options), scratch=scratch),
        train_dataset=datasets.Dataset.from_dict(_in_lists(lists) if is_listwise else _in_pairs(lists)),
        loss=_ranking_loss(trained, options) if is_listwise else _answer_loss(trained, lists),
        callbacks=[progress],
    )


def _arguments(start: StartingPoint, options: RerankerTraining, *, batch: int, scratch: Path) -> CrossArguments:
    return quiet_trainer.arguments(
        CrossArguments,
        start.cross_encoder.device,
        scratch=scratch,
        epochs=options.epochs,
        batch=batch,
        learning_rate=options.learning_rate or start.learning_rate,
        seed=options.seed,
        learning_rate_mapping={rf"\b{HEAD}\.linear\.": _NEW_HEAD_RATE} if start.is_new else {},
    )


def batch(lists: Sequence[TrainingList], options: RerankerTraining) -> int:
    """Returns how many examples a step has: pairs, or lists that have about as many pairs together."""
    if options.loss == "bce":
        return options.batch
    return max(1, round(options.batch * len(lists) / _pairs(lists)))


def batches(lists: Sequence[TrainingList], options: RerankerTraining) -> ShuffledBatches:
    """Returns the batches of each epoch."""
    examples = _pairs(lists) if options.loss == "bce" else len(lists)
    return ShuffledBatches(examples, size=batch(lists, options), seed=options.seed)


def _pairs(lists: Sequence[TrainingList]) -> int:
    return sum(len(one.labels) for one in lists)


def _in_pairs(lists: Sequence[TrainingList]) -> dict[str, list[Any]]:
    rows = [
        (one.query, text, float(label)) for one in lists for text, label in zip(one.passages, one.labels, strict=True)
    ]
    return dict(zip(("query", "passage", "label"), map(list, zip(*rows, strict=True)), strict=True))


def _in_lists(lists: Sequence[TrainingList]) -> dict[str, list[Any]]:
    return {
        "query": [one.query for one in lists],
        "passages": [list(one.passages) for one in lists],
        "labels": [one.labels for one in lists],
    }


def _answer_loss(trained: CrossEncoder, lists: Sequence[TrainingList]) -> Any:
    """Returns the binary cross entropy in which all positives together count as much as all negatives."""
    positives = sum(len(one.positives) for one in lists)
    weight = torch.tensor((_pairs(lists) - positives) / positives, device=trained.device)
    return losses.BinaryCrossEntropyLoss(trained, pos_weight=weight)


def _ranking_loss(trained: CrossEncoder, options: RerankerTraining) -> Any:
    return losses.LambdaLoss(trained, losses.NDCGLoss2PPScheme(), k=10, mini_batch_size=options.batch)
