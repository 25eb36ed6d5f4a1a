"""The torch back end: precision by what the device is good at, results in 32 bits."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_FLOAT16_CAPABILITY = (7, 0)  # tensor cores; bfloat16 from (8, 0)
_BFLOAT16_CAPABILITY = (8, 0)


def precision_of(device: str) -> str:
    """The fastest precision of a device that keeps an encoder's accuracy."""
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
    """Whether the CPU multiplies bfloat16 itself; emulated it is slower than float32."""
    ask: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # of newer releases
    known = ask()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))


class Halved(nn.Module):
    """Stands in for a transformer: computes in 16 bits what pooling and normalisation then get in 32."""

    def __init__(self, inner: nn.Module, precision: str) -> None:
        super().__init__()
        self.config = inner.config
        self.inner = copy.deepcopy(inner)
        for parameter in self.inner.parameters():  # and no buffers: rotary frequencies in 16 bits are too coarse
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(_HALF[precision])

    def forward(self, **features: Any) -> dict[str, Any]:
        """The transformer's outputs by name."""
        return {name: _float(value) for name, value in self.inner(**features).items()}


def _float(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    return tuple(map(_float, value)) if isinstance(value, tuple) else value
