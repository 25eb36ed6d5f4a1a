"""A reranker for the searches of many callers at once, each with a time budget: `BatchingReranker`."""

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
from pg_semantic.encoders.per_process import PerProcess
from pg_semantic.rerankers import base
from pg_semantic.rerankers.base import Reranker, Scores, ScoreType


class BatchingReranker:
    """Scores for any number of threads and tasks with a reranker that one thread alone calls, in order of asking.

    When ``waiting`` searches wait already, one more is refused with `errors.EncoderUnavailable`. A search whose time
    ran out or whose task was cancelled is not begun; one that was begun is given up after at most ``at_once`` more
    passages.

    Make one for a reranker and share it. Its thread starts with the first search, and anew in a process that was
    forked off; it ends when this is closed or forgotten.
    """

    def __init__(self, reranker: Reranker, *, waiting: int = 100, at_once: int = 16) -> None:
        if min(waiting, at_once) < 1:
            raise errors.QueryError("BatchingReranker: waiting and at_once are 1 or more.")
        self._reranker = reranker
        self._lines = PerProcess(lambda: _RerankQueue(reranker, waiting=waiting, at_once=at_once))

    @property
    def reference(self) -> str:
        """The name that the reranker was loaded by."""
        return self._reranker.reference

    @property
    def score_type(self) -> ScoreType:
        """As `Reranker.score_type`."""
        return self._reranker.score_type

    def score(self, query: str, passages: Sequence[str], *, seconds: float | None = None) -> Scores | None:
        """As `Reranker.score`; None when it took longer than ``seconds``, waiting for others included.

        Raises `errors.QueryError` when ``seconds`` are not more than 0, `errors.EncoderUnavailable` when too many
        searches wait, and what the reranker raises.
        """
        asked = self._ask(query, passages, seconds=seconds)
        try:
            concurrent.futures.wait([asked.scores], timeout=seconds)
            return asked.scores.result() if asked.scores.done() else None
        finally:
            asked.give_up()

    async def score_async(self, query: str, passages: Sequence[str], *, seconds: float | None = None) -> Scores | None:
        """As `score`, and the event loop goes on meanwhile."""
        asked = self._ask(query, passages, seconds=seconds)
        scores = asyncio.wrap_future(asked.scores)
        try:
            await asyncio.wait([scores], timeout=seconds)
            return scores.result() if scores.done() else None
        finally:
            asked.give_up()
            scores.cancel()  # what comes of it later, an error too, is nobody's

    def close(self) -> None:
        """Answers what waits, and ends the thread; a later search is refused with `errors.QueryError`."""
        self._lines.get().close()

    def __enter__(self) -> "BatchingReranker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, query: str, passages: Sequence[str], *, seconds: float | None) -> "_ScoreRequest":
        if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
            raise errors.QueryError(
                f"A time budget of {seconds} seconds: give a number above 0, or None for as long as it takes."
            )
        return self._lines.get().ask(query, list(passages))


@dataclass(frozen=True, slots=True)
class _ScoreRequest:
    """Scores that were asked for; the thread looks between batches whether somebody still waits for them."""

    scores: Future[Scores]
    passages: list[str]
    given_up: threading.Event

    def give_up(self) -> None:
        """Nobody waits any more; of no account when the scores were made."""
        self.given_up.set()
        if self.scores.cancel():
            self.passages.clear()  # it stands in the thread's queue until that comes to it


class _RerankQueue:
    """The searches of one process that wait for the reranker, and the thread that serves them."""

    def __init__(self, reranker: Reranker, *, waiting: int, at_once: int) -> None:
        self._reranker = reranker
        self._waiting, self._at_once = waiting, at_once
        self._places = threading.Semaphore(waiting + 1)  # one is being served
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pg_semantic reranker")

    def ask(self, query: str, passages: list[str]) -> _ScoreRequest:
        if not self._places.acquire(blocking=False):
            raise errors.EncoderUnavailable(
                f"Reranker {self._reranker.reference!r} is overloaded: {self._waiting} searches wait for it. Try again "
                "in a moment; if it goes on, rerank fewer passages, run more processes, or give it a faster device.",
                overloaded=True,
            )
        given_up = threading.Event()
        score = functools.partial(_scored, self._reranker, query, passages, at_once=self._at_once, given_up=given_up)
        try:
            scores = self._thread.submit(score)
        except RuntimeError:  # of an executor that was shut down
            self._places.release()
            raise errors.QueryError("The reranker was closed: make another one for further searches.") from None
        scores.add_done_callback(lambda _: self._places.release())
        return _ScoreRequest(scores, passages, given_up)

    def close(self) -> None:
        self._thread.shutdown()


def _scored(reranker: Reranker, query: str, passages: list[str], *, at_once: int, given_up: threading.Event) -> Scores:
    """The scores, made of passages of like length at a time; less than all when nobody waits for them any more."""
    scores = np.zeros(len(passages), np.float32)
    order = sorted(range(len(passages)), key=lambda number: -len(passages[number]))
    for start in range(0, len(order), at_once):
        if given_up.is_set():
            break
        numbers = order[start : start + at_once]
        made = reranker.score(query, [passages[number] for number in numbers])
        scores[numbers] = base.checked(made, passages=len(numbers), reference=reranker.reference)
    return scores
