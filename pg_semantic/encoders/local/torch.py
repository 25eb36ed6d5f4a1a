"""The torch back end: computes in the precision that suits the device, and returns 32-bit results."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_FLOAT16_CAPABILITY = (7, 0)  # tensor cores; bfloat16 from (8, 0)
_BFLOAT16_CAPABILITY = (8, 0)


def precision_of(device: str) -> str:
    """Returns the fastest precision of a device that preserves an encoder's accuracy."""
    kind = torch.device(device)
    if kind.type == "cuda":
        capability = torch.cuda.get_device_capability(kind)
        return (
            "bfloat16"
            if capability >= _BFLOAT16_CAPABILITY
            else "float16"
            if capability >= _FLOAT16_CAPABILITY
            else "float32"
        )
    if kind.type == "cpu" and _has_bfloat16():
        return "bfloat16"
    return "float32"


def _has_bfloat16() -> bool:
    """Returns whether the CPU has bfloat16 instructions; emulated, bfloat16 is slower than float32."""
    ask: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # only in newer releases
    known = ask()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))


class Halved(nn.Module):
    """Replaces a transformer with a 16-bit copy. Its outputs are 32-bit again, for pooling and normalization.

    Args:
        inner: The transformer to copy.
        precision: ``bfloat16`` or ``float16``.
    """

    def __init__(self, inner: nn.Module, precision: str) -> None:
        super().__init__()
        self.config = inner.config
        self.inner = copy.deepcopy(inner)
        for parameter in self.inner.parameters():  # not buffers: 16 bits are too coarse for rotary frequencies
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(_HALF[precision])

    def forward(self, **features: Any) -> dict[str, Any]:
        """Runs the transformer, and returns its outputs by name."""
        return {name: _float(value) for name, value in self.inner(**features).items()}


def _float(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    return tuple(map(_float, value)) if isinstance(value, tuple) else value
