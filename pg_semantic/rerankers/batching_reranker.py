"""`BatchingReranker`: shares a reranker between concurrent searches, each with a time budget."""

import asyncio
import concurrent.futures
import functools
import math
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from pg_semantic import errors
from pg_semantic.encoders.fork_safety import PerProcess
from pg_semantic.rerankers import base
from pg_semantic.rerankers.base import Reranker, Scores, ScoreType


class BatchingReranker:
    """Scores passages for any number of threads and tasks, with a single thread that calls the reranker.

    Create one per reranker and share it. Searches are served in the order in which they arrive. A search is skipped if
    its time ran out or its task was canceled before its turn, and stopped after at most ``at_once`` more passages if
    this happens later. The thread starts with the first search, and again in a forked process. It ends when this object
    is closed or garbage-collected.

    Args:
        reranker: The reranker, such as one from `rerankers.load`.
        waiting: How many searches can wait. Further ones raise `errors.EncoderUnavailable`.
        at_once: How many passages the reranker gets per call.

    Raises:
        errors.ConfigurationError: ``waiting`` or ``at_once`` is less than 1.
    """

    def __init__(self, reranker: Reranker, *, waiting: int = 100, at_once: int = 16) -> None:
        if min(waiting, at_once) < 1:
            raise errors.ConfigurationError("BatchingReranker: waiting and at_once must be 1 or more.")
        self._reranker = reranker
        self._queues = PerProcess(lambda: _RerankQueue(reranker, waiting=waiting, at_once=at_once))

    @property
    def reference(self) -> str:
        """The reference the reranker was loaded by."""
        return self._reranker.reference

    @property
    def score_type(self) -> ScoreType:
        """Whether scores are probabilities or logits."""
        return self._reranker.score_type

    def score(self, query: str, passages: Sequence[str], *, seconds: float | None = None) -> Scores | None:
        """Scores how well each passage answers the query. Also raises what the reranker raises.

        Args:
            query: The query.
            passages: If query and passage exceed the token limit together, they are truncated at the end.
            seconds: Time budget, including the wait for other searches. None means no limit.

        Returns:
            One score per passage, in order; None if the time ran out.

        Raises:
            errors.QueryError: ``seconds`` is not above 0.
            errors.ClosedError: This object was closed.
            errors.EncoderUnavailable: Too many searches wait already.
        """
        asked = self._ask(query, passages, seconds=seconds)
        try:
            concurrent.futures.wait([asked.scores], timeout=seconds)
            return asked.scores.result() if asked.scores.done() else None
        finally:
            asked.give_up()

    async def score_async(self, query: str, passages: Sequence[str], *, seconds: float | None = None) -> Scores | None:
        """Does what `score` does, without blocking the event loop."""
        asked = self._ask(query, passages, seconds=seconds)
        scores = asyncio.wrap_future(asked.scores)
        try:
            await asyncio.wait([scores], timeout=seconds)
            return scores.result() if scores.done() else None
        finally:
            asked.give_up()
            scores.cancel()  # no one needs a later result or error

    def close(self) -> None:
        """Serves the waiting searches, then ends the thread. Later searches raise `errors.ClosedError`."""
        self._queues.get().close()

    def __enter__(self) -> "BatchingReranker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, query: str, passages: Sequence[str], *, seconds: float | None) -> "_ScoreRequest":
        if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
            raise errors.QueryError(
                f"seconds={seconds}: the time budget must be a finite number above 0, or None for no limit."
            )
        return self._queues.get().ask(query, list(passages))


@dataclass(frozen=True, slots=True)
class _ScoreRequest:
    """A request for scores. The thread checks between batches whether the caller still waits for them."""

    scores: Future[Scores]
    passages: list[str]
    given_up: threading.Event

    def give_up(self) -> None:
        """Stops the request; has no effect if it is done."""
        self.given_up.set()
        if self.scores.cancel():
            self.passages.clear()  # frees them; the request stays in the thread's queue until its turn


class _RerankQueue:
    """The searches of one process that wait for the reranker, and the thread that serves them."""

    def __init__(self, reranker: Reranker, *, waiting: int, at_once: int) -> None:
        self._reranker = reranker
        self._waiting, self._at_once = waiting, at_once
        self._places = threading.Semaphore(waiting + 1)  # one more is being served
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pg_semantic reranker")

    def ask(self, query: str, passages: list[str]) -> _ScoreRequest:
        if not self._places.acquire(blocking=False):
            raise errors.EncoderUnavailable(
                f"Reranker {self._reranker.reference!r} is overloaded: {self._waiting} searches are waiting. Try again "
                "in a moment; if this continues, rerank fewer passages, run more processes or use a faster device.",
                overloaded=True,
            )
        given_up = threading.Event()
        score = functools.partial(_scored, self._reranker, query, passages, at_once=self._at_once, given_up=given_up)
        try:
            scores = self._thread.submit(score)
        except RuntimeError:  # the executor was shut down
            self._places.release()
            raise errors.ClosedError("The BatchingReranker is closed: create a new one for more searches.") from None
        scores.add_done_callback(lambda _: self._places.release())
        return _ScoreRequest(scores, passages, given_up)

    def close(self) -> None:
        self._thread.shutdown()


def _scored(reranker: Reranker, query: str, passages: list[str], *, at_once: int, given_up: threading.Event) -> Scores:
    """Scores passages in batches of similar length. Stops early if the caller no longer waits for the scores."""
    scores = np.zeros(len(passages), np.float32)
    order = sorted(range(len(passages)), key=lambda number: -len(passages[number]))
    for start in range(0, len(order), at_once):
        if given_up.is_set():
            break
        numbers = order[start : start + at_once]
        made = reranker.score(query, [passages[number] for number in numbers])
        scores[numbers] = base.checked(made, passages=len(numbers), reference=reranker.reference)
    return scores
