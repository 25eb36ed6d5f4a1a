"""`PlainTrainer`: the trainer of sentence-transformers, without files, cards and reports.

This module imports torch, so import it only to train.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import BatchSamplers

from pg_semantic.encoders import routes, tokenization

QUERY = "query"


@dataclass(frozen=True, slots=True)
class TrainerPlan:
    """How to train, as the trainer takes it.

    Attributes:
        epochs: How many epochs at most.
        batch: Examples per step.
        learning_rate: The highest one. It rises over the first tenth of the steps, and then falls to 0.
        seed: Of the order and of dropout.
        precision: ``bfloat16``, or else 32-bit arithmetic.
    """

    epochs: int
    batch: int
    learning_rate: float
    seed: int
    precision: str


class PlainTrainer(SentenceTransformerTrainer):  # type: ignore[misc]  # its types are not followed
    """Trains without a model card, which would quote texts of rows and ask the hub about the encoder."""

    halved = False
    """Whether to multiply in bfloat16. With the argument ``bf16``, so would every later use of the encoder."""

    def compute_loss(self, *args: Any, **named: Any) -> Any:
        """Returns the loss of a batch."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.halved):
            return super().compute_loss(*args, **named)

    def add_model_card_callback(self, *_: Any) -> None:
        """Adds no model card."""


class StepsAndEpochs(transformers.TrainerCallback):  # type: ignore[misc]  # its types are not followed
    """Calls a function after each step, and one after each epoch, which says whether to train another one."""

    def __init__(self, on_step: Callable[[], Any], on_epoch: Callable[[], bool]) -> None:
        self._on_step, self._on_epoch = on_step, on_epoch

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Counts a step."""
        self._on_step()

    def on_epoch_end(self, *given: Any, **_: Any) -> None:
        """Ends training if no other epoch is wanted."""
        _, _, control = given  # arguments, state, control
        control.should_training_stop = not self._on_epoch()


def trainer(
    trained: SentenceTransformer,
    columns: Mapping[str, Sequence[Any]],
    loss: Any,
    *,
    plan: TrainerPlan,
    callback: StepsAndEpochs,
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
    arguments = _arguments(trained, columns, plan=plan, scratch=scratch)
    made = PlainTrainer(
        model=trained,
        args=arguments,
        train_dataset=datasets.Dataset.from_dict(dict(columns)),
        loss=loss,
        callbacks=[callback],
    )
    made.halved = plan.precision == "bfloat16"
    made.remove_callback(transformers.PrinterCallback)
    return made


def _arguments(
    trained: SentenceTransformer, columns: Mapping[str, Sequence[Any]], *, plan: TrainerPlan, scratch: Path
) -> SentenceTransformerTrainingArguments:
    tasks = {name: "query" if name == QUERY else "document" for name in columns if name != "score"}
    prompts = {name: tokenization.prompt(trained, task) for name, task in tasks.items()}
    return SentenceTransformerTrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch,
        learning_rate=plan.learning_rate,
        warmup_steps=0.1,  # a share of all steps
        weight_decay=0.01,
        seed=plan.seed,
        use_cpu=trained.device.type == "cpu",
        batch_sampler=_sampler(columns),
        prompts={name: prompt for name, prompt in prompts.items() if prompt} or None,
        router_mapping=tasks if routes.has_router(trained) else None,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        eval_strategy="no",
        logging_strategy="no",
        report_to=[],
        save_strategy="no",
    )


def _sampler(columns: Iterable[str]) -> BatchSamplers:
    """Returns how batches are made: a text stands in a batch once, unless scores are learned.

    Then the passages of one query are to be compared with each other, and none is a negative of another query.
    """
    return BatchSamplers.BATCH_SAMPLER if "score" in columns else BatchSamplers.NO_DUPLICATES
