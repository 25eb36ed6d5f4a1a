"""Seeds the random generators of the process for a training, and leaves them as they were: `seeded`."""

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def seeded(seed: int, device: "torch.device") -> Iterator[None]:
    """Seeds everything that is random in the block, and restores the state of all generators after it.

    Args:
        seed: The seed.
        device: The device to train on, which has a generator of its own unless it is a CPU.
    """
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
