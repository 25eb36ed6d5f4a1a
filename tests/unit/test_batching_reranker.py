"""Many callers, one reranker: who gets which scores, within which time.

The reranker of these tests says when it was given passages and does nothing until it is let go.
"""

import asyncio
import gc
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic import errors
from pg_semantic.rerankers import BatchingReranker, Scores

PATIENCE_SECONDS = 30
MOMENT_SECONDS = 0.01
NAME = "pg_semantic reranker"


class Held:
    """Scores a passage by how often it has the query; takes up passages when it is let go."""

    reference = "held"
    score_type: Literal["probability", "logit"] = "logit"

    def __init__(self) -> None:
        self.given: list[tuple[str, list[str]]] = []
        self.threads: set[int] = set()
        self.free = threading.Event()
        self._begun: queue.SimpleQueue[str] = queue.SimpleQueue()

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        self.given.append((query, list(passages)))
        self.threads.add(threading.get_ident())
        self._begun.put(query)
        assert self.free.wait(PATIENCE_SECONDS)
        if query == "bad":
            raise ValueError("cannot read it")
        return np.array([passage.count(query) for passage in passages], np.float32)

    def begun(self) -> str:
        """Waits until it was given passages; for which query."""
        return self._begun.get(timeout=PATIENCE_SECONDS)

    def asked(self) -> list[str]:
        return [query for query, _ in self.given]


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.free.set()


@pytest.fixture
def free(held: Held) -> Held:
    held.free.set()
    return held


def numbers(scores: Scores | None) -> list[float]:
    assert scores is not None
    return [float(score) for score in scores]


@given(st.lists(st.text("ab", max_size=8), max_size=50), st.integers(1, 60))
def test_scores_are_in_the_order_of_the_passages_however_many_are_read_at_once(
    passages: list[str], at_once: int
) -> None:
    held = Held()
    held.free.set()
    with BatchingReranker(held, at_once=at_once) as shared:
        scores = shared.score("a", passages)
    assert numbers(scores) == [passage.count("a") for passage in passages]
    assert scores is not None
    assert (scores.dtype.name, scores.shape) == ("float32", (len(passages),))
    assert all(len(given_) <= at_once for _, given_ in held.given)


def test_it_has_the_name_and_the_score_type_of_its_reranker(held: Held) -> None:
    shared = BatchingReranker(held)
    assert (shared.reference, shared.score_type) == ("held", "logit")


def test_many_threads_get_their_own_scores_and_one_thread_alone_calls_the_reranker(free: Held) -> None:
    queries = [f"query {number} " for number in range(100)]
    passages = [query * number for number, query in enumerate(queries)]
    with BatchingReranker(free) as shared, ThreadPoolExecutor(20) as callers:
        made = list(callers.map(lambda query: shared.score(query, passages, seconds=PATIENCE_SECONDS), queries))
    for number, scores in enumerate(made):
        assert numbers(scores) == [number if other == number else 0 for other in range(100)]
    [thread] = free.threads
    assert thread != threading.get_ident()


def test_many_tasks_get_their_own_scores(free: Held) -> None:
    async def ask() -> list[Scores | None]:
        with BatchingReranker(free) as shared:
            return await asyncio.gather(*(shared.score_async(str(number), ["1 2", "2 2"]) for number in range(4)))

    assert [numbers(scores) for scores in asyncio.run(ask())] == [[0, 0], [1, 0], [1, 2], [0, 0]]


def test_when_the_time_runs_out_there_are_no_scores_and_the_next_search_gets_its_own(held: Held) -> None:
    with BatchingReranker(held, waiting=1) as shared:
        assert shared.score("slow", ["slow"], seconds=MOMENT_SECONDS) is None
        for _ in range(3):  # none is left waiting
            assert shared.score("behind it", ["tea"], seconds=MOMENT_SECONDS) is None
        held.free.set()
        assert numbers(shared.score("tea", ["tea"], seconds=PATIENCE_SECONDS)) == [1]
    assert held.asked() == ["slow", "tea"]


def test_the_same_with_tasks(held: Held) -> None:
    async def ask() -> None:
        with BatchingReranker(held) as shared:
            assert await shared.score_async("slow", ["slow"], seconds=MOMENT_SECONDS) is None
            assert await shared.score_async("behind it", ["tea"], seconds=MOMENT_SECONDS) is None
            held.free.set()
            assert numbers(await shared.score_async("tea", ["tea"], seconds=PATIENCE_SECONDS)) == [1]

    asyncio.run(ask())
    assert held.asked() == ["slow", "tea"]


def test_a_search_that_ran_out_of_time_reads_no_further_passages(held: Held) -> None:
    with BatchingReranker(held, at_once=1) as shared:
        assert shared.score("slow", ["a", "b", "c"], seconds=MOMENT_SECONDS) is None
        held.free.set()
    assert held.given == [("slow", ["a"])]


def test_a_task_that_is_cancelled_is_not_begun_and_harms_nobody(held: Held) -> None:
    async def ask() -> None:
        with BatchingReranker(held, at_once=1) as shared:
            first, gone, tea = (
                asyncio.create_task(shared.score_async(query, [query, query])) for query in ("first", "gone", "tea")
            )
            await asyncio.to_thread(held.begun)
            first.cancel()
            gone.cancel()
            await asyncio.gather(first, gone, return_exceptions=True)
            assert first.cancelled()
            assert gone.cancelled()
            held.free.set()
            assert numbers(await tea) == [1, 1]

    asyncio.run(ask())
    assert held.asked() == ["first", "tea", "tea"]


def test_an_event_loop_may_end_before_a_search_that_ran_out_of_time(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    with BatchingReranker(held) as shared:
        for query in ("tea", "bad"):
            assert asyncio.run(shared.score_async(query, ["tea"], seconds=MOMENT_SECONDS)) is None
        held.free.set()
    gc.collect()
    assert caplog.records == []


def test_an_error_after_the_time_ran_out_is_nobodys(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        with BatchingReranker(held) as shared:
            assert await shared.score_async("bad", ["tea"], seconds=MOMENT_SECONDS) is None
            held.free.set()
            await shared.score_async("tea", ["tea"])

    asyncio.run(ask())
    gc.collect()
    assert caplog.records == []


def test_the_event_loop_goes_on_while_the_reranker_is_busy(held: Held) -> None:
    async def ask() -> float:
        ticked = 0
        longest, last = 0.0, time.monotonic()
        with BatchingReranker(held) as shared:
            task = asyncio.create_task(shared.score_async("tea", ["tea"]))
            begun = asyncio.create_task(asyncio.to_thread(held.begun))
            while ticked < 1000 or not begun.done():
                await asyncio.sleep(0)
                ticked += 1
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            assert not task.done()
            held.free.set()  # would not be reached
            assert numbers(await task) == [1]
        return longest

    assert asyncio.run(ask()) < 1


def test_more_searches_than_may_wait_are_refused_and_those_that_wait_are_answered(held: Held) -> None:
    async def ask() -> None:
        with BatchingReranker(held, waiting=2) as shared:
            tasks = [asyncio.create_task(shared.score_async(query, ["a"])) for query in "abc"]
            await asyncio.to_thread(held.begun)
            with pytest.raises(errors.EncoderUnavailable, match=r"'held' is overloaded: 2 searches are.*Try again"):
                await shared.score_async("d", ["a"])
            tasks.pop().cancel()
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(shared.score_async("e", ["e"])))
            await asyncio.sleep(0)
            held.free.set()
            assert [numbers(scores) for scores in await asyncio.gather(*tasks)] == [[1], [0], [1]]

    asyncio.run(ask())
    assert held.asked() == ["a", "b", "e"]


def test_what_the_reranker_raises_reaches_its_caller_and_the_thread_goes_on(free: Held) -> None:
    async def ask(shared: BatchingReranker) -> None:
        with pytest.raises(ValueError, match="cannot read it"):
            await shared.score_async("bad", ["a"], seconds=PATIENCE_SECONDS)

    with BatchingReranker(free) as shared:
        with pytest.raises(ValueError, match="cannot read it"):
            shared.score("bad", ["a"])
        asyncio.run(ask(shared))
        assert numbers(shared.score("tea", ["tea"])) == [1]
    assert len(free.threads) == 1


@pytest.mark.parametrize(
    ("made", "why"),
    [([np.nan, 1], "not a finite number"), ([np.inf, 1], "not a finite number"), ([1], "shape"), (1, "shape")],
)
def test_scores_that_can_not_be_ordered_by_are_an_error(made: object, why: str) -> None:
    class Broken(Held):
        def score(self, query: str, passages: Sequence[str]) -> Scores:
            assert (query, passages) == ("tea", ["a", "b"])
            return np.array(made, np.float32)

    with BatchingReranker(Broken()) as shared, pytest.raises(errors.EncoderError, match=why):
        shared.score("tea", ["a", "b"])


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_time_budget_of_nothing_is_refused(held: Held, seconds: float) -> None:
    shared = BatchingReranker(held)
    with pytest.raises(errors.QueryError, match="above 0, or None"):
        shared.score("tea", ["a"], seconds=seconds)
    with pytest.raises(errors.QueryError, match="above 0, or None"):
        asyncio.run(shared.score_async("tea", ["a"], seconds=seconds))


@pytest.mark.parametrize("options", [{"waiting": 0}, {"at_once": 0}])
def test_options_below_one_are_refused(held: Held, options: dict[str, int]) -> None:
    with pytest.raises(errors.ConfigurationError, match="1 or more"):
        BatchingReranker(held, **options)


def test_closing_answers_what_waits_ends_the_thread_and_refuses_what_comes_later(held: Held) -> None:
    shared = BatchingReranker(held)
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(shared.score, "tea", ["tea"])
        held.begun()
        closing = threads.submit(shared.close)
        held.free.set()
        assert numbers(waiting.result(PATIENCE_SECONDS)) == [1]
        closing.result(PATIENCE_SECONDS)
    [owner] = held.threads
    assert owner not in {thread.ident for thread in threading.enumerate()}
    with pytest.raises(errors.ClosedError, match="closed"):
        shared.score("tea", ["tea"])
    shared.close()


def test_no_thread_is_started_before_the_first_search_and_one_that_is_forgotten_ends(free: Held) -> None:
    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith(NAME)}

    before = threads()
    shared = BatchingReranker(free)
    assert threads() == before
    shared.score("tea", ["tea"])
    [thread] = threads() - before
    del shared
    gc.collect()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads, which is what is tested
def test_a_forked_process_scores_with_a_thread_of_its_own(free: Held) -> None:
    with BatchingReranker(free) as shared:
        shared.score("tea", ["tea"])
        child = os.fork()
        if child == 0:
            scores = shared.score("tea", ["tea", ""], seconds=PATIENCE_SECONDS)
            os._exit(0 if scores is not None and scores.tolist() == [1, 0] else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert numbers(shared.score("tea", ["tea"])) == [1]
