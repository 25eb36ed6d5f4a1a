"""The encoder that a service shares between requests, for queries and documents: `SharedEncoder`."""

import asyncio
from collections.abc import Sequence

from pg_semantic.encoders.base import Encoder
from pg_semantic.encoders.batching_encoder import BatchingEncoder
from pg_semantic.encoders.encoder_thread import EncodedText, EncodeRequest, Kind, QueueLimits


class SharedEncoder(BatchingEncoder):
    """A query encoder that encodes documents too, on the same thread.

    The two kinds take turns, so a query waits for at most one batch of documents. Vectors of documents aren't cached.
    """

    def __init__(
        self, encoder: Encoder, limits: QueueLimits
    ) -> None:  # doesn't call super().__init__(), which takes separate limits
        self._start(encoder, limits)

    @property
    def encoder(self) -> Encoder:
        """The underlying encoder. Only its own thread may call its encode methods."""
        return self._encoder

    @property
    def waiting(self) -> int:
        """The number of texts in the queue."""
        return self._threads.get().waiting

    async def encode_all(self, texts: Sequence[str], kind: Kind, *, whole: bool) -> list[EncodedText]:
        """Encodes texts. If the task is canceled, texts that aren't being encoded yet are skipped.

        Args:
            texts: Texts, without a prompt.
            kind: Whether they are queries or documents.
            whole: Rejects all texts if one is longer than the encoder's limit. Otherwise long texts are truncated.

        Returns:
            One vector per text, in order.

        Raises:
            errors.EncoderUnavailable: Too many texts are waiting.
            errors.QueryError: A text is too long.
            Exception: Any error of the encoder.
        """
        asked = self._threads.get().ask([EncodeRequest(text, kind, whole) for text in texts])
        try:
            return [await asyncio.wrap_future(answer) for answer in asked]
        finally:
            for answer in asked:  # after a failure, the other vectors are no longer needed
                answer.cancel()
