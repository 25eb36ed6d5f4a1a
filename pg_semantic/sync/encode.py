"""The encode stage: every text of a batch that has no vector gets one, and a text that breaks the encoder is alone."""

from collections.abc import Sequence

import numpy as np

from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.sync.batch import Batch


def encode(batch: Batch, encoder: Encoder) -> None:
    """Fills in ``batch.vectors``, and ``batch.broken`` for texts that the encoder fails on."""
    missing = batch.missing()
    digests = list(missing)
    for group, vectors, error in _halving(encoder, digests, texts=missing):
        if error is None:
            batch.vectors.update(zip(group, vectors, strict=True))
            batch.encoded += len(group)
        else:
            batch.broken.update(dict.fromkeys(group, error))


def _halving(
    encoder: Encoder, digests: Sequence[bytes], *, texts: dict[bytes, str]
) -> list[tuple[Sequence[bytes], Vectors, str | None]]:
    """Encodes all at once; on failure each half by itself, down to the texts that fail alone."""
    if not digests:
        return []
    nothing = np.empty((0, encoder.dimensions), np.float32)
    try:
        vectors = encoder.encode_documents([texts[digest] for digest in digests])
    except Exception as error:  # noqa: BLE001 - whatever an encoder raises, its batch mates go on
        if len(digests) == 1:
            return [(digests, nothing, f"{type(error).__name__}: {error}")]
        half = len(digests) // 2
        return [
            *_halving(encoder, digests[:half], texts=texts),
            *_halving(encoder, digests[half:], texts=texts),
        ]
    sound = [bool(np.isfinite(vector).all() and vector.any()) for vector in vectors]
    good = [digest for digest, ok in zip(digests, sound, strict=True) if ok]
    bad = [digest for digest, ok in zip(digests, sound, strict=True) if not ok]
    return [
        (good, vectors[sound], None),
        (bad, nothing, "the encoder returned a vector of zeros, NaN or infinity"),
    ]
