"""Describes a loaded encoder as it runs on this machine, for people to read."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pg_semantic.encoders.base import Backend, Encoder


@dataclass(frozen=True, slots=True)
class EncoderDescription:
    """How an encoder runs on this machine, and what decides whether its vectors fit an index."""

    reference: str
    back_end: str | None
    precision: str | None
    dimensions: int
    max_tokens: int
    query_prompt: str | None  # None if only the encoder's server knows it
    document_prompt: str | None
    fingerprint: str
    document_fingerprint: str  # other encoders can have the same one
    least_cosine: float | None  # to the 32-bit vectors, on the self-check
    texts_per_second: float


def of(encoder: Encoder, texts: Sequence[str]) -> EncoderDescription:
    """Describes an encoder, and measures its speed.

    Args:
        encoder: A loaded encoder.
        texts: Documents to measure on; encoded twice, because the first pass tunes the encoder.
    """
    encoder.encode_documents(texts)
    started = time.perf_counter()
    encoder.encode_documents(texts)
    seconds = time.perf_counter() - started
    backend: Backend | None = getattr(encoder, "backend", None)
    return EncoderDescription(
        reference=encoder.reference,
        back_end=backend.name if backend else None,
        precision=backend.precision if backend else None,
        dimensions=encoder.dimensions,
        max_tokens=encoder.max_tokens,
        query_prompt=getattr(encoder, "query_prompt", None),
        document_prompt=getattr(encoder, "document_prompt", None),
        fingerprint=encoder.fingerprint,
        document_fingerprint=encoder.document_fingerprint,
        least_cosine=getattr(encoder, "least_cosine", None),
        texts_per_second=round(len(texts) / seconds, 1),
    )
