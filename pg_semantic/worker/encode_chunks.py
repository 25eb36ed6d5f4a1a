"""The encode stage: computes the missing vectors of a batch, and isolates texts that the encoder fails on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exc

from pg_semantic import errors
from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.index.spec import Storage
from pg_semantic.worker import failure_isolation
from pg_semantic.worker.batch import Batch

_STORED: dict[Storage, type[np.floating[Any]]] = {"halfvec": np.float16, "vector": np.float32}
_NOT_OF_A_TEXT = (errors.EncoderUnavailable, errors.EncoderMismatch, exc.DBAPIError)
_TOGETHER = 1024  # texts; some seconds of work on two cores


def encode(batch: Batch, encoder: Encoder) -> None:
    """Encodes the texts of a batch that have no vector yet, longest first.

    Works in groups, so that a bad text affects few others. Adds to ``batch.vectors``, and to ``batch.broken`` for texts
    that the encoder fails on.

    Raises:
        errors.EncoderUnavailable: The encoder is overloaded or unreachable; no text is at fault.
        errors.EncoderMismatch: The encoder isn't the one that the stored vectors come from; no text is at fault.
        sqlalchemy.exc.DBAPIError: The database, where tokens are limited, failed; no text is at fault.
    """
    texts = sorted(batch.missing().items(), key=lambda item: -len(item[1]))
    for start in range(0, len(texts), _TOGETHER):
        _encode(batch, encoder, texts[start : start + _TOGETHER])


def _encode(batch: Batch, encoder: Encoder, texts: Sequence[tuple[bytes, str]]) -> None:
    """Encodes texts all at once, or on failure each half by itself, down to the texts that fail alone."""
    if not texts:
        return
    try:
        vectors = encoder.encode_documents([text for _, text in texts])
    except BaseException as error:  # whatever an encoder raises, the other texts continue
        if isinstance(error, _NOT_OF_A_TEXT) or not failure_isolation.is_caused_by_data(error):
            raise
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
            batch.broken[digest] = (
                "the encoder returned a vector that is all zeros, or has NaN, infinity or values that the storage type "
                "cannot represent"
            )


def _are_storable(vectors: Vectors, storage: Storage) -> NDArray[np.bool_]:
    """Whether each vector, once rounded to the storage type, is finite and not all zeros."""
    with np.errstate(over="ignore"):
        stored = np.asarray(vectors).astype(_STORED[storage])
    return np.logical_and(np.isfinite(stored).all(axis=1), stored.any(axis=1))
