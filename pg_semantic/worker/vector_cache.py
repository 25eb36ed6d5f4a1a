"""Keeps recent vectors of this worker, so that equal texts are encoded once wherever they occur.

A batch may be read before the previous one is written, and a row that an application keeps locked is retried many
times. In neither case are the vectors in the database yet.
"""

import numpy as np
from numpy.typing import NDArray

from pg_semantic.worker.batch import Batch

_BYTES = 16_000_000  # per encoder
_FLOAT_BYTES = 4
_OBJECT_BYTES = 400  # for the array, the hash and the dictionary entry


class VectorCache:
    """The most recent vectors of each encoder."""

    def __init__(self) -> None:
        self._vectors: dict[int, dict[bytes, NDArray[np.float32]]] = {}

    def fill(self, batch: Batch) -> None:
        """Gives a batch the cached vectors of its texts."""
        known = self._vectors.get(batch.tables.spec.encoder.id, {})
        batch.vectors.update((digest, known[digest]) for digest in batch.missing().keys() & known.keys())

    def store(self, batch: Batch) -> None:
        """Caches the vectors of a batch, and evicts the oldest."""
        encoder = batch.tables.spec.encoder
        known = self._vectors.setdefault(encoder.id, {})
        known.update(batch.vectors)
        for digest in list(known)[: -(_BYTES // (_FLOAT_BYTES * encoder.dimensions + _OBJECT_BYTES))]:
            del known[digest]
