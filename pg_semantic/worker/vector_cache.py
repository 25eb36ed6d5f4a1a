"""Keeps recent vectors of this worker, so that equal texts are encoded once wherever they occur.

A batch may be read before the previous one is written, and a row that an application keeps locked is retried many
times. In neither case are the vectors in the database yet.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders import Encoder
from pg_semantic.index.spec import Storage
from pg_semantic.worker.batch import Batch

_BYTES = 16_000_000  # per encoder and type
_FLOAT_BYTES = 4
_OBJECT_BYTES = 400  # for the array, the hash and the dictionary entry


class VectorCache:
    """The most recent vectors of each encoder, by its `document_fingerprint` and the type in which they are stored.

    An edit is encoded once for two generations whose encoders differ only in how they encode queries. A batch may have
    vectors that were stored in 16 bits, which another generation with 32 bits must not get. Thread-safe.
    """

    def __init__(self) -> None:
        self._vectors: dict[tuple[str, Storage], dict[bytes, NDArray[np.float32]]] = {}
        self._lock = threading.Lock()

    def fill(self, batch: Batch, encoder: Encoder) -> None:
        """Gives a batch the cached vectors of its texts."""
        with self._lock:
            known = self._vectors.get(_place(batch, encoder), {})
            batch.vectors.update((digest, known[digest]) for digest in batch.missing().keys() & known.keys())

    def store(self, batch: Batch, encoder: Encoder) -> None:
        """Caches the vectors of a batch, and evicts the oldest."""
        with self._lock:
            known = self._vectors.setdefault(_place(batch, encoder), {})
            known.update(batch.vectors)
            for digest in list(known)[: -(_BYTES // (_FLOAT_BYTES * encoder.dimensions + _OBJECT_BYTES))]:
                del known[digest]


def _place(batch: Batch, encoder: Encoder) -> tuple[str, Storage]:
    return encoder.document_fingerprint, batch.tables.spec.storage
