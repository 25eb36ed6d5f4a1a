"""The OpenVINO back end: the transformer converted as it stands and compiled for the CPU.

Only the transformer: pooling, dense layers and normalisation stay sentence-transformers' own.
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
"""Of the conversion below; another one makes other files."""

_SAMPLE = ["a short text", "a rather longer text, so that the other one is padded"]
_HINT = {"bfloat16": "bf16", "float32": "f32"}
_MASKED = torch.finfo(torch.bfloat16).min  # not float32's, which is infinite in 16 bits

_PADDED = {"input_ids", "attention_mask", "token_type_ids"}
_BY_TOKEN = 3  # dimensions of an output that has a vector for each token
_FINEST = 4

_FIRST = threading.Lock()

log = logging.getLogger("pg_semantic.encoders")


class Compiled(nn.Module):
    """Stands in for a transformer: the same tensors in, the one output that is wanted."""

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
        """The transformer's output where sentence-transformers looks for it."""
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
        """A request of the calling thread's own, on a share of the cores; made when it is first needed."""
        if not hasattr(self._of_thread, "request"):
            with self._compiling:
                self._shared = self._shared or self._compile("THROUGHPUT")
            self._of_thread.request = self._shared.create_infer_request()
        return self._of_thread.request

    def _compile(self, hint: str) -> Any:
        hints = {"INFERENCE_PRECISION_HINT": _HINT[self._precision], "PERFORMANCE_HINT": hint}
        return import_().Core().compile_model(self._converted, "CPU", hints)


def rounded(width: int) -> int:
    """A width a little larger, of few that there are: for each new shape OpenVINO makes code, in 5 to 20 ms."""
    step = max(_FINEST, (1 << (width - 1).bit_length()) // 16)
    return -(-width // step) * step


def _padded(array: Any, width: int) -> Any:
    """Texts with masked tokens at their ends."""
    wider = np.zeros((len(array), width), array.dtype)
    wider[:, : array.shape[1]] = array
    return wider


def cached(module: Transformer, *, precision: str, at: Path) -> Compiled:
    """A transformer compiled from its file; converted to there first when the file is missing or damaged."""
    if at.exists():
        try:
            return Compiled(module, precision=precision, converted=at)
        except RuntimeError as error:
            log.warning("%s is damaged and is made once more: %s", at, str(error).strip().splitlines()[-1])
    convert(module, at=at)
    return Compiled(module, precision=precision, converted=at)


def convert(module: Transformer, *, at: Path) -> None:
    """Writes the transformer as OpenVINO reads it, in 32 bits: ``at`` with the graph, beside it ``.bin``."""
    sample = _sample(module)
    save(_converted(_Traced(module.model, sample, _output_path(module)), sample), at=at)


def save(converted: Any, *, at: Path) -> None:
    """Writes what was converted, so that the file that is looked for comes last."""
    at.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=at.parent) as folder:
        made = Path(folder) / at.name
        import_().save_model(converted, made, compress_to_fp16=False)
        for file in (made.with_suffix(".bin"), made):
            file.replace(at.with_suffix(file.suffix))


def read(converted: Path) -> Any:
    """What was converted, as OpenVINO's tools take it."""
    return import_().Core().read_model(converted)


def tensors(features: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Those of the features that are tensors."""
    return {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}


def reader(module: Transformer) -> Callable[[str], list[Any]]:
    """A function that gives what the converted transformer reads for a text, in the order of its inputs."""
    names = list(tensors(_sample(module)))

    def read(text: str) -> list[Any]:
        features = module.preprocess([text])
        return [features[name].numpy() for name in names]

    return read


def precision_of_cpu() -> str:
    """The fastest precision of this CPU that keeps an encoder's accuracy."""
    capabilities = import_().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bfloat16" if "BF16" in capabilities else "float32"


def version() -> str:
    """The release, on which what is converted depends. Raises ImportError where OpenVINO is not installed."""
    return str(import_().get_version())


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


def _converted(traced: _Traced, sample: dict[str, Any]) -> Any:
    example = tuple(value.clone() for value in tensors(sample).values())
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), torch.no_grad(), _FiniteMasks():
            warnings.simplefilter("ignore")  # of tracing: the self-check tells whether it went well
            converted = import_().convert_model(traced, example_input=example)
    finally:
        transformers_logging.set_verbosity(verbosity)
    if len(converted.inputs) != len(example):
        raise ValueError(f"{len(converted.inputs)} of {len(example)} inputs were left by the conversion")
    return converted


def import_() -> Any:
    """OpenVINO, which sends no reports, ready for several threads. Raises ImportError where it is not installed.

    Its bindings look numpy up when they first see an array, and two threads that do so at once can wait for each other
    for ever: one for the interpreter, the other for the look-up. So the first array is seen here, by one thread.
    """
    with _FIRST, without_telemetry("openvino"):
        import openvino

        openvino.Tensor(np.empty(1, np.float32))
    return openvino


@contextlib.contextmanager
def without_telemetry(package: str) -> Iterator[None]:
    """For the import of a package that reports its use to its makers unless the package for that is missing."""
    name = "openvino_telemetry"
    if name in sys.modules or package in sys.modules:  # somebody else's choice
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
