"""`Checkpoints`: keeps the state of a training on disk, so that a training that was stopped can be resumed.

A checkpoint has weights, the state of the optimizer and of random generators, and figures. It has no text of a query or
a row. It is written next to the folder of the result, and removed once training has ended.
"""

import contextlib
import json
import logging
import pickle
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pg_semantic import errors

_NAME = re.compile(r"checkpoint-[0-9]+")  # and none of the copies that a person makes
_PLAN = "plan.json"
_STATE = "trainer_state.json"  # which the trainer writes last, so a checkpoint with it is complete
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, pickle.UnpicklingError)  # as torch reports it
_MOST_OF_THE_TIME = 0.05  # that is spent on writing checkpoints

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one training.

    Args:
        out: The folder of the result, for which nothing is written here.
        seconds: How long to train between two checkpoints. Longer if writing one takes more than a twentieth of that.
        resume: Whether to continue where an earlier training to this folder was stopped, if there was one.
        clock: Returns the time in seconds.

    Raises:
        errors.ConfigurationError: A training to this folder was stopped, and ``resume`` is false.
    """

    def __init__(self, out: Path, *, seconds: float, resume: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = out.parent / f".{out.name}-checkpoints"
        self.plan: dict[str, Any] = {}
        self._seconds, self._clock = seconds, clock
        self._written_at = clock()
        self._cost = 0.0
        if not resume and self.latest is not None:
            raise errors.ConfigurationError(
                f"A training to {out} was stopped before its end: resume it, or remove {self.folder} to begin again."
            )

    @property
    def latest(self) -> Path | None:
        """The last complete checkpoint; None to begin at the first step."""
        complete = [one for one in self._folders() if (one / _STATE).exists()]
        return max(complete, key=lambda one: int(one.name.rpartition("-")[2]), default=None)

    @property
    def steps(self) -> int:
        """How many steps were done when the last checkpoint was written."""
        return 0 if self.latest is None else int(self.latest.name.rpartition("-")[2])

    def begin(self, training: Mapping[str, Any]) -> None:
        """Says what is trained, once that is known.

        Args:
            training: What must be the same to resume it, by what a person calls it; data for JSON.

        Raises:
            errors.ConfigurationError: The training that was stopped is another one, or its checkpoint is damaged.
        """
        wanted = json.loads(json.dumps(training))
        if self.latest is not None:
            self.plan = self._read(self.latest)
            stopped = self.plan.get("training", {})
            if others := [name for name, value in wanted.items() if stopped.get(name) != value]:
                raise errors.ConfigurationError(
                    f"The training that was stopped had other {' and '.join(others)}: pass the same, or remove "
                    f"{self.folder} to begin again."
                )
        self.plan["training"] = wanted

    def begin_epochs(self, *, steps: int) -> None:
        """Says how many steps an epoch has.

        Raises:
            errors.ConfigurationError: It had another number when the training was stopped, because texts have changed.
        """
        if self.latest is not None and self.plan.get("steps", steps) != steps:
            raise errors.ConfigurationError(
                f"Texts of rows have changed since the training was stopped, and an epoch has {steps} steps instead of "
                f"{self.plan['steps']}: remove {self.folder} to begin again."
            )
        self.plan["steps"] = steps

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Raises an error that says what to do if the block reads a damaged file, as a crash may leave it.

        Raises:
            errors.ConfigurationError: A file of the last checkpoint is damaged.
        """
        import safetensors

        from pg_semantic.encoders.local import transformer

        try:
            yield
        except (*_DAMAGED, safetensors.SafetensorError) as error:
            if transformer.is_out_of_memory(error):
                raise
            raise errors.ConfigurationError(
                f"The checkpoint {self.latest} can't be read: remove {self.folder} to begin again."
            ) from error

    def is_due(self) -> bool:
        """Returns whether it is time for another checkpoint."""
        return self._clock() - self._written_at >= max(self._seconds, self._cost / _MOST_OF_THE_TIME)

    def write(self, write: Callable[[], None]) -> None:
        """Calls a function that writes a checkpoint. If that fails, training continues without."""
        import safetensors

        started, before = self._clock(), set(self._folders())
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write()
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:  # torch: RuntimeError on a full disk
            for begun in set(self._folders()) - before:  # it takes space that the result will need
                shutil.rmtree(begun, ignore_errors=True)
            log.warning(
                "No checkpoint was written to %s, so resuming would repeat more: %s",
                self.folder,
                error,
                extra={"event": "checkpoint_failed", "folder": str(self.folder)},
            )
        self._written_at = self._clock()
        self._cost = self._written_at - started

    def write_plan(self, folder: Path) -> None:
        """Adds what is trained to a checkpoint."""
        (folder / _PLAN).write_text(json.dumps(self.plan), "utf-8")

    def remove(self) -> None:
        """Removes all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.plan = {name: value for name, value in self.plan.items() if name == "training"}

    def _folders(self) -> list[Path]:
        return [one for one in self.folder.glob("checkpoint-*") if _NAME.fullmatch(one.name)]

    def _read(self, checkpoint: Path) -> dict[str, Any]:
        with self.reading():
            json.loads((checkpoint / _STATE).read_text("utf-8"))
            found: dict[str, Any] = json.loads((checkpoint / _PLAN).read_text("utf-8"))
        return found
