"""An encoder for the queries of many concurrent callers: `BatchingEncoder`. Its thread is in `encoder_thread`."""

import asyncio
import weakref
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders.base import Encoder
from pg_semantic.encoders.encoder_thread import EncodeRequest, EncoderThread, PendingVector, QueueLimits
from pg_semantic.encoders.fork_safety import PerProcess


class BatchingEncoder:
    """Encodes queries from any number of threads and tasks. Only one thread calls the encoder.

    Queries that arrive while the encoder is busy form the next batch. A query never waits for a batch to fill up. Equal
    texts are encoded once. A query whose task was canceled isn't encoded. If the encoder fails on a query, only the
    callers with this query get the error.

    Create one per encoder and share it. The thread starts with the first query, and again in a forked process. It ends
    when you close the object or when it is garbage-collected. Callers share the vectors, so they are read-only.

    Args:
        encoder: A loaded encoder.
        batch: Maximum number of queries in a batch.
        waiting: Maximum number of waiting queries; another one raises `errors.EncoderUnavailable`.
        remembered: How many queries' vectors to cache; the least recently used are dropped.

    Raises:
        errors.ConfigurationError: ``encoder`` isn't an encoder, or a limit is out of range.
    """

    def __init__(self, encoder: Encoder, *, batch: int = 32, waiting: int = 1000, remembered: int = 1024) -> None:
        self._start(encoder, QueueLimits(batch=batch, waiting=waiting, remembered=remembered))

    def _start(self, encoder: Encoder, limits: QueueLimits) -> None:
        if not hasattr(encoder, "encode_queries"):
            raise errors.ConfigurationError(
                f"{encoder!r} is not an encoder: pass a loaded one, such as encoders.load(name)."
            )
        self._encoder = encoder
        self._threads = PerProcess(lambda: EncoderThread(encoder, limits))
        weakref.finalize(self, _dismiss, self._threads)

    @property
    def reference(self) -> str:
        """The encoder reference that the encoder was loaded by."""
        return self._encoder.reference

    @property
    def fingerprint(self) -> str:
        """See `Encoder.fingerprint`."""
        return self._encoder.fingerprint

    @property
    def dimensions(self) -> int:
        """Number of dimensions of a vector."""
        return self._encoder.dimensions

    def encode(self, text: str) -> NDArray[np.float32]:
        """Encodes a query, and waits for the result.

        Args:
            text: A query, without the query prompt.

        Returns:
            A read-only vector, shape (dimensions,).

        Raises:
            errors.EncoderUnavailable: Too many queries are waiting.
            errors.ClosedError: This object was closed.
            Exception: Any error of the encoder.
        """
        return self._ask(text).result().vector

    async def encode_async(self, text: str) -> NDArray[np.float32]:
        """Encodes a query like `encode`, without blocking the event loop."""
        return (await asyncio.wrap_future(self._ask(text))).vector

    def forget(self, text: str) -> None:
        """Drops the cached vector of a query, so that the next call encodes it again, such as to time it."""
        self._threads.get().forget(EncodeRequest(text))

    def close(self) -> None:
        """Encodes the waiting queries, then ends the thread. Later queries raise `errors.ClosedError`."""
        self._threads.get().close()

    def __enter__(self) -> "BatchingEncoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, text: str) -> PendingVector:
        return self._threads.get().ask([EncodeRequest(text)])[0]


def _dismiss(owners: PerProcess[EncoderThread]) -> None:
    if owner := owners.made:
        owner.dismiss()
