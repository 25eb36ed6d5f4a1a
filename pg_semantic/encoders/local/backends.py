"""Loads weights into the fastest back end that computes the same vectors as the reference.

The reference is sentence-transformers in 32-bit arithmetic. A back end that fails, or doesn't pass the self-check, is
skipped and logged. If a setting requires that back end, it is an error instead.
"""

import contextlib
import hashlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from pg_semantic import errors
from pg_semantic.encoders import prompt_precedence as prompting
from pg_semantic.encoders import self_check
from pg_semantic.encoders.base import Backend, Vectors
from pg_semantic.encoders.local import fingerprints, reference_vectors, token_budget, weights
from pg_semantic.encoders.local.token_budget import TokenBudget
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.encoders.local.weights import Identity
from pg_semantic.index.known_encoders import Prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pg_semantic.settings import Settings

log = logging.getLogger("pg_semantic.encoders")


PLAIN = Backend("torch", "float32")
INT8 = Backend("openvino", "int8")


def load(
    folder: Path,
    *,
    reference: str,
    dimensions: int | None,
    prompts: Prompts = Prompts(),  # noqa: B008 - frozen
    settings: "Settings",
    is_new: bool = False,
) -> TransformerEncoder:
    """Loads safetensors weights; ``dimensions`` truncates vectors, ``prompts`` replace those of encoder and catalog.

    Args:
        is_new: Compares a newly quantized encoder's vectors with the 32-bit ones, and records them.

    Raises:
        errors.EncoderError: The folder cannot be loaded, or no allowed back end passes the self-check.
    """
    identity = weights.identify(reference, folder)
    is_quantized = weights.is_quantized(folder)
    if is_quantized:
        check_int8(settings, has_openvino=has_openvino())
    whole = open_whole(
        folder, reference=reference, dimensions=dimensions, device="cpu" if is_quantized else settings.device
    )
    used = prompting.apply(whole, reference, prompts)
    prompting.warn(reference, declared=prompts, loaded=used)
    fitting = _Fitting(whole, folder, identity=identity, settings=settings, is_new=is_new)
    problems = []
    for backend in fitting.candidates(is_quantized=is_quantized):
        started = time.monotonic()
        try:
            encoder = fitting.fit(backend)
        except Exception as error:  # noqa: BLE001 - a conversion can raise anything: try the next back end
            log.warning("%s: %s is not used: %s", reference, backend, error, extra={"event": "back_end_not_used"})
            fitting.forget(backend)
            problems.append(f"{backend}: {error}")
        else:
            _log_ready(reference, backend, time.monotonic() - started)
            return encoder
    raise errors.EncoderError(f"No back end can run encoder {reference!r} in {folder} ({'; '.join(problems)}).")


def _log_ready(reference: str, backend: Backend, seconds: float) -> None:
    log.info("%s: %s, ready in %.1f s", reference, backend, seconds, extra={"event": "encoder_ready"})


def candidates(device: str, settings: "Settings", *, has_openvino: bool) -> list[Backend]:
    """Returns the back ends to try, fastest first.

    Args:
        device: The type of device, such as ``cpu`` or ``cuda``.
        settings: Its ``backend`` and ``precision`` narrow down the choice.
        has_openvino: Whether OpenVINO is installed.

    Raises:
        errors.ConfigurationError: The settings don't work on this device.
        errors.MissingExtra: The settings require OpenVINO, which isn't installed.
    """
    if device == "cpu" and settings.precision == "float16":
        raise errors.ConfigurationError(
            "PG_SEMANTIC_PRECISION=float16 is a hundred times slower than float32 on a CPU: use auto or float32."
        )
    if settings.backend == "openvino":
        if device != "cpu":
            raise errors.ConfigurationError(
                f"PG_SEMANTIC_BACKEND=openvino runs only on the CPU, not on {device}: use auto or torch, or set "
                "PG_SEMANTIC_DEVICE=cpu."
            )
        if not has_openvino:
            raise errors.MissingExtra("OpenVINO is not installed: pip install 'pg-semantic-index[cpu]'.")
    names = [settings.backend] if settings.backend != "auto" else ["openvino", "torch"]
    names = [name for name in names if name == "torch" or (device == "cpu" and has_openvino)]
    found = [Backend(name, _precision(name, device, settings)) for name in names]
    if settings.precision == "auto":
        found += [Backend(name, "float32") for name in names]
    return list(dict.fromkeys(found))


def check_int8(settings: "Settings", *, has_openvino: bool) -> None:
    """Checks that a quantized encoder can run here.

    Raises:
        errors.MissingExtra: OpenVINO isn't installed.
        errors.ConfigurationError: A setting requires another back end, precision or device.
    """
    if not has_openvino:
        raise errors.MissingExtra("A quantized encoder needs OpenVINO: pip install 'pg-semantic-index[cpu]'.")
    for name, value, fitting in (
        ("BACKEND", settings.backend, ("auto", "openvino")),
        ("PRECISION", settings.precision, ("auto",)),
        ("DEVICE", settings.device, (None, "cpu")),
    ):
        if value not in fitting:
            raise errors.ConfigurationError(
                f"PG_SEMANTIC_{name}={value} doesn't work with a quantized encoder, which OpenVINO runs in int8 on the "
                f"CPU: unset it, or use the original encoder."
            )


def _precision(name: str, device: str, settings: "Settings") -> str:
    if settings.precision != "auto":
        return settings.precision
    from pg_semantic import settings as environment  # imports pydantic
    from pg_semantic.encoders.local import openvino, torch

    if device == "cpu" and not environment.allows_bfloat16():
        return "float32"

    return openvino.precision_of_cpu() if name == "openvino" else torch.precision_of(settings.device or device)


def has_openvino() -> bool:
    """Returns whether OpenVINO is installed."""
    import importlib.util

    return importlib.util.find_spec("openvino") is not None


def open_whole(folder: Path, *, reference: str, dimensions: int | None, device: str | None) -> "SentenceTransformer":
    """Loads an encoder with sentence-transformers, in float32.

    Args:
        folder: A folder with safetensors weights.
        reference: The encoder reference, for messages.
        dimensions: Truncates vectors to this many dimensions.
        device: A torch device; by default the fastest one available.

    Raises:
        errors.EncoderError: The folder cannot be loaded.
        errors.MissingExtra: The extra ``encode`` isn't installed.
    """
    try:
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise weights.missing_extra(reference) from error
    transformers_logging.disable_progress_bar()
    try:
        return SentenceTransformer(
            str(folder),
            device=device,
            truncate_dim=dimensions,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        ).eval()
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise errors.EncoderError(f"Encoder {reference!r} in {folder} cannot be loaded: {error}") from error


def transformers_of(whole: "SentenceTransformer") -> list[Any]:
    """Returns the modules that contain a transformer; a router can have several."""
    from sentence_transformers.base.modules import Transformer

    return [module for module in whole.modules() if isinstance(module, Transformer)]


def _require_one_length(reference: str, expected: tuple[Vectors, Vectors]) -> None:
    of_documents, of_queries = (vectors.shape[1] for vectors in expected)
    if of_documents != of_queries:
        raise errors.EncoderError(
            f"Encoder {reference!r} cannot search: its vectors have {of_documents} dimensions for documents, but "
            f"{of_queries} for queries. Both routes of its router must end with the same number of dimensions."
        )


class _Fitting:
    """Tries back ends for the transformers inside a `SentenceTransformer`."""

    def __init__(
        self,
        whole: "SentenceTransformer",
        folder: Path,
        *,
        identity: Identity,
        settings: "Settings",
        is_new: bool = False,
    ) -> None:
        self.device = whole.device.type
        self._is_new = is_new
        self._whole = whole
        self._folder = folder
        self._identity = identity
        self._settings = settings
        self._modules = transformers_of(whole)
        self._fingerprints = fingerprints.of(whole, digest=identity.digest, quantized=self._quantized())
        self._expected = self_check.reference(whole)
        _require_one_length(identity.reference, self._expected)
        self._originals = [module.model for module in self._modules]

    def _quantized(self) -> dict[int, tuple[Path, ...]] | None:
        """Returns the files of each quantized transformer by the `id` of its module; None if none is quantized."""
        if not self._modules or not weights.is_quantized(self._folder):
            return None
        graphs = [weights.quantized(self._folder, number) for number in range(len(self._modules))]
        files = [(graph, graph.with_suffix(".bin")) for graph in graphs]
        return {id(module): both for module, both in zip(self._modules, files, strict=True)}

    def candidates(self, *, is_quantized: bool) -> list[Backend]:
        """Returns the back ends to try; only torch for word embeddings, which have no transformer to replace."""
        if not self._modules:
            return [PLAIN]
        return [INT8] if is_quantized else candidates(self.device, self._settings, has_openvino=has_openvino())

    def fit(self, backend: Backend) -> TransformerEncoder:
        """Returns the encoder with this back end; raises ValueError if its vectors differ, and any other failure."""
        for number, (module, original) in enumerate(zip(self._modules, self._originals, strict=True)):
            module.model = original
            if backend != PLAIN:
                module.model = self._stand_in(module, backend, number=number)
        budget = TokenBudget(self._settings.token_budget or (None if self._modules else token_budget.OF_A_TABLE))
        encoder = TransformerEncoder(
            self._whole, identity=self._identity, fingerprints=self._fingerprints, backend=backend, budget=budget
        )
        encoder.least_cosine = self_check.least_cosine(encoder, self._expected)
        if backend == INT8 and not self._is_new:
            reference_vectors.require(self._whole, weights.recorded(self._folder))
        elif encoder.least_cosine < (self_check.LEAST_COSINE_INT8 if backend == INT8 else self_check.LEAST_COSINE):
            raise ValueError(f"its vectors differ from the reference's (cosine {encoder.least_cosine:.5f})")
        if self._is_new:
            reference_vectors.save(self._whole, weights.recorded(self._folder))
        return encoder

    def forget(self, backend: Backend) -> None:
        """Deletes the converted files, which may be damaged, so that the next load converts again."""
        if backend.name == "openvino" and backend != INT8:
            for number, module in enumerate(self._modules):
                module.model = self._originals[number]
                with contextlib.suppress(OSError):
                    self._cached(module, number=number).unlink(missing_ok=True)

    def _stand_in(self, module: Any, backend: Backend, *, number: int) -> Any:
        from pg_semantic.encoders.local import openvino, torch

        if backend.name == "torch":
            return torch.Halved(module.model, backend.precision)
        if backend == INT8:  # the rest stays in 32 bits: 16 are hardly faster, and only on some machines
            return openvino.Compiled(module, precision="float32", converted=weights.quantized(self._folder, number))
        return openvino.cached(module, precision=backend.precision, at=self._cached(module, number=number))

    def _cached(self, module: Any, *, number: int) -> Path:
        """Returns the path of the converted transformer, named after a hash of everything that it depends on."""
        import transformers

        from pg_semantic.encoders.local import openvino

        parts = [self._identity.digest, module.config.to_json_string(), number]
        parts += [openvino.version(), transformers.__version__, openvino.RECIPE]
        name = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        folder = self._settings.cache_folder or platformdirs.user_cache_path("pg_semantic")
        return folder.expanduser() / "openvino" / name / "transformer.xml"
