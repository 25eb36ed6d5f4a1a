"""The one thread that calls an encoder, the queries that wait for it, and the vectors that it remembers."""

import itertools
import queue
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders.base import Encoder

Answer: TypeAlias = Future[NDArray[np.float32]]


class Owner:
    """Owns an encoder in one process; `QueryEncoder` says what callers can count on."""

    def __init__(self, encoder: Encoder, *, batch: int, waiting: int, remembered: int) -> None:
        self._encoder = encoder
        self._batch, self._most_waiting, self._most_remembered = batch, waiting, remembered
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Answer]] = {}
        self._encoding: dict[str, list[Answer]] = {}
        self._remembered: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._awake = False
        self._bell: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: there is work; False: this is the end

    def ask(self, text: str) -> Answer:
        """The vector of a query, some time; cancel it to have it left out."""
        answer = Answer()
        with self._lock:
            if self._closed:
                raise errors.QueryError("The query encoder was closed: make another one for further queries.")
            if (vector := self._recall(text)) is not None:
                answer.set_result(vector)
            elif asked := self._encoding.get(text) or self._waiting.get(text):
                asked.append(answer)
            else:
                self._line_up(text, answer)
        return answer

    def close(self) -> None:
        """Takes no more queries, answers those that wait, and ends the thread."""
        with self._lock:
            self._closed = True
        self.dismiss()
        if self._thread:
            self._thread.join()

    def dismiss(self) -> None:
        """Ends the thread once nothing waits. Safe in a finalizer, wherever that interrupts: putting is reentrant."""
        self._bell.put(False)  # noqa: FBT003 - the bell's one other tone

    def _recall(self, text: str) -> NDArray[np.float32] | None:
        if text in self._remembered:
            self._remembered.move_to_end(text)
        return self._remembered.get(text)

    def _line_up(self, text: str, answer: Answer) -> None:
        if len(self._waiting) >= self._most_waiting:
            self._drop_cancelled()
        if len(self._waiting) >= self._most_waiting:
            raise errors.EncoderUnavailable(
                f"Encoder {self._encoder.reference!r} is overloaded: {len(self._waiting)} queries wait for it. Try "
                "again in a moment; if it goes on, run more processes, or give the encoder a faster device."
            )
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pg_semantic queries", daemon=True)
            self._thread.start()
        self._waiting[text] = [answer]
        if not self._awake:
            self._awake = True
            self._bell.put(True)  # noqa: FBT003

    def _drop_cancelled(self) -> None:
        for text in [text for text, asked in self._waiting.items() if all(answer.cancelled() for answer in asked)]:
            del self._waiting[text]

    def _run(self) -> None:
        while self._bell.get():
            while texts := self._take():
                self._serve(texts)

    def _take(self) -> list[str]:
        """The next batch: those that wait longest; with none, the next query has to ring."""
        with self._lock:
            self._drop_cancelled()
            for text in list(itertools.islice(self._waiting, self._batch)):
                self._encoding[text] = self._waiting.pop(text)
            self._awake = bool(self._encoding)
            return list(self._encoding)

    def _serve(self, texts: list[str]) -> None:
        try:
            vectors = self._encode(texts)
        except BaseException as error:  # noqa: BLE001 - panics of tokenizers too: the caller gets it, the thread goes on
            if len(texts) == 1:
                self._answer(texts[0], error)
                return
            for text in texts:  # one of them broke the batch
                self._serve([text])
        else:
            for text, vector in vectors.items():
                self._answer(text, vector)

    def _encode(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        vectors: dict[str, NDArray[np.float32]] = {}
        for text, row in zip(texts, self._encoder.encode_queries(texts), strict=True):
            vectors[text] = np.array(row, np.float32)  # a copy: remembering one must not keep the batch
            vectors[text].flags.writeable = False
        return vectors

    def _answer(self, text: str, found: NDArray[np.float32] | BaseException) -> None:
        with self._lock:
            asked = self._encoding.pop(text)
            if not isinstance(found, BaseException):
                self._remember(text, found)
        for answer in asked:
            if not answer.set_running_or_notify_cancel():
                continue
            if isinstance(found, BaseException):
                answer.set_exception(found)
            else:
                answer.set_result(found)

    def _remember(self, text: str, vector: NDArray[np.float32]) -> None:
        self._remembered[text] = vector
        while len(self._remembered) > self._most_remembered:
            self._remembered.popitem(last=False)
