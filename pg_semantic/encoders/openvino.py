"""The OpenVINO back end: the transformer converted as it stands and compiled for the CPU.

Only the transformer: pooling, dense layers and normalisation stay sentence-transformers' own.
"""

import contextlib
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import Transformer
from torch import nn
from transformers.utils import logging

_SAMPLE = ["a short text", "a rather longer text, so that the other one is padded"]
_HINT = {"bfloat16": "bf16", "float32": "f32"}


class Compiled(nn.Module):
    """Stands in for a transformer: the same tensors in, the one output that is wanted."""

    def __init__(self, module: Transformer, *, precision: str, cached: Path) -> None:
        super().__init__()
        openvino = _import()
        self.config = module.model.config
        self._path = _output_path(module)
        sample = _sample(module)
        self._names = [name for name, value in sample.items() if isinstance(value, torch.Tensor)]
        if not cached.exists():
            _convert(_Traced(module.model, sample, self._path), sample, target=cached)
        hints = {"INFERENCE_PRECISION_HINT": _HINT[precision], "PERFORMANCE_HINT": "LATENCY"}
        self._request = openvino.Core().compile_model(cached, "CPU", hints).create_infer_request()

    def forward(self, **features: Any) -> Any:
        """The transformer's output where sentence-transformers looks for it."""
        given = [features[name].numpy() for name in self._names]
        [made] = self._request.infer(dict(enumerate(given))).values()
        output: Any = torch.from_numpy(made)
        for key in reversed(self._path):
            output = {key: output}
        return output


def precision_of_cpu() -> str:
    """The fastest precision of this CPU that keeps an encoder's accuracy."""
    capabilities = _import().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bfloat16" if "BF16" in capabilities else "float32"


def version() -> str:
    """The release, on which what is converted depends. Raises ImportError where OpenVINO is not installed."""
    return str(_import().get_version())


class _Recorder(nn.Module):
    """Keeps what a transformer is called with."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.config = inner.config
        self.inner = inner
        self.features: dict[str, Any] = {}

    def forward(self, **features: Any) -> Any:
        self.features = features
        return self.inner(**features)


class _Traced(nn.Module):
    """A transformer as a function of tensors, which is what can be traced."""

    def __init__(self, inner: nn.Module, sample: dict[str, Any], path: tuple[Any, ...]) -> None:
        super().__init__()
        self.inner = inner
        self._names = [name for name, value in sample.items() if isinstance(value, torch.Tensor)]
        self._rest = {name: value for name, value in sample.items() if name not in self._names}
        self._path = path

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        output: Any = self.inner(**dict(zip(self._names, tensors, strict=True)), **self._rest)
        for key in self._path:
            output = output[key]
        result: torch.Tensor = output
        return result


def _output_path(module: Transformer) -> tuple[Any, ...]:
    name = module.modality_config["text"]["method_output_name"]
    return (name,) if isinstance(name, str) else tuple(name)


def _sample(module: Transformer) -> dict[str, Any]:
    """What the transformer is called with for a batch of two texts, one of them padded."""
    inner = module.model
    recorder = _Recorder(inner)
    module.model = recorder
    try:
        with torch.inference_mode():
            module(module.preprocess(_SAMPLE))
    finally:
        module.model = inner
    return {name: value for name, value in recorder.features.items() if value is not None}


def _convert(traced: _Traced, sample: dict[str, Any], *, target: Path) -> None:
    openvino = _import()
    example = tuple(value.clone() for value in sample.values() if isinstance(value, torch.Tensor))
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing: the self-check tells whether it went well
            converted = openvino.convert_model(traced, example_input=example)
    finally:
        logging.set_verbosity(verbosity)
    if len(converted.inputs) != len(example):
        raise ValueError(f"{len(converted.inputs)} of {len(example)} inputs were left by the conversion")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        openvino.save_model(converted, made, compress_to_fp16=False)
        for file in (made.with_suffix(".bin"), made):  # the one that is looked for comes last
            file.replace(target.with_suffix(file.suffix))


def _import() -> Any:
    with _without_telemetry():
        import openvino
    return openvino


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """OpenVINO reports its use to its makers unless the package for that is missing; here it is."""
    name = "openvino_telemetry"
    if name in sys.modules or "openvino" in sys.modules:  # somebody else's choice
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
