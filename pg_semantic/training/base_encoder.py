"""`BaseEncoder`: the encoder of an index that training starts from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pg_semantic import encoders, errors
from pg_semantic.encoders import Encoder
from pg_semantic.encoders.base import Vectors
from pg_semantic.registry import Generation
from pg_semantic.training.time_limit import TimeLimit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pg_semantic.settings import Settings

_AT_ONCE = 1_000  # queries

RECORD = "training.json"
"""The file in an encoder's folder that says how it was trained."""


@dataclass(frozen=True, slots=True)
class BaseEncoder:
    """An encoder to train.

    Attributes:
        encoder: The encoder as searches use it.
        whole: The same with sentence-transformers, in 32 bits, with the prompts of the index.
    """

    encoder: Encoder
    whole: "SentenceTransformer"

    def encode_queries(self, texts: Sequence[str], *, limit: TimeLimit) -> Vectors:
        """Returns the vectors of queries, shape (texts, dimensions).

        Raises:
            errors.ConfigurationError: The time limit is too short for all of them.
        """
        parts = [list(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
        encoded = [self.encoder.encode_queries(part) for part in limit.parts(parts, what="encoding the queries")]
        return np.concatenate([np.zeros((0, self.encoder.dimensions), np.float32), *encoded])


def load(generation: Generation, settings: "Settings", *, from_trained: bool) -> BaseEncoder:
    """Loads the encoder to start from: that of a generation, or the first one that its queries' side was trained from.

    Training again and again on top of the last encoder would make it forget more each time.

    Args:
        generation: The generation whose vectors stay as they are.
        settings: Where to find the weights, and the device.
        from_trained: Whether to start from the generation's encoder even if it was trained by this package.

    Raises:
        errors.EncoderError: The encoder cannot be trained, or not be loaded.
        errors.EncoderMismatch: The stored vectors come from other weights.
        errors.MissingExtra: The extra ``encode`` isn't installed.
    """
    known = generation.spec.encoder
    reference = reference_of(generation, settings, from_trained=from_trained)
    folder = _folder(reference, settings)
    encoder = encoders.load(
        reference,
        dimensions=known.dimensions,
        query_prompt=known.query_prompt,
        document_prompt=known.document_prompt,
        settings=settings,
    )
    _require_same_documents(generation, encoder)
    from pg_semantic.encoders import prompt_precedence
    from pg_semantic.encoders.local import backends  # imports torch

    whole = backends.open_whole(folder, reference=reference, dimensions=known.dimensions, device=settings.device)
    prompt_precedence.apply(whole, reference, prompt_precedence.declared(reference, known.prompts, settings))
    return BaseEncoder(encoder, whole)


def reference_of(generation: Generation, settings: "Settings", *, from_trained: bool) -> str:
    """Returns the reference of the encoder to start from; see `load`. Loads nothing.

    Raises:
        errors.EncoderError: The encoder cannot be trained.
    """
    known = generation.spec.encoder.reference
    found = known if from_trained else original(known, settings)
    _folder(found, settings)
    return found


def original(reference: str, settings: "Settings") -> str:
    """Returns the reference of the encoder that this one goes back to by trainings of its queries' side alone.

    Args:
        reference: The encoder.
        settings: Where to find the weights.

    Raises:
        errors.EncoderError: An encoder on the way cannot be trained, was trained for documents too, or has a damaged
            record.
    """
    known = [reference]
    while (before := _trained_from(known[-1], _folder(known[-1], settings))) and before not in known:
        known.append(before)
    return known[-1]


def _trained_from(reference: str, folder: Path) -> str | None:
    """Returns the reference of the encoder that this one was trained from; None if it wasn't trained here."""
    if not (folder / RECORD).exists():
        return None
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        side, before = record["side"], str(record["base"]["reference"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.EncoderError(
            f"Encoder {reference!r}: {folder / RECORD} isn't a record of a training by pg_semantic: restore it, or "
            "pass from_trained (--from-trained)."
        ) from error
    if side != "queries":
        raise errors.EncoderError(
            f"Encoder {reference!r} was trained already ({folder / RECORD}), and training again and again on the same "
            "judgements makes an encoder forget the rest: train an index of the original encoder, or pass from_trained "
            "(--from-trained)."
        )
    return before


def _require_same_documents(generation: Generation, encoder: Encoder) -> None:
    """Raises `errors.EncoderMismatch` unless the encoder gives documents the vectors that are stored."""
    known = generation.spec.encoder.reference
    is_own = encoder.reference == known
    stored = generation.fingerprint if is_own else generation.document_fingerprint
    loaded = encoder.fingerprint if is_own else encoder.document_fingerprint
    if stored is None or stored == loaded:
        return
    if not is_own:
        raise errors.EncoderMismatch(
            f"Encoder {known!r} was trained from {encoder.reference!r}, but that one has other weights here than at "
            "that time: restore them, or pass from_trained (--from-trained) to start from the trained encoder."
        )
    raise errors.EncoderMismatch(
        f"The vectors of {generation.title} come from encoder {known!r}, {generation.revision} (fingerprint "
        f"{stored}), but the loaded encoder is {encoder.revision} (fingerprint {loaded}): load the same weights, "
        "prompts and limits."
    )


def _folder(reference: str, settings: "Settings") -> Path:
    """Returns the folder of the weights, unless the encoder cannot be trained."""
    from pg_semantic.encoders.local import weights

    if reference in settings.encoder_urls:
        raise errors.EncoderError(
            f"Encoder {reference!r} runs on a server (PG_SEMANTIC_ENCODER_URLS), and training needs its weights: train "
            "an index whose encoder is a hub name or a folder."
        )
    if reference.startswith("hashed:"):
        raise errors.EncoderError(
            f"Encoder {reference!r} has no weights to train: train an index whose encoder is a hub name or a folder."
        )
    folder = weights.folder(reference, settings.encoder_paths)
    if weights.is_quantized(folder):
        raise errors.EncoderError(
            f"Encoder {reference!r} is quantized to int8, which cannot be trained: train an index of the original "
            "encoder."
        )
    return folder
