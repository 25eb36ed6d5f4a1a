"""What is written about a training into the new folder: figures and versions, and no text."""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pg_semantic.encoders import Encoder
from pg_semantic.training.pairs import Pair
from pg_semantic.training.report import Gain, TrainingReport

_FORMAT = 1
_PACKAGES = ("pg-semantic-index", "sentence-transformers", "torch", "transformers")
_COUNTS = ("queries", "pairs", "rows", "gone", "vectors", "is_sample")


def of(
    report: TrainingReport,
    encoder: Encoder,
    pairs: Sequence[Pair],
    *,
    side: str,
    settings: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Returns the record of a training, for JSON.

    Args:
        report: What training did.
        encoder: The encoder that it started from.
        pairs: What it was given. Only a hash of all of them together is recorded, from which no text can be guessed.
        side: Whose vectors have changed: ``queries``, or ``both``.
        settings: How it trained.
        seed: The seed.
    """
    base = {
        "reference": encoder.reference,
        "revision": encoder.revision,
        "fingerprint": encoder.fingerprint,
        "document_fingerprint": encoder.document_fingerprint,
    }
    return {"side": side} | about(report, pairs, base=base, settings=settings, seed=seed)


def about(
    report: TrainingReport,
    pairs: Sequence[Pair],
    *,
    base: Mapping[str, str],
    settings: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Returns the record of a training of anything, for JSON.

    Args:
        report: What training did.
        pairs: What it was given. Only a hash of all of them together is recorded, from which no text can be guessed.
        base: What it started from.
        settings: How it trained.
        seed: The seed.
    """
    return {
        "format": _FORMAT,
        "kind": report.kind,
        "base": dict(base),
        "pairs_sha256": pairs_hash(pairs),
        **{name: getattr(report, name) for name in _COUNTS},
        "seed": seed,
        "settings": dict(settings) | {"epochs": report.epochs, "decay": report.decay},
        "recommended": report.recommended,
        "held_out": _figures(report.held_out),
        "trained_on": None if report.trained_on is None else _figures(report.trained_on),
        "versions": versions(),
    }


def _figures(gain: Gain) -> dict[str, float | None]:
    """Returns figures for JSON, which has no infinity: the interval of a single component is as wide as that."""
    return {name: value if math.isfinite(value) else None for name, value in dataclasses.asdict(gain).items()}


def versions() -> dict[str, str]:
    """Returns the versions of the packages that train."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def pairs_hash(pairs: Sequence[Pair]) -> str:
    """Returns the hexadecimal SHA-256 of the pairs of query and key, in whatever order they are."""
    return hash_of((pair.query, pair.key) for pair in pairs)


def hash_of(texts: Iterable[tuple[str, str]]) -> str:
    """Returns the hexadecimal SHA-256 of pairs of texts, in whatever order they are."""
    return hashlib.sha256(json.dumps(sorted(set(texts))).encode()).hexdigest()
