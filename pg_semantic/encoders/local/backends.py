"""From a folder of weights to the fastest encoder that gives the vectors of the reference.

The reference is sentence-transformers in 32 bits. A back end that disagrees with it on the self-check, or fails, is
not used, and the log says so; one that was asked for by a setting is an error instead.
"""

import contextlib
import hashlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from pg_semantic import errors
from pg_semantic.encoders import equivalence
from pg_semantic.encoders import prompts as prompting
from pg_semantic.encoders.base import Backend
from pg_semantic.encoders.local import reference_vectors, weights
from pg_semantic.encoders.local.batching import TokenBudget
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.encoders.local.weights import Identity
from pg_semantic.index.encoder_catalog import Prompts

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
    """Loads a folder of safetensors weights; fewer ``dimensions`` than the encoder has truncate its vectors.

    ``prompts`` are put before texts in place of the encoder's own, and those of the catalog where it has none.
    ``is_new`` is for a folder that is being quantised: its vectors are held to those in 32 bits, and recorded.
    Raises `errors.EncoderError` when the folder can not be loaded or no back end that may be used is fit for it.
    """
    identity = weights.identify(reference, folder)
    is_quantised = weights.is_quantised(folder)
    if is_quantised:
        check_int8(settings, has_openvino=has_openvino())
    whole = open_whole(
        folder, reference=reference, dimensions=dimensions, device="cpu" if is_quantised else settings.device
    )
    used = prompting.apply(whole, reference, prompts)
    prompting.warn(reference, declared=prompts, loaded=used)
    fitting = _Fitting(whole, folder, identity=identity, settings=settings, is_new=is_new)
    troubles = []
    for backend in fitting.candidates(is_quantised=is_quantised):
        started = time.monotonic()
        try:
            encoder = fitting.fit(backend)
        except Exception as error:  # noqa: BLE001 - whatever a conversion raises, the next back end is tried
            log.warning("%s: %s is not used: %s", reference, backend, error)
            fitting.forget(backend)
            troubles.append(f"{backend}: {error}")
        else:
            log.info("%s: %s, ready in %.1f s", reference, backend, time.monotonic() - started)
            return encoder
    raise errors.EncoderError(f"Encoder {reference!r} in {folder} can not be used ({'; '.join(troubles)}).")


def candidates(device: str, settings: "Settings", *, has_openvino: bool) -> list[Backend]:
    """The back ends to try on a kind of device, the fastest first: all, or those that the settings leave.

    Raises `errors.SettingsError` for what can not be, and `errors.MissingExtra` for what is not installed.
    """
    if device == "cpu" and settings.precision == "float16":
        raise errors.SettingsError("PG_SEMANTIC_PRECISION=float16 is a hundred times slower than float32 on a CPU.")
    if settings.backend == "openvino":
        if device != "cpu":
            raise errors.SettingsError(f"PG_SEMANTIC_BACKEND=openvino computes on the CPU, not on {device}.")
        if not has_openvino:
            raise errors.MissingExtra("OpenVINO is not installed: pip install 'pg-semantic-index[cpu]'.")
    names = [settings.backend] if settings.backend != "auto" else ["openvino", "torch"]
    names = [name for name in names if name == "torch" or (device == "cpu" and has_openvino)]
    found = [Backend(name, _precision(name, device, settings)) for name in names]
    if settings.precision == "auto":
        found += [Backend(name, "float32") for name in names]
    return list(dict.fromkeys(found))


def check_int8(settings: "Settings", *, has_openvino: bool) -> None:
    """Raises when the settings or what is installed leave no way to compute a quantised encoder."""
    if not has_openvino:
        raise errors.MissingExtra("A quantised encoder needs OpenVINO: pip install 'pg-semantic-index[cpu]'.")
    for name, value, fitting in (
        ("BACKEND", settings.backend, ("auto", "openvino")),
        ("PRECISION", settings.precision, ("auto",)),
        ("DEVICE", settings.device, (None, "cpu")),
    ):
        if value not in fitting:
            raise errors.SettingsError(
                f"PG_SEMANTIC_{name}={value} does not fit a quantised encoder, which OpenVINO computes in int8 on the "
                f"CPU: leave it out, or take the encoder that was quantised."
            )


def _precision(name: str, device: str, settings: "Settings") -> str:
    if settings.precision != "auto":
        return settings.precision
    from pg_semantic import settings as environment  # loads pydantic
    from pg_semantic.encoders.local import openvino, torch

    if device == "cpu" and not environment.allows_bfloat16():
        return "float32"

    return openvino.precision_of_cpu() if name == "openvino" else torch.precision_of(settings.device or device)


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    import importlib.util

    return importlib.util.find_spec("openvino") is not None


def open_whole(folder: Path, *, reference: str, dimensions: int | None, device: str | None) -> "SentenceTransformer":
    """The encoder as sentence-transformers loads it, in 32 bits. Raises `errors.EncoderError` when it can not."""
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
        raise errors.EncoderError(f"Encoder {reference!r} in {folder} can not be loaded: {error}") from error


def transformers_of(whole: "SentenceTransformer") -> list[Any]:
    """The modules with a transformer; a router may have several."""
    from sentence_transformers.base.modules import Transformer

    return [module for module in whole.modules() if isinstance(module, Transformer)]


class _Fitting:
    """Tries back ends on the transformers inside a `SentenceTransformer`."""

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
        self._expected = equivalence.reference(whole)
        self._modules = transformers_of(whole)
        self._originals = [module.model for module in self._modules]

    def candidates(self, *, is_quantised: bool) -> list[Backend]:
        """The back ends to try; a table of words has nothing that another could compute."""
        if not self._modules:
            return [PLAIN]
        return [INT8] if is_quantised else candidates(self.device, self._settings, has_openvino=has_openvino())

    def fit(self, backend: Backend) -> TransformerEncoder:
        """The encoder with this back end. Raises whatever goes wrong, and ValueError when its vectors are others."""
        for number, (module, original) in enumerate(zip(self._modules, self._originals, strict=True)):
            module.model = original
            if backend != PLAIN:
                module.model = self._stand_in(module, backend, number=number)
        budget = TokenBudget(self._settings.token_budget)
        encoder = TransformerEncoder(self._whole, identity=self._identity, backend=backend, budget=budget)
        encoder.least_cosine = equivalence.least_cosine(encoder, self._expected)
        if backend == INT8 and not self._is_new:
            reference_vectors.require(self._whole, weights.recorded(self._folder))
        elif encoder.least_cosine < (equivalence.LEAST_COSINE_INT8 if backend == INT8 else equivalence.LEAST_COSINE):
            raise ValueError(f"its vectors differ from the reference's (cosine {encoder.least_cosine:.5f})")
        if self._is_new:
            reference_vectors.save(self._whole, weights.recorded(self._folder))
        return encoder

    def forget(self, backend: Backend) -> None:
        """Has what was converted made anew the next time: its file may have been damaged."""
        if backend.name == "openvino" and backend != INT8:
            for number, module in enumerate(self._modules):
                module.model = self._originals[number]
                with contextlib.suppress(OSError):
                    self._cached(module, number=number).unlink(missing_ok=True)

    def _stand_in(self, module: Any, backend: Backend, *, number: int) -> Any:
        from pg_semantic.encoders.local import openvino, torch

        if backend.name == "torch":
            return torch.Halved(module.model, backend.precision)
        if backend == INT8:  # the rest stays in 32 bits: 16 are hardly faster, and not on all machines
            return openvino.Compiled(module, precision="float32", converted=weights.quantised(self._folder, number))
        return openvino.cached(module, precision=backend.precision, at=self._cached(module, number=number))

    def _cached(self, module: Any, *, number: int) -> Path:
        """Where the converted transformer is kept, by all that decides what it is."""
        import transformers

        from pg_semantic.encoders.local import openvino

        parts = [self._identity.digest, module.config.to_json_string(), number]
        parts += [openvino.version(), transformers.__version__, openvino.RECIPE]
        name = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        folder = self._settings.cache_folder or platformdirs.user_cache_path("pg_semantic")
        return folder.expanduser() / "openvino" / name / "transformer.xml"
