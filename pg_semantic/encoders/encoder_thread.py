"""The only thread that calls an encoder, with its queue of texts and its cache of query vectors."""

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders.base import Encoder

Kind: TypeAlias = Literal["query", "document"]


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """A text to encode. With ``whole``, a text longer than the encoder's limit is an error instead of truncated."""

    text: str
    kind: Kind = "query"
    whole: bool = False


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A read-only vector, and the number of tokens of its text.

    ``tokens`` is 0 if they weren't counted, as they are only if `QueueLimits.tokens` or `EncodeRequest.whole` is set.
    """

    vector: NDArray[np.float32]
    tokens: int = 0


PendingVector: TypeAlias = Future[EncodedText]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The limits of a queue.

    Args:
        batch: Maximum number of texts in a batch.
        waiting: Maximum number of waiting texts.
        remembered: How many queries' vectors to cache.
        tokens: Maximum number of tokens in a batch; a batch has at least one text.
        seen: Called before each batch with its number of texts and of tokens.
    """

    batch: int = 32
    waiting: int = 1000
    remembered: int = 1024
    tokens: int | None = None
    seen: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        if min(self.batch, self.waiting) < 1 or self.remembered < 0:
            raise errors.ConfigurationError(
                "BatchingEncoder: batch and waiting must be at least 1, remembered at least 0."
            )


class EncoderThread:
    """Owns an encoder in one process. `BatchingEncoder` documents the guarantees for callers."""

    def __init__(self, encoder: Encoder, limits: QueueLimits) -> None:
        self._encoder = encoder
        self._limits = limits
        self._lock = threading.Lock()
        self._waiting: dict[EncodeRequest, list[PendingVector]] = {}
        self._encoding: dict[EncodeRequest, list[PendingVector]] = {}
        self._counts: dict[EncodeRequest, int | BaseException] = {}  # used only by the thread
        self._last: Kind = "document"
        self._remembered: OrderedDict[EncodeRequest, EncodedText] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._awake = False
        self._wakeups: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: there is work; False: stop

    @property
    def waiting(self) -> int:
        """The number of waiting texts."""
        return len(self._waiting)

    def ask(self, wanted: Sequence[EncodeRequest]) -> list[PendingVector]:
        """Queues texts, either all of them or none.

        Args:
            wanted: The texts to encode.

        Returns:
            One future per text, in order. Cancel a future to skip its text.

        Raises:
            errors.ClosedError: This object was closed.
            errors.EncoderUnavailable: Too many texts are waiting.
        """
        with self._lock:
            if self._closed:
                raise errors.ClosedError("The BatchingEncoder is closed: create a new one for more queries.")
            self._require_room(wanted)
            return [self._answer_of(one) for one in wanted]

    def forget(self, known: EncodeRequest) -> None:
        """Drops the cached vector of a text."""
        with self._lock:
            self._remembered.pop(known, None)

    def close(self) -> None:
        """Rejects new texts, encodes those that are waiting, and ends the thread."""
        with self._lock:
            self._closed = True
        self.dismiss()
        if self._thread:
            self._thread.join()

    def dismiss(self) -> None:
        """Ends the thread once the queue is empty. Safe in a finalizer, because ``SimpleQueue.put`` is reentrant."""
        self._wakeups.put(False)  # noqa: FBT003

    def _require_room(self, wanted: Sequence[EncodeRequest]) -> None:
        """Raises unless all texts fit into the queue; an empty queue accepts any number."""
        new = {one for one in wanted if not self._is_known(one)}
        if not new or len(self._waiting) + len(new) <= self._limits.waiting:
            return
        self._drop_canceled()
        if self._waiting and len(self._waiting) + len(new) > self._limits.waiting:
            raise errors.EncoderUnavailable(
                f"Encoder {self._encoder.reference!r} is overloaded: {len(self._waiting)} queries are waiting. Try "
                "again in a moment; if this continues, run more processes or use a faster device.",
                overloaded=True,
            )

    def _is_known(self, wanted: EncodeRequest) -> bool:
        return wanted in self._remembered or wanted in self._encoding or wanted in self._waiting

    def _answer_of(self, wanted: EncodeRequest) -> PendingVector:
        answer = PendingVector()
        if encoded := self._remembered.get(wanted):
            self._remembered.move_to_end(wanted)
            answer.set_result(encoded)
        elif asked := self._encoding.get(wanted) or self._waiting.get(wanted):
            asked.append(answer)
        else:
            self._waiting[wanted] = [answer]
            self._wake()
        return answer

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pg_semantic queries", daemon=True)
            self._thread.start()
        if not self._awake:
            self._awake = True
            self._wakeups.put(True)  # noqa: FBT003

    def _drop_canceled(self) -> None:
        for wanted in [one for one, asked in self._waiting.items() if all(answer.cancelled() for answer in asked)]:
            del self._waiting[wanted]

    def _run(self) -> None:
        while self._wakeups.get():
            try:
                while batch := self._take():
                    self._serve(batch)
            except BaseException as error:  # noqa: BLE001 - as in `_serve`; without a thread, callers wait forever
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Passes an error that no text caused to all waiting callers."""
        with self._lock:
            waiting = [*self._waiting.values(), *self._encoding.values()]
            self._waiting.clear()
            self._encoding.clear()
            self._awake = False
        for answer in (answer for asked in waiting for answer in asked):
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error)

    def _take(self) -> list[EncodeRequest]:
        """Returns the texts of one kind that have waited longest; if none wait, the next text wakes the thread."""
        while candidates := self._candidates():
            self._count(candidates)
            batch = self._claim(candidates)
            for one in batch:
                if problem := self._problem_with(one):
                    self._answer(one, problem)
            if batch := [one for one in batch if one in self._encoding]:
                return batch
        return []

    def _candidates(self) -> list[EncodeRequest]:
        """Returns texts of the kind whose turn it is, so that neither kind starves the other."""
        with self._lock:
            self._drop_canceled()
            self._awake = bool(self._waiting)
            turn = [one for one in self._waiting if one.kind != self._last] or list(self._waiting)
            return turn[: self._limits.batch]

    def _count(self, candidates: Sequence[EncodeRequest]) -> None:
        new = [one for one in candidates if one not in self._counts and (self._limits.tokens or one.whole)]
        try:
            self._counts.update(zip(new, self._encoder.count_tokens([one.text for one in new]), strict=True))
        except BaseException as error:  # noqa: BLE001 - as in `_serve`
            if len(new) == 1:
                self._counts[new[0]] = error
                return
            for one in new:
                self._count([one])

    def _claim(self, candidates: Sequence[EncodeRequest]) -> list[EncodeRequest]:
        """Takes as many of these texts as fit into a batch, at least one. The others keep waiting."""
        batch: list[EncodeRequest] = []
        tokens = 0
        with self._lock:
            for one in candidates:
                if one not in self._waiting:  # canceled meanwhile
                    continue
                tokens += self._tokens(one)
                if batch and self._limits.tokens and tokens > self._limits.tokens:
                    break
                batch.append(one)
                self._encoding[one] = self._waiting.pop(one)
            self._counts = {one: count for one, count in self._counts.items() if one in self._waiting or one in batch}
        return batch

    def _tokens(self, wanted: EncodeRequest) -> int:
        """Returns how many tokens of a text the encoder reads."""
        count = self._counts.get(wanted, 0)
        return min(count, self._encoder.max_tokens) if isinstance(count, int) else 0

    def _problem_with(self, wanted: EncodeRequest) -> BaseException | None:
        """Returns the error that prevents encoding a text, if any."""
        count = self._counts.get(wanted, 0)
        if isinstance(count, BaseException):
            return count
        if wanted.whole and count > self._encoder.max_tokens:
            return errors.QueryError(
                f"A text has {count} tokens, but encoder {self._encoder.reference!r} reads only "
                f"{self._encoder.max_tokens}: split the text, or set truncate to encode only its beginning."
            )
        return None

    def _serve(self, batch: Sequence[EncodeRequest]) -> None:
        self._last = batch[0].kind
        try:
            vectors = self._encode(batch)
        except BaseException as error:  # noqa: BLE001 - also catches panics of tokenizers: the caller gets the error
            if len(batch) > 1 and not isinstance(error, errors.EncoderUnavailable):
                for one in batch:  # one text caused the error: find out which
                    self._serve([one])
                return
            for one in batch:
                self._answer(one, error)
        else:
            for one, encoded in vectors.items():
                self._answer(one, encoded)

    def _encode(self, batch: Sequence[EncodeRequest]) -> dict[EncodeRequest, EncodedText]:
        encode = self._encoder.encode_queries if batch[0].kind == "query" else self._encoder.encode_documents
        if self._limits.seen:
            self._limits.seen(len(batch), sum(map(self._tokens, batch)))
        vectors: dict[EncodeRequest, EncodedText] = {}
        for one, row in zip(batch, encode([wanted.text for wanted in batch]), strict=True):
            vector = np.array(row, np.float32)  # a copy, so that caching it doesn't keep the whole batch in memory
            vector.flags.writeable = False
            count = self._counts.get(one, 0)
            vectors[one] = EncodedText(vector, count if isinstance(count, int) else 0)
        return vectors

    def _answer(self, wanted: EncodeRequest, found: EncodedText | BaseException) -> None:
        with self._lock:
            asked = self._encoding.pop(wanted)
            if isinstance(found, EncodedText) and wanted.kind == "query":
                self._remember(wanted, found)
        for answer in asked:
            if not answer.set_running_or_notify_cancel():
                continue
            if isinstance(found, EncodedText):
                answer.set_result(found)
            else:
                answer.set_exception(found)

    def _remember(self, wanted: EncodeRequest, encoded: EncodedText) -> None:
        self._remembered[wanted] = encoded
        while len(self._remembered) > self._limits.remembered:
            self._remembered.popitem(last=False)
