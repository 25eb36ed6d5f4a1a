"""Vectors that this worker made a moment ago, so that equal texts are encoded once wherever they stand.

A batch may be read before the one before it is written, and a row that an application keeps locked is tried again and
again: neither finds its vectors in the database yet.
"""

import numpy as np
from numpy.typing import NDArray

from pg_semantic.worker.batch import Batch

_BYTES = 16_000_000  # for each encoder
_FLOAT_BYTES = 4
_OBJECT_BYTES = 400  # of the array, the hash and the place in a dictionary


class VectorCache:
    """The last vectors of each encoder."""

    def __init__(self) -> None:
        self._vectors: dict[int, dict[bytes, NDArray[np.float32]]] = {}

    def fill(self, batch: Batch) -> None:
        """Gives a batch the vectors of its texts that are remembered."""
        known = self._vectors.get(batch.tables.spec.encoder.id, {})
        batch.vectors.update((digest, known[digest]) for digest in batch.missing().keys() & known.keys())

    def store(self, batch: Batch) -> None:
        """Remembers the vectors of a batch, and forgets the oldest."""
        encoder = batch.tables.spec.encoder
        known = self._vectors.setdefault(encoder.id, {})
        known.update(batch.vectors)
        for digest in list(known)[: -(_BYTES // (_FLOAT_BYTES * encoder.dimensions + _OBJECT_BYTES))]:
            del known[digest]
