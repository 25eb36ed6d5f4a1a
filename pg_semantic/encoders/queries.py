"""An encoder for the queries of many callers at once: `QueryEncoder`. What its thread does is in `owner`."""

import asyncio
import weakref
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders.base import Encoder
from pg_semantic.encoders.owner import Answer, Line, Owner, Wanted
from pg_semantic.encoders.process import PerProcess


class QueryEncoder:
    """Answers queries from any number of threads and tasks with an encoder that one thread alone calls.

    Queries that come in while the encoder is busy are its next batch, of at most ``batch``; none waits for company.
    Equal texts are encoded once, and the vectors of the last ``remembered`` texts are kept. When ``waiting`` texts wait
    already, one more is refused with `errors.EncoderUnavailable`. A query whose task was cancelled is not encoded; one
    that the encoder fails on gets its error and leaves the others alone.

    Make one for an encoder and share it. Its thread starts with the first query, and anew in a process that was forked
    off; it ends when this is closed or forgotten. Vectors are shared between callers, and therefore read-only.
    """

    def __init__(self, encoder: Encoder, *, batch: int = 32, waiting: int = 1000, remembered: int = 1024) -> None:
        self._line_up(encoder, Line(batch=batch, waiting=waiting, remembered=remembered))

    def _line_up(self, encoder: Encoder, line: Line) -> None:
        if not hasattr(encoder, "encode_queries"):
            raise errors.QueryError(f"{encoder!r} is no encoder: give one that is loaded, as encoders.load(name) does.")
        self._encoder = encoder
        self._owners = PerProcess(lambda: Owner(encoder, line))
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

    def __enter__(self) -> "QueryEncoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, text: str) -> Answer:
        return self._owners.get().ask([Wanted(text)])[0]


def _dismiss(owners: PerProcess[Owner]) -> None:
    if owner := owners.made:
        owner.dismiss()
