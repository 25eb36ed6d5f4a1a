"""Many callers, one encoder: what is encoded, by whom, and who gets what.

The encoder of these tests says when it was given texts and does nothing until it is let go.
"""

import asyncio
import gc
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.encoders import BatchingEncoder, Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from tests.unit import fork

PATIENCE_SECONDS = 30


class Held(HashedEncoder):
    """Takes up texts when it is let go, and breaks on any batch with "bad" in it."""

    def __init__(self) -> None:
        super().__init__(8)
        self.given: list[list[str]] = []
        self.threads: set[int] = set()
        self._begun: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._free = threading.Event()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.given.append(list(texts))
        self.threads.add(threading.get_ident())
        self._begun.put(list(texts))
        assert self._free.wait(PATIENCE_SECONDS)
        if "bad" in texts:
            raise ValueError(f"cannot read {len(texts)} texts")
        return super().encode_queries(texts)

    def begun(self) -> list[str]:
        """Waits until it was given texts; which they are."""
        return self._begun.get(timeout=PATIENCE_SECONDS)

    def let_go(self) -> None:
        """Holds nothing back any more."""
        self._free.set()


@pytest.fixture
def held() -> Iterator[Held]:
    encoder = Held()
    yield encoder
    encoder.let_go()


Vector: TypeAlias = NDArray[np.float32]
Task: TypeAlias = asyncio.Task[Vector]


async def asked(queries: BatchingEncoder, texts: Sequence[str]) -> list[Task]:
    """Tasks that wait for the vectors of texts: each has asked."""
    tasks = [asyncio.create_task(queries.encode_async(text)) for text in texts]
    await asyncio.sleep(0)  # lets each go as far as it gets
    return tasks


async def busy(queries: BatchingEncoder, held: Held) -> Task:
    """A task whose text is being encoded."""
    [task] = await asked(queries, ["first"])
    assert held.begun() == ["first"]
    return task


def test_a_vector_is_the_one_that_the_encoder_makes_and_can_not_be_written_to() -> None:
    encoder = HashedEncoder(8)
    with BatchingEncoder(encoder) as queries:
        vector = queries.encode("tea")
    assert vector.tolist() == encoder.encode_queries(["tea"])[0].tolist()
    assert (vector.dtype.name, vector.shape) == ("float32", (8,))
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 1


def test_a_forgotten_query_is_encoded_again_and_the_others_are_not(held: Held) -> None:
    held.let_go()
    with BatchingEncoder(held) as queries:
        queries.forget("tea")  # which it doesn't know
        for text in ("tea", "milk"):
            queries.encode(text)
        queries.forget("tea")
        for text in ("tea", "milk"):
            queries.encode(text)
    assert held.given == [["tea"], ["milk"], ["tea"]]


def test_what_is_no_encoder_is_refused_with_what_to_give() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"encoders\.load"):
        BatchingEncoder("hashed:8")  # type: ignore[arg-type]


def test_problem_of_the_thread_itself_is_told_to_who_asked_and_the_thread_goes_on() -> None:
    class Odd(HashedEncoder):
        """Cannot say how much it reads, the first time."""

        asked = 0

        def __getattribute__(self, name: str) -> object:
            if name == "max_tokens":
                Odd.asked += 1
                if Odd.asked == 2:  # the first is `HashedEncoder`'s own
                    raise OSError("not now")
            return super().__getattribute__(name)

    Odd.asked = 1
    with BatchingEncoder(Odd(8)) as queries:
        with pytest.raises(OSError, match="not now"):
            queries.encode("tea")
        assert queries.encode("tea").shape == (8,)


def test_it_has_the_name_and_the_fingerprint_of_its_encoder() -> None:
    encoder = HashedEncoder(8)
    queries = BatchingEncoder(encoder)
    assert (queries.reference, queries.fingerprint, queries.dimensions) == ("hashed:8", encoder.fingerprint, 8)


def test_queries_that_come_while_the_encoder_is_busy_are_its_next_batches_in_order(held: Held) -> None:
    texts = [f"text {number}" for number in range(50)]

    async def ask() -> list[Vector]:
        with BatchingEncoder(held) as queries:
            first = await busy(queries, held)
            tasks = await asked(queries, texts)
            held.let_go()
            return await asyncio.gather(first, *tasks)

    vectors = asyncio.run(ask())
    assert held.given == [["first"], texts[:32], texts[32:]]
    np.testing.assert_array_equal(vectors, HashedEncoder(8).encode_queries(["first", *texts]))


def test_one_query_alone_is_encoded_at_once(held: Held) -> None:
    held.let_go()
    with BatchingEncoder(held) as queries:
        for text in ("a", "b", "c"):
            queries.encode(text)
    assert held.given == [["a"], ["b"], ["c"]]


def test_one_thread_alone_calls_the_encoder_for_many_threads(held: Held) -> None:
    held.let_go()
    texts = [f"text {number}" for number in range(200)]
    with BatchingEncoder(held, remembered=0) as queries, ThreadPoolExecutor(20) as callers:
        vectors = list(callers.map(queries.encode, texts))
    np.testing.assert_array_equal(vectors, HashedEncoder(8).encode_queries(texts))
    [thread] = held.threads
    assert thread != threading.get_ident()
    assert sorted(text for batch in held.given for text in batch) == sorted(texts)


def test_equal_texts_that_wait_or_are_being_encoded_are_encoded_once(held: Held) -> None:
    async def ask() -> None:
        with BatchingEncoder(held, remembered=0) as queries:
            tasks = [await busy(queries, held), *await asked(queries, ["first", "tea", "tea", "first"])]
            held.let_go()
            await asyncio.gather(*tasks)

    asyncio.run(ask())
    assert held.given == [["first"], ["tea"]]


def test_the_texts_asked_for_last_are_remembered(held: Held) -> None:
    held.let_go()
    with BatchingEncoder(held, remembered=2) as queries:
        for text in ("a", "b", "a", "c", "a", "b"):  # c is remembered in the place of b, since a was asked for again
            queries.encode(text)
    assert held.given == [["a"], ["b"], ["c"], ["b"]]


def test_a_query_that_was_cancelled_is_not_encoded_and_the_others_are(held: Held) -> None:
    async def ask() -> None:
        with BatchingEncoder(held) as queries:
            first = await busy(queries, held)
            gone, tea, another_tea = await asked(queries, ["gone", "tea", "tea"])
            gone.cancel()
            another_tea.cancel()
            await asyncio.gather(gone, another_tea, return_exceptions=True)
            held.let_go()
            await asyncio.gather(first, tea)
            assert gone.cancelled()

    asyncio.run(ask())
    assert held.given == [["first"], ["tea"]]


def test_a_query_that_is_cancelled_while_it_is_encoded_harms_nobody(held: Held) -> None:
    async def ask() -> None:
        with BatchingEncoder(held) as queries:
            first = await busy(queries, held)
            [again] = await asked(queries, ["first"])
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            held.let_go()
            assert (await again).shape == (8,)
            assert (await queries.encode_async("next")).shape == (8,)

    asyncio.run(ask())
    assert held.given == [["first"], ["next"]]


def test_a_query_that_breaks_the_encoder_fails_alone_and_the_thread_goes_on(held: Held) -> None:
    async def ask() -> list[Vector | BaseException]:
        with BatchingEncoder(held) as queries:
            first = await busy(queries, held)
            tasks = await asked(queries, ["tea", "bad", "milk"])
            held.let_go()
            return [
                *await asyncio.gather(first, *tasks, return_exceptions=True),
                await queries.encode_async("later"),
            ]

    first, tea, bad, milk, later = asyncio.run(ask())
    assert isinstance(bad, ValueError)
    assert str(bad) == "cannot read 1 texts"
    expected = HashedEncoder(8).encode_queries(["first", "tea", "milk", "later"])
    np.testing.assert_array_equal([first, tea, milk, later], expected)
    assert len(held.threads) == 1


def test_an_error_is_not_remembered(held: Held) -> None:
    held.let_go()
    with BatchingEncoder(held) as queries:
        for _ in range(2):
            with pytest.raises(ValueError, match="cannot read"):
                queries.encode("bad")
    assert held.given == [["bad"], ["bad"]]


def test_an_encoder_that_panics_or_gives_too_few_vectors_is_an_error_of_its_callers() -> None:
    class Panic(BaseException):
        """What no `except Exception` catches."""

    class Panics(HashedEncoder):
        def encode_queries(self, texts: Sequence[str]) -> Vectors:
            if "panic" in texts:
                raise Panic
            return super().encode_queries(texts)[1:]

    with BatchingEncoder(Panics(8)) as queries:
        with pytest.raises(Panic):
            queries.encode("panic")
        with pytest.raises(ValueError, match="zip"):
            queries.encode("tea")


def test_more_queries_than_may_wait_are_refused_and_those_that_wait_are_answered(held: Held) -> None:
    async def ask() -> None:
        with BatchingEncoder(held, waiting=2) as queries:
            first = await busy(queries, held)
            tasks = await asked(queries, ["a", "b"])
            with pytest.raises(errors.EncoderUnavailable, match=r"'hashed:8' is overloaded: 2 queries are.*Try again"):
                await queries.encode_async("c")
            [same] = await asked(queries, ["a"])  # costs the encoder nothing
            held.let_go()
            await asyncio.gather(first, *tasks, same)
            await queries.encode_async("c")

    asyncio.run(ask())
    assert held.given == [["first"], ["a", "b"], ["c"]]


def test_a_cancelled_query_makes_room_for_another(held: Held) -> None:
    async def ask() -> None:
        with BatchingEncoder(held, waiting=1) as queries:
            first = await busy(queries, held)
            [gone] = await asked(queries, ["gone"])
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            [another] = await asked(queries, ["another"])
            held.let_go()
            await asyncio.gather(first, another)

    asyncio.run(ask())
    assert held.given == [["first"], ["another"]]


def test_the_event_loop_goes_on_while_the_encoder_is_busy(held: Held) -> None:
    async def ask() -> None:
        with BatchingEncoder(held) as queries:
            task = asyncio.create_task(queries.encode_async("tea"))
            await asyncio.get_running_loop().run_in_executor(None, held.begun)
            held.let_go()  # would not be reached
            await task

    asyncio.run(ask())


def test_closing_answers_what_waits_ends_the_thread_and_refuses_what_comes_later(held: Held) -> None:
    queries = BatchingEncoder(held)
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(queries.encode, "tea")
        held.begun()
        closing = threads.submit(queries.close)
        held.let_go()
        assert waiting.result(PATIENCE_SECONDS).shape == (8,)
        closing.result(PATIENCE_SECONDS)
    [owner] = held.threads
    assert owner not in {thread.ident for thread in threading.enumerate()}
    with pytest.raises(errors.ClosedError, match="closed"):
        queries.encode("milk")
    queries.close()


def test_a_query_encoder_that_is_forgotten_ends_its_thread() -> None:
    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "pg_semantic queries"}

    before = threads()
    queries = BatchingEncoder(HashedEncoder(8))
    queries.encode("tea")
    [thread] = threads() - before
    del queries
    gc.collect()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_no_thread_is_started_before_the_first_query() -> None:
    before = threading.active_count()
    with BatchingEncoder(HashedEncoder(8)):
        assert threading.active_count() == before


def test_a_forked_process_answers_with_a_thread_of_its_own_whatever_the_first_one_was_at() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", fork.__file__],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.stdout == "child True\nparent True\n", done.stderr
