"""The one thread that calls an encoder, the texts that wait for it, and the vectors that it remembers."""

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
    """A text whose vector is wanted; ``whole`` refuses one that the encoder could not read whole."""

    text: str
    kind: Kind = "query"
    whole: bool = False


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A vector, read-only, and how many tokens its text has; they are counted only for a batch bounded by tokens."""

    vector: NDArray[np.float32]
    tokens: int = 0


PendingVector: TypeAlias = Future[EncodedText]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How texts wait: the most in a batch, the most that wait, and how many queries' vectors are remembered.

    ``tokens`` bounds a batch too, and has them counted; ``seen`` is told the texts and tokens of each batch.
    """

    batch: int = 32
    waiting: int = 1000
    remembered: int = 1024
    tokens: int | None = None
    seen: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        if min(self.batch, self.waiting) < 1 or self.remembered < 0:
            raise errors.QueryError("BatchingEncoder: batch and waiting are 1 or more, remembered 0 or more.")


class EncoderThread:
    """Owns an encoder in one process; `BatchingEncoder` says what callers can count on."""

    def __init__(self, encoder: Encoder, line: QueueLimits) -> None:
        self._encoder = encoder
        self._line = line
        self._lock = threading.Lock()
        self._waiting: dict[EncodeRequest, list[PendingVector]] = {}
        self._encoding: dict[EncodeRequest, list[PendingVector]] = {}
        self._counts: dict[EncodeRequest, int | BaseException] = {}  # the thread's alone
        self._last: Kind = "document"
        self._remembered: OrderedDict[EncodeRequest, EncodedText] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._awake = False
        self._bell: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: there is work; False: this is the end

    @property
    def waiting(self) -> int:
        """How many texts wait."""
        return len(self._waiting)

    def ask(self, wanted: Sequence[EncodeRequest]) -> list[PendingVector]:
        """The vectors of texts, some time; all are taken on or none. Cancel one to have it left out."""
        with self._lock:
            if self._closed:
                raise errors.QueryError("The query encoder was closed: make another one for further queries.")
            self._require_room(wanted)
            return [self._answer_of(one) for one in wanted]

    def close(self) -> None:
        """Takes no more texts, answers those that wait, and ends the thread."""
        with self._lock:
            self._closed = True
        self.dismiss()
        if self._thread:
            self._thread.join()

    def dismiss(self) -> None:
        """Ends the thread once nothing waits. Safe in a finalizer, wherever that interrupts: putting is reentrant."""
        self._bell.put(False)  # noqa: FBT003 - the bell's one other tone

    def _require_room(self, wanted: Sequence[EncodeRequest]) -> None:
        """Raises unless all may wait; more than ever may are taken on when none does."""
        new = {one for one in wanted if not self._is_known(one)}
        if not new or len(self._waiting) + len(new) <= self._line.waiting:
            return
        self._drop_cancelled()
        if self._waiting and len(self._waiting) + len(new) > self._line.waiting:
            raise errors.EncoderUnavailable(
                f"Encoder {self._encoder.reference!r} is overloaded: {len(self._waiting)} queries wait for it. Try "
                "again in a moment; if it goes on, run more processes, or give the encoder a faster device.",
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
            self._bell.put(True)  # noqa: FBT003

    def _drop_cancelled(self) -> None:
        for wanted in [one for one, asked in self._waiting.items() if all(answer.cancelled() for answer in asked)]:
            del self._waiting[wanted]

    def _run(self) -> None:
        while self._bell.get():
            try:
                while batch := self._take():
                    self._serve(batch)
            except BaseException as error:  # noqa: BLE001 - as in `_serve`: nobody waits for a thread that is gone
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Gives an error that is of no text to all that wait."""
        with self._lock:
            waiting = [*self._waiting.values(), *self._encoding.values()]
            self._waiting.clear()
            self._encoding.clear()
            self._awake = False
        for answer in (answer for asked in waiting for answer in asked):
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error)

    def _take(self) -> list[EncodeRequest]:
        """The next batch: of one kind, those that wait longest; with none, the next text has to ring."""
        while candidates := self._candidates():
            self._count(candidates)
            batch = self._claim(candidates)
            for one in batch:
                if trouble := self._trouble_with(one):
                    self._answer(one, trouble)
            if batch := [one for one in batch if one in self._encoding]:
                return batch
        return []

    def _candidates(self) -> list[EncodeRequest]:
        """Texts of the kind whose turn it is, so that neither waits for all of the other."""
        with self._lock:
            self._drop_cancelled()
            self._awake = bool(self._waiting)
            turn = [one for one in self._waiting if one.kind != self._last] or list(self._waiting)
            return turn[: self._line.batch]

    def _count(self, candidates: Sequence[EncodeRequest]) -> None:
        new = [one for one in candidates if one not in self._counts and (self._line.tokens or one.whole)]
        try:
            self._counts.update(zip(new, self._encoder.count_tokens([one.text for one in new]), strict=True))
        except BaseException as error:  # noqa: BLE001 - as in `_serve`
            if len(new) == 1:
                self._counts[new[0]] = error
                return
            for one in new:
                self._count([one])

    def _claim(self, candidates: Sequence[EncodeRequest]) -> list[EncodeRequest]:
        """The first of these that are not too much together; one at least. The others wait on."""
        batch: list[EncodeRequest] = []
        tokens = 0
        with self._lock:
            for one in candidates:
                if one not in self._waiting:  # cancelled meanwhile
                    continue
                tokens += self._tokens(one)
                if batch and self._line.tokens and tokens > self._line.tokens:
                    break
                batch.append(one)
                self._encoding[one] = self._waiting.pop(one)
            self._counts = {one: count for one, count in self._counts.items() if one in self._waiting or one in batch}
        return batch

    def _tokens(self, wanted: EncodeRequest) -> int:
        """How many tokens of a text the encoder reads."""
        count = self._counts.get(wanted, 0)
        return min(count, self._encoder.max_tokens) if isinstance(count, int) else 0

    def _trouble_with(self, wanted: EncodeRequest) -> BaseException | None:
        """Why a text is not encoded, if it is not."""
        count = self._counts.get(wanted, 0)
        if isinstance(count, BaseException):
            return count
        if wanted.whole and count > self._encoder.max_tokens:
            return errors.QueryError(
                f"A text has {count} tokens and encoder {self._encoder.reference!r} reads {self._encoder.max_tokens}: "
                "cut it up, or have its end left out (truncate)."
            )
        return None

    def _serve(self, batch: Sequence[EncodeRequest]) -> None:
        self._last = batch[0].kind
        try:
            vectors = self._encode(batch)
        except BaseException as error:  # noqa: BLE001 - panics of tokenizers too: the caller gets it, the thread goes on
            if len(batch) > 1 and not isinstance(error, errors.EncoderUnavailable):
                for one in batch:  # one of them broke the batch
                    self._serve([one])
                return
            for one in batch:
                self._answer(one, error)
        else:
            for one, encoded in vectors.items():
                self._answer(one, encoded)

    def _encode(self, batch: Sequence[EncodeRequest]) -> dict[EncodeRequest, EncodedText]:
        encode = self._encoder.encode_queries if batch[0].kind == "query" else self._encoder.encode_documents
        if self._line.seen:
            self._line.seen(len(batch), sum(map(self._tokens, batch)))
        vectors: dict[EncodeRequest, EncodedText] = {}
        for one, row in zip(batch, encode([wanted.text for wanted in batch]), strict=True):
            vector = np.array(row, np.float32)  # a copy: remembering one must not keep the batch
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
        while len(self._remembered) > self._line.remembered:
            self._remembered.popitem(last=False)
