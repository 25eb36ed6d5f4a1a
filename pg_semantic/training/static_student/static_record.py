"""What is written about a distillation into the student's folder: figures and versions, and no text."""

import dataclasses
import importlib.metadata
from typing import Any

from pg_semantic.encoders import Encoder
from pg_semantic.training.static_student.fit import TableRecipe
from pg_semantic.training.static_student.report import StaticReport
from pg_semantic.training.static_student.static_training import StaticTraining

_FORMAT = 1
_PACKAGES = ("pg-semantic-index", "sentence-transformers", "tokenizers", "torch")
_NOT_RECORDED = {"index", "folder", "seconds"}


def of(found: StaticReport, encoder: Encoder, *, recipe: TableRecipe, options: StaticTraining) -> dict[str, Any]:
    """Returns the record of a distillation, for JSON.

    Args:
        found: What distilling did.
        encoder: The encoder that the student imitates.
        recipe: How it was trained.
        options: What was asked for.
    """
    names = [field.name for field in dataclasses.fields(options) if field.name != "where"]
    settings = {name: getattr(options, name) for name in names}
    figures = {name: value for name, value in dataclasses.asdict(found).items() if name not in _NOT_RECORDED}
    return {
        "format": _FORMAT,
        "side": "both",
        "kind": "static",
        "base": {
            "reference": encoder.reference,
            "revision": encoder.revision,
            "fingerprint": encoder.fingerprint,
            "document_fingerprint": encoder.document_fingerprint,
        },
        **figures,
        "settings": settings | {"conditions": len(options.where), "recipe": dataclasses.asdict(recipe)},
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
