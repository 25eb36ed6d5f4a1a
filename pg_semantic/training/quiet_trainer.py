"""What the trainers of encoders and of rerankers have in common: no files, cards and reports, and one device.

This module imports torch, so import it only to train.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
import transformers
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.base.trainer import BaseTrainer

from pg_semantic.training.checkpoints import Checkpoints
from pg_semantic.training.epoch_measures import EpochMeasures, weights_of
from pg_semantic.training.shuffled_batches import EpochBatches

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
    "save_strategy": "no",  # the progress of training says when
    "save_total_limit": 1,
}
_WEIGHTS = "weights.safetensors"
_STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


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
    batches: EpochBatches
    checkpoints: Checkpoints
    measures: EpochMeasures

    def compute_loss(self, *args: Any, **named: Any) -> Any:
        """Returns the loss of a batch."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.halved):
            return super().compute_loss(*args, **named)

    def add_model_card_callback(self, *_: Any) -> None:
        """Adds no model card."""

    def get_batch_sampler(self, dataset: Any, *_: Any, **__: Any) -> "PlannedSampler":
        """Returns the batches that were planned, which don't depend on what was drawn before training was resumed."""
        return PlannedSampler(dataset, self.batches)

    def run(self, batches: EpochBatches, *, halved: bool, checkpoints: Checkpoints, measures: EpochMeasures) -> None:
        """Trains from the last checkpoint on, or from the beginning.

        Args:
            batches: What each step trains on.
            halved: Whether to multiply in bfloat16.
            checkpoints: Where to continue, and where to keep the state.
            measures: What is measured after each epoch, which is kept too.
        """
        self.batches, self.halved, self.checkpoints, self.measures = batches, halved, checkpoints, measures
        self.remove_callback(transformers.PrinterCallback)
        latest = checkpoints.latest
        if latest is not None:
            with checkpoints.reading():  # the trainer continues without what is missing, and trains something else
                for name in _STATES:
                    (latest / name).open("rb").close()
        self.train(resume_from_checkpoint=None if latest is None else str(latest))

    def _get_output_dir(self, trial: Any) -> str:  # noqa: ARG002 - of the trainer
        return str(self.checkpoints.folder)

    def _save_checkpoint(self, *given: Any) -> None:
        self.checkpoints.write(lambda: super(QuietTrainer, self)._save_checkpoint(*given))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002 - of the trainer
        """Writes the weights that have changed, with those of the loss, and no card, tokenizer or pickled arguments."""
        folder = Path(output_dir or self.checkpoints.folder)
        folder.mkdir(parents=True, exist_ok=True)
        changed = {id(parameter) for parameter in self.optimizer.state}  # not those of the loss gist's guide
        safetensors.torch.save_file(weights_of(self.loss, only=changed), folder / _WEIGHTS)
        self.measures.write(folder)
        self.checkpoints.write_plan(folder)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with self.checkpoints.reading():
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with self.checkpoints.reading():
            super()._load_rng_state(checkpoint)

    def _load_from_checkpoint(self, checkpoint_path: str, *_: Any) -> None:
        with self.checkpoints.reading(), torch.no_grad():
            found = safetensors.torch.load_file(Path(checkpoint_path) / _WEIGHTS)
            for name, parameter in self.loss.named_parameters():
                if name in found:
                    parameter.copy_(found[name])


class PlannedSampler(DefaultBatchSampler):  # type: ignore[misc]  # its types are not followed
    """Gives a trainer the batches that were planned."""

    def __init__(self, dataset: Any, batches: EpochBatches) -> None:
        super().__init__(dataset, batch_size=batches.size, drop_last=False)
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches.epoch(self.epoch))

    def __len__(self) -> int:
        return len(self._batches)


class TrainingProgress(transformers.TrainerCallback):  # type: ignore[misc]  # its types are not followed
    """Calls a function after each step, and one after each epoch, which says whether to train another one.

    Args:
        on_step: Called after each step.
        on_epoch: Called after each epoch. Returns whether to train another one.
        is_due: Returns whether it is time for a checkpoint. There is none in the last step of an epoch, because the
            epoch is measured only after that.
    """

    def __init__(self, on_step: Callable[[], Any], on_epoch: Callable[[], bool], *, is_due: Callable[[], bool]) -> None:
        self._on_step, self._on_epoch, self._is_due = on_step, on_epoch, is_due

    def on_step_end(self, *given: Any, **_: Any) -> None:
        """Counts a step."""
        _, state, control = given  # first the arguments
        self._on_step()
        is_last = state.global_step % (state.max_steps // state.num_train_epochs) == 0
        control.should_save = not is_last and self._is_due()

    def on_epoch_end(self, *given: Any, **_: Any) -> None:
        """Ends training if no other epoch is wanted."""
        _, state, control = given
        goes_on = self._on_epoch() and state.global_step < state.max_steps
        control.should_training_stop = not goes_on
        control.should_save = goes_on and self._is_due()
