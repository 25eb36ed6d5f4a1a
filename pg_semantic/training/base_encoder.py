"""`BaseEncoder`: the encoder of an index that training starts from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pg_semantic import encoders, errors
from pg_semantic.encoders import Encoder
from pg_semantic.registry import Generation

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pg_semantic.settings import Settings

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


def load(generation: Generation, settings: "Settings", *, from_trained: bool) -> BaseEncoder:
    """Loads the encoder of a generation, to train it.

    Args:
        generation: The generation whose vectors stay as they are.
        settings: Where to find the weights, and the device.
        from_trained: Whether to accept an encoder that was trained by this package.

    Raises:
        errors.EncoderError: The encoder cannot be trained, or not be loaded.
        errors.EncoderMismatch: The stored vectors come from other weights.
        errors.MissingExtra: The extra ``encode`` isn't installed.
    """
    known = generation.spec.encoder
    folder = _folder(known.reference, settings, from_trained=from_trained)
    encoder = encoders.load(
        known.reference,
        dimensions=known.dimensions,
        query_prompt=known.query_prompt,
        document_prompt=known.document_prompt,
        settings=settings,
    )
    if generation.fingerprint is not None and generation.fingerprint != encoder.fingerprint:
        raise errors.EncoderMismatch(
            f"The vectors of {generation.title} come from encoder {known.reference!r}, {generation.revision} "
            f"(fingerprint {generation.fingerprint}), but the loaded encoder is {encoder.revision} (fingerprint "
            f"{encoder.fingerprint}): load the same weights, prompts and limits."
        )
    from pg_semantic.encoders import prompt_precedence
    from pg_semantic.encoders.local import backends  # imports torch

    whole = backends.open_whole(folder, reference=known.reference, dimensions=known.dimensions, device=settings.device)
    prompt_precedence.apply(
        whole, known.reference, prompt_precedence.declared(known.reference, known.prompts, settings)
    )
    return BaseEncoder(encoder, whole)


def _folder(reference: str, settings: "Settings", *, from_trained: bool) -> Path:
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
    if (folder / RECORD).exists() and not from_trained:
        raise errors.EncoderError(
            f"Encoder {reference!r} was trained already ({folder / RECORD}), and training again and again on the same "
            "judgements makes an encoder forget the rest: train an index of the original encoder, or pass from_trained "
            "(--from-trained)."
        )
    return folder
