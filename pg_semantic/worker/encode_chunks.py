"""The encode stage: every text of a batch that has no vector gets one, and a text that breaks the encoder is alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.index.spec import Storage
from pg_semantic.worker.batch import Batch

_STORED: dict[Storage, type[np.floating[Any]]] = {"halfvec": np.float16, "vector": np.float32}
_TOGETHER = 1024  # seconds of work on two cores


def encode(batch: Batch, encoder: Encoder) -> None:
    """Encodes all that a batch lacks, the longest first, so many at a time that no bad text spoils much."""
    texts = sorted(batch.missing().items(), key=lambda item: -len(item[1]))
    for start in range(0, len(texts), _TOGETHER):
        _encode(batch, encoder, texts[start : start + _TOGETHER])


def _encode(batch: Batch, encoder: Encoder, texts: Sequence[tuple[bytes, str]]) -> None:
    """Fills in ``batch.vectors``, and ``batch.broken`` for texts that the encoder fails on.

    Encodes all at once; on failure each half by itself, down to the texts that fail alone. Raises
    `errors.EncoderUnavailable` and `errors.EncoderMismatch`, for which no text is to blame.
    """
    if not texts:
        return
    try:
        vectors = encoder.encode_documents([text for _, text in texts])
    except (errors.EncoderUnavailable, errors.EncoderMismatch):
        raise
    except Exception as error:  # noqa: BLE001 - whatever an encoder raises, its batch mates go on
        half = len(texts) // 2
        if half:
            _encode(batch, encoder, texts[:half])
            _encode(batch, encoder, texts[half:])
        else:
            batch.broken[texts[0][0]] = f"{type(error).__name__}: {error}"
        return
    storable = _are_storable(vectors, batch.tables.spec.storage)
    for (digest, _), vector, is_storable in zip(texts, vectors, storable, strict=True):
        if is_storable:
            batch.vectors[digest] = vector
            batch.encoded += 1
        else:
            batch.broken[digest] = "the encoder returned a vector of zeros, NaN, infinity or beyond the storage type"


def _are_storable(vectors: Vectors, storage: Storage) -> NDArray[np.bool_]:
    """Whether each vector, once rounded to the storage type, still has a direction."""
    with np.errstate(over="ignore"):
        stored = np.asarray(vectors).astype(_STORED[storage])
    return np.logical_and(np.isfinite(stored).all(axis=1), stored.any(axis=1))
