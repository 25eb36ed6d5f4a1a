"""`PlainTrainer`: the trainer of sentence-transformers, without files, cards and reports.

This module imports torch, so import it only to train.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)

from pg_semantic.encoders import routes, tokenization
from pg_semantic.training import quiet_trainer
from pg_semantic.training.quiet_trainer import OneDevice, QuietTrainer, TrainingProgress

QUERY = "query"


@dataclass(frozen=True, slots=True)
class TrainerPlan:
    """How to train, as the trainer takes it.

    Attributes:
        epochs: How many epochs at most.
        batch: Examples per step at most.
        learning_rate: The highest one. It rises over the first tenth of the steps, and then falls to 0.
        seed: Of dropout.
    """

    epochs: int
    batch: int
    learning_rate: float
    seed: int


class PlainArguments(OneDevice, SentenceTransformerTrainingArguments):  # type: ignore[misc]  # types are not followed
    """The arguments of `PlainTrainer`."""


class PlainTrainer(QuietTrainer, SentenceTransformerTrainer):  # type: ignore[misc]  # its types are not followed
    """The trainer of an encoder."""


def trainer(
    trained: SentenceTransformer,
    columns: Mapping[str, Sequence[Any]],
    loss: Any,
    *,
    plan: TrainerPlan,
    callback: TrainingProgress,
    scratch: Path,
) -> PlainTrainer:
    """Returns a trainer of all parameters that can be trained.

    Args:
        trained: The encoder. Its prompts are put before the texts.
        columns: The texts by the name of their column, first those of ``QUERY``, then documents; and perhaps scores.
        loss: The loss.
        plan: How to train.
        callback: What to call.
        scratch: An empty folder. Nothing is written to it.
    """
    return PlainTrainer(
        model=trained,
        args=_arguments(trained, columns, plan=plan, scratch=scratch),
        train_dataset=datasets.Dataset.from_dict(dict(columns)),
        loss=loss,
        callbacks=[callback],
    )


def _arguments(
    trained: SentenceTransformer, columns: Mapping[str, Sequence[Any]], *, plan: TrainerPlan, scratch: Path
) -> PlainArguments:
    tasks = {name: "query" if name == QUERY else "document" for name in columns if name != "score"}
    prompts = {name: tokenization.prompt(trained, task) for name, task in tasks.items()}
    return quiet_trainer.arguments(
        PlainArguments,
        trained.device,
        scratch=scratch,
        epochs=plan.epochs,
        batch=plan.batch,
        learning_rate=plan.learning_rate,
        seed=plan.seed,
        prompts={name: prompt for name, prompt in prompts.items() if prompt} or None,
        router_mapping=tasks if routes.has_router(trained) else None,
    )
