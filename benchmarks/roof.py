"""The peak of a machine for matrix products, and the operations that an encoder needs for its texts."""

import time
from collections.abc import Sequence
from typing import Any

import torch

_SIDE = {"cpu": 2048, "cuda": 8192}
_TRIES = 8


def peak(device: str, precision: str) -> float:
    """Returns the highest number of floating-point operations per second in products of square matrices."""
    side = _SIDE[device]
    left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    return max(2 * side**3 / _seconds(left, right) for _ in range(_TRIES))


def work(counts: Sequence[int], config: Any) -> float:  # noqa: ANN401 - transformers has no types
    """Returns the floating-point operations that a BERT needs for texts with these token counts, without padding.

    They are, in each layer: for each token, four projections of the hidden size and a feed-forward pair; for each pair
    of tokens, the scores and the sums of attention. A multiplication and an addition count as two operations.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    dense = 2 * (4 * hidden**2 + 2 * hidden * inner)
    return float(config.num_hidden_layers * sum(n * dense + 4 * n * n * hidden for n in counts))


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    started = time.perf_counter()
    torch.matmul(left, right)
    if left.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
