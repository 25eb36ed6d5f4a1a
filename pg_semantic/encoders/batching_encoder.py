"""An encoder for the queries of many callers at once: `BatchingEncoder`. Its thread is in `encoder_thread`."""

import asyncio
import weakref
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders.base import Encoder
from pg_semantic.encoders.encoder_thread import EncodeRequest, EncoderThread, PendingVector, QueueLimits
from pg_semantic.encoders.per_process import PerProcess


class BatchingEncoder:
    """Answers queries from any number of threads and tasks with an encoder that one thread alone calls.

    Queries that come in while the encoder is busy are its next batch, of at most ``batch``; none waits for company.
    Equal texts are encoded once, and the vectors of the last ``remembered`` texts are kept. When ``waiting`` texts wait
    already, one more is refused with `errors.EncoderUnavailable`. A query whose task was cancelled is not encoded; one
    that the encoder fails on gets its error and leaves the others alone.

    Make one for an encoder and share it. Its thread starts with the first query, and anew in a process that was forked
    off; it ends when this is closed or forgotten. Vectors are shared between callers, and therefore read-only.
    """

    def __init__(self, encoder: Encoder, *, batch: int = 32, waiting: int = 1000, remembered: int = 1024) -> None:
        self._line_up(encoder, QueueLimits(batch=batch, waiting=waiting, remembered=remembered))

    def _line_up(self, encoder: Encoder, line: QueueLimits) -> None:
        if not hasattr(encoder, "encode_queries"):
            raise errors.QueryError(f"{encoder!r} is no encoder: give one that is loaded, as encoders.load(name) does.")
        self._encoder = encoder
        self._owners = PerProcess(lambda: EncoderThread(encoder, line))
        weakref.finalize(self, _dismiss, self._owners)

    @property
    def reference(self) -> str:
        """The name that the encoder was loaded by."""
        return self._encoder.reference

    @property
    def fingerprint(self) -> str:
        """As `Encoder.fingerprint`."""
        return self._encoder.fingerprint

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._encoder.dimensions

    def encode(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, shape (dimensions,), read-only; waits for it. Raises what the encoder raises."""
        return self._ask(text).result().vector

    async def encode_async(self, text: str) -> NDArray[np.float32]:
        """As `encode`, and the event loop goes on meanwhile."""
        return (await asyncio.wrap_future(self._ask(text))).vector

    def close(self) -> None:
        """Answers what waits, and ends the thread; a later query is refused with `errors.QueryError`."""
        self._owners.get().close()

    def __enter__(self) -> "BatchingEncoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, text: str) -> PendingVector:
        return self._owners.get().ask([EncodeRequest(text)])[0]


def _dismiss(owners: PerProcess[EncoderThread]) -> None:
    if owner := owners.made:
        owner.dismiss()
