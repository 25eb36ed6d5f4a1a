"""The OpenVINO back end: the transformer converted as it stands and compiled for the CPU.

Only the transformer: pooling, dense layers and normalisation stay sentence-transformers' own.
"""

import contextlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import Transformer
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers.utils import logging as transformers_logging

RECIPE = 2
"""Of the conversion below; another one makes other files."""

_SAMPLE = ["a short text", "a rather longer text, so that the other one is padded"]
_HINT = {"bfloat16": "bf16", "float32": "f32"}
_MASKED = torch.finfo(torch.bfloat16).min  # not float32's, which is infinite in 16 bits

log = logging.getLogger("pg_semantic.encoders")


class Compiled(nn.Module):
    """Stands in for a transformer: the same tensors in, the one output that is wanted."""

    def __init__(self, module: Transformer, *, precision: str, cached: Path) -> None:
        super().__init__()
        openvino = _import()
        self.config = module.model.config
        self._path = _output_path(module)
        sample = _sample(module)
        self._names = [name for name, value in sample.items() if isinstance(value, torch.Tensor)]
        compiled = _compiled(cached, precision) if cached.exists() else None
        if compiled is None:
            _convert(_Traced(module.model, sample, self._path), sample, target=cached)
            compiled = openvino.Core().compile_model(cached, "CPU", _hints(precision))
        self._request = compiled.create_infer_request()

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


def _hints(precision: str) -> dict[str, str]:
    return {"INFERENCE_PRECISION_HINT": _HINT[precision], "PERFORMANCE_HINT": "LATENCY"}


def _compiled(cached: Path, precision: str) -> Any:
    """What was converted before; None when its files are damaged."""
    try:
        return _import().Core().compile_model(cached, "CPU", _hints(precision))
    except RuntimeError as error:
        log.warning("%s is damaged and is made once more: %s", cached, str(error).strip().splitlines()[-1])
        return None


class _FiniteMasks(TorchFunctionMode):
    """Attention masks as numbers to be added, none of them infinite.

    Padding on the left, and windows within padding, leave rows of which everything is masked. torch makes zeros of
    these and OpenVINO makes NaN, which the next layer spreads.
    """

    def __torch_function__(  # noqa: PLR0917 - torch calls it so
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        mask = given.get("attn_mask")
        if function is nn.functional.scaled_dot_product_attention and mask is not None and mask.dtype == torch.bool:
            given["attn_mask"] = torch.where(mask, 0.0, _MASKED)
        return function(*args, **given)


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
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), torch.no_grad(), _FiniteMasks():
            warnings.simplefilter("ignore")  # of tracing: the self-check tells whether it went well
            converted = openvino.convert_model(traced, example_input=example)
    finally:
        transformers_logging.set_verbosity(verbosity)
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
