"""`EpochMeasures`: what was measured after each epoch of a training, and the weights after the best one."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pg_semantic.training.report import Measured

if TYPE_CHECKING:
    import torch

_FILE = "epochs.safetensors"
_MEASURED, _WEIGHTS = "measured", "weights."


class EpochMeasures:
    """What was measured after each epoch.

    Attributes:
        measured: For each epoch, its measures of each query: the one to choose the best epoch by, and then others.
            Shape (measures, queries).
        weights: The weights after the best epoch, those that are trained.
    """

    def __init__(self) -> None:
        self.measured: list[NDArray[np.float64]] = []
        self.weights: dict[str, torch.Tensor] = {}

    def add(self, measured: Sequence[Measured], trained: "torch.nn.Module") -> None:
        """Adds an epoch, with the model as it is after it."""
        best = max((one[0].mean() for one in self.measured), default=-np.inf)
        self.measured.append(np.stack(measured))
        if measured[0].mean() > best:
            self.weights = weights_of(trained)

    def of(self, number: int) -> NDArray[np.float64]:
        """Returns one of the measures, shape (epochs, queries)."""
        return np.stack([one[number] for one in self.measured])

    def write(self, folder: Path) -> None:
        """Writes everything into a folder."""
        import torch
        from safetensors.torch import save_file

        measured = torch.from_numpy(np.array(self.measured, np.float64))
        save_file({_MEASURED: measured} | {_WEIGHTS + name: one for name, one in self.weights.items()}, folder / _FILE)

    @classmethod
    def read(cls, folder: Path, device: "torch.device") -> "EpochMeasures":
        """Reads what `write` wrote into a folder."""
        from safetensors.torch import load_file

        found = load_file(folder / _FILE)
        made = cls()
        made.measured = list(found.pop(_MEASURED).numpy())
        made.weights = {name.removeprefix(_WEIGHTS): one.to(device) for name, one in found.items()}
        return made


def weights_of(model: "torch.nn.Module", *, only: Container[int] | None = None) -> "dict[str, torch.Tensor]":
    """Returns a copy of the weights that are trained.

    Args:
        model: The model.
        only: Takes only those of its parameters that have one of these ``id``.
    """
    return {
        name: parameter.detach().clone(memory_format=_contiguous())
        for name, parameter in model.named_parameters()
        if (parameter.requires_grad if only is None else id(parameter) in only)
    }


def _contiguous() -> "torch.memory_format":
    import torch

    return torch.contiguous_format
