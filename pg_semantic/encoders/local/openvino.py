"""The OpenVINO back end: converts an encoder's transformer and compiles it for the CPU.

Pooling, dense layers and normalization remain those of sentence-transformers.
"""

import contextlib
import logging
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import Transformer
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers.utils import logging as transformers_logging

from pg_semantic.encoders.local import cpu_streams

RECIPE = 2
"""Version of the conversion in this module. Increase it when the conversion changes, so that files are rebuilt."""

_SAMPLE = ["a short text", "a rather longer text, so that the other one is padded"]
_HINT = {"bfloat16": "bf16", "float32": "f32"}
_MASKED = torch.finfo(torch.bfloat16).min  # float32's minimum would be infinite in 16 bits

_PADDED = {"input_ids", "attention_mask", "token_type_ids"}
_BY_TOKEN = 3  # number of axes of an output with one vector per token
_FINEST = 4

_FIRST = threading.Lock()

log = logging.getLogger("pg_semantic.encoders")


class Compiled(nn.Module):
    """Replaces a module's transformer: takes the same tensors, and returns only the output that the module uses.

    Args:
        module: The module whose transformer is replaced.
        precision: ``float32`` or ``bfloat16``.
        converted: The converted transformer.
    """

    def __init__(self, module: Transformer, *, precision: str, converted: Path) -> None:
        super().__init__()
        self.config = module.model.config
        self._path = _output_path(module)
        self._names = list(tensors(_sample(module)))
        self._longest = module.max_seq_length if _PADDED.issuperset(self._names) else 0
        self._converted = converted
        self._precision = precision
        self._request = self._compile("LATENCY").create_infer_request()
        self._in_use = threading.Lock()
        self._compiling = threading.Lock()
        self._shared: Any = None
        self._of_thread = threading.local()

    def forward(self, **features: Any) -> Any:
        """Runs the transformer, and returns its output in the structure that sentence-transformers expects."""
        given = [features[name].numpy() for name in self._names]
        width = given[0].shape[1]
        if self._longest and width < self._longest:
            given = [_padded(array, min(rounded(width), self._longest)) for array in given]
        [made] = self._infer(dict(enumerate(given))).values()
        output: Any = torch.from_numpy(made[:, :width] if made.ndim == _BY_TOKEN else made)
        for key in reversed(self._path):
            output = {key: output}
        return output

    def _infer(self, given: dict[int, Any]) -> Any:
        if cpu_streams.is_one():
            return self._request_of_thread().infer(given)
        with self._in_use:
            return self._request.infer(given)

    def _request_of_thread(self) -> Any:
        """Returns an inference request for the calling thread, on a share of the cores; created on first use."""
        if not hasattr(self._of_thread, "request"):
            with self._compiling:
                self._shared = self._shared or self._compile("THROUGHPUT")
            self._of_thread.request = self._shared.create_infer_request()
        return self._of_thread.request

    def _compile(self, hint: str) -> Any:
        hints = {"INFERENCE_PRECISION_HINT": _HINT[self._precision], "PERFORMANCE_HINT": hint}
        return import_().Core().compile_model(self._converted, "CPU", hints)


def rounded(width: int) -> int:
    """Rounds a width up to one of a few values, because OpenVINO takes 5 to 20 ms to generate code for a new shape."""
    step = max(_FINEST, (1 << (width - 1).bit_length()) // 16)
    return -(-width // step) * step


def _padded(array: Any, width: int) -> Any:
    """Pads texts with masked tokens at the end."""
    wider = np.zeros((len(array), width), array.dtype)
    wider[:, : array.shape[1]] = array
    return wider


def cached(module: Transformer, *, precision: str, at: Path) -> Compiled:
    """Compiles a transformer from the file ``at``. If the file is missing or damaged, converts it first."""
    if at.exists():
        try:
            return Compiled(module, precision=precision, converted=at)
        except RuntimeError as error:
            said = str(error).strip().splitlines()[-1]
            log.warning("%s is damaged, converting again: %s", at, said, extra={"event": "conversion_damaged"})
    convert(module, at=at)
    return Compiled(module, precision=precision, converted=at)


def convert(module: Transformer, *, at: Path) -> None:
    """Converts a transformer to OpenVINO's format, in float32.

    Args:
        module: The module that contains the transformer.
        at: The ``.xml`` file for the graph; the weights go to a ``.bin`` file next to it.
    """
    sample = _sample(module)
    save(_converted(_Traced(module.model, sample, _output_path(module)), sample), at=at)


def save(converted: Any, *, at: Path) -> None:
    """Writes a converted transformer; the file ``at`` last, because its existence means that both are complete."""
    at.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=at.parent) as folder:
        made = Path(folder) / at.name
        import_().save_model(converted, made, compress_to_fp16=False)
        for file in (made.with_suffix(".bin"), made):
            file.replace(at.with_suffix(file.suffix))


def read(converted: Path) -> Any:
    """Reads a converted transformer, for OpenVINO's tools."""
    return import_().Core().read_model(converted)


def tensors(features: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Returns the features that are tensors."""
    return {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}


def reader(module: Transformer) -> Callable[[str], list[Any]]:
    """Returns a function from a text to the converted transformer's inputs, in their order."""
    names = list(tensors(_sample(module)))

    def read(text: str) -> list[Any]:
        features = module.preprocess([text])
        return [features[name].numpy() for name in names]

    return read


def precision_of_cpu() -> str:
    """Returns the fastest precision of this CPU that preserves an encoder's accuracy."""
    capabilities = import_().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bfloat16" if "BF16" in capabilities else "float32"


def version() -> str:
    """Returns OpenVINO's version, on which converted files depend.

    Raises:
        ImportError: OpenVINO isn't installed.
    """
    return str(import_().get_version())


class _FiniteMasks(TorchFunctionMode):
    """Turns boolean attention masks into finite numbers to add.

    With padding on the left, or attention windows within padding, some rows are masked completely. Torch turns these
    into zeros, but OpenVINO into NaN, which spreads in the next layer.
    """

    def __torch_function__(  # noqa: PLR0917 - torch requires this signature
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        mask = given.get("attn_mask")
        if function is nn.functional.scaled_dot_product_attention and mask is not None and mask.dtype == torch.bool:
            given["attn_mask"] = torch.where(mask, 0.0, _MASKED)
        return function(*args, **given)


class _Recorder(nn.Module):
    """Records the arguments of a transformer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.config = inner.config
        self.inner = inner
        self.features: dict[str, Any] = {}

    def forward(self, **features: Any) -> Any:
        self.features = features
        return self.inner(**features)


class _Traced(nn.Module):
    """A transformer as a function of positional tensors, so that it can be traced."""

    def __init__(self, inner: nn.Module, sample: dict[str, Any], path: tuple[Any, ...]) -> None:
        super().__init__()
        self.inner = inner
        self._names = list(tensors(sample))
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
    """Returns the transformer's arguments for a batch of two texts, one of them padded."""
    inner = module.model
    recorder = _Recorder(inner)
    module.model = recorder
    try:
        with torch.inference_mode():
            module(module.preprocess(_SAMPLE))
    finally:
        module.model = inner
    return {name: value for name, value in recorder.features.items() if value is not None}


def _converted(traced: _Traced, sample: dict[str, Any]) -> Any:
    example = tuple(value.clone() for value in tensors(sample).values())
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), torch.no_grad(), _FiniteMasks():
            warnings.simplefilter("ignore")  # from tracing; the self-check tells whether it worked
            converted = import_().convert_model(traced, example_input=example)
    finally:
        transformers_logging.set_verbosity(verbosity)
    if len(converted.inputs) != len(example):
        raise ValueError(f"only {len(converted.inputs)} of {len(example)} inputs remain after the conversion")
    return converted


def import_() -> Any:
    """Imports OpenVINO, without telemetry and safe to use from several threads.

    Its bindings look up numpy when they first see an array. Two threads that do this at once can deadlock: one waits
    for the interpreter, the other for the lookup. So this function passes a first array, under a lock.

    Raises:
        ImportError: OpenVINO isn't installed.
    """
    with _FIRST, without_telemetry("openvino"):
        import openvino

        openvino.Tensor(np.empty(1, np.float32))
    return openvino


@contextlib.contextmanager
def without_telemetry(package: str) -> Iterator[None]:
    """Disables OpenVINO's telemetry while a package is imported, by making the telemetry package unavailable."""
    name = "openvino_telemetry"
    if name in sys.modules or package in sys.modules:  # already imported elsewhere: respect that
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
