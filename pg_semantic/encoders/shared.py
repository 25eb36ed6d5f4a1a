"""An encoder that a service shares between requests for vectors of queries and of documents: `SharedEncoder`."""

import asyncio
from collections.abc import Sequence

from pg_semantic.encoders.base import Encoder
from pg_semantic.encoders.batching_encoder import BatchingEncoder
from pg_semantic.encoders.encoder_thread import EncodedText, EncodeRequest, Kind, QueueLimits


class SharedEncoder(BatchingEncoder):
    """A query encoder that makes vectors of documents too, on the same thread.

    The two kinds take turns, so that a query waits for one batch of documents at most. Vectors of documents are not
    remembered.
    """

    def __init__(
        self, encoder: Encoder, line: QueueLimits
    ) -> None:  # not a query encoder's: a line is all there is to say
        self._line_up(encoder, line)

    @property
    def encoder(self) -> Encoder:
        """The encoder itself; its thread alone has it encode."""
        return self._encoder

    @property
    def waiting(self) -> int:
        """How many texts wait."""
        return self._owners.get().waiting

    async def encode_all(self, texts: Sequence[str], kind: Kind, *, whole: bool) -> list[EncodedText]:
        """The vectors of texts, in their order; ``whole`` refuses all when the encoder could not read one whole.

        Cancelled, it has what was not begun left out. Raises `errors.EncoderUnavailable` when too many texts wait,
        `errors.QueryError` for a text that is too long, and what the encoder raises.
        """
        asked = self._owners.get().ask([EncodeRequest(text, kind, whole) for text in texts])
        try:
            return [await asyncio.wrap_future(answer) for answer in asked]
        finally:
            for answer in asked:  # after a failure the others are nobody's
                answer.cancel()
