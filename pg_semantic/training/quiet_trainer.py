"""What the trainers of encoders and of rerankers have in common: no files, cards and reports, and one device.

This module imports torch, so import it only to train.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from sentence_transformers.base.trainer import BaseTrainer

A = TypeVar("A", bound="OneDevice")

_COMMON: Mapping[str, Any] = {
    "warmup_steps": 0.1,  # a share of all steps
    "weight_decay": 0.01,
    "use_cpu": True,  # look for no GPU: the device is named
    "dataloader_pin_memory": False,
    "disable_tqdm": True,
    "eval_strategy": "no",
    "logging_strategy": "no",
    "report_to": [],
    "save_strategy": "no",
}


class OneDevice(transformers.TrainingArguments):  # type: ignore[misc]  # its types are not followed
    """Arguments that name the device. By themselves, they take the first GPU, or all GPUs at once (DataParallel)."""

    named: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """The device to train on."""
        own: torch.device = super().device  # prepares the libraries
        return self.named or own

    def name(self, device: torch.device) -> None:
        """Names the device, also for the library that moves batches to it (accelerate)."""
        self.named = device
        self.distributed_state.device = device


def arguments(  # noqa: PLR0913 - of the trainer
    kind: type[A],
    device: torch.device,
    *,
    scratch: Path,
    epochs: int,
    batch: int,
    learning_rate: float,
    seed: int,
    **others: Any,
) -> A:
    """Returns the arguments of a training that writes and reports nothing.

    Args:
        kind: The class of the arguments.
        device: Where to train: that of the weights.
        scratch: An empty folder. Nothing is written to it.
        epochs: How many epochs at most.
        batch: Examples per step.
        learning_rate: The highest one. It rises over the first tenth of the steps, and then falls to 0.
        seed: Of the order and of dropout.
        others: Further arguments.
    """
    made = kind(
        output_dir=str(scratch),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch,
        learning_rate=learning_rate,
        seed=seed,
        **_COMMON,
        **others,
    )
    made.name(device)
    return made


class QuietTrainer(BaseTrainer):  # type: ignore[misc]  # its types are not followed
    """Trains without a model card, which would quote texts of rows and ask the hub about the weights."""

    halved = False
    """Whether to multiply in bfloat16. With the argument ``bf16``, so would every later use of the weights."""

    def compute_loss(self, *args: Any, **named: Any) -> Any:
        """Returns the loss of a batch."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.halved):
            return super().compute_loss(*args, **named)

    def add_model_card_callback(self, *_: Any) -> None:
        """Adds no model card."""

    def prepared(self, *, halved: bool) -> None:
        """Chooses the arithmetic, and removes what would print."""
        self.halved = halved
        self.remove_callback(transformers.PrinterCallback)


class TrainingProgress(transformers.TrainerCallback):  # type: ignore[misc]  # its types are not followed
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
