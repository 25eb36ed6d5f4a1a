"""What a remote encoder says about the tokens that it sends: before, and after."""

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pg_semantic import encoders, errors
from pg_semantic.encoders.token_meter import Metered
from pg_semantic.settings import Settings
from tests import openai_server
from tests.openai_server import Reply, Request, Server

REFERENCE = "org/name"
TEXTS = [f"text number {number}" for number in range(4)]
ESTIMATE = 4 * (2 + 2 + 3 + 1)  # special tokens; "text", "number" and a digit, at a token for two bytes


@dataclass
class Meter:
    """Admits everything, and remembers it."""

    admitted: list[int] = field(default_factory=list)
    recorded: list[tuple[int, int, int]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    settled: int = 0
    refuses_after: int | None = None
    largest_request: float = math.inf

    def admit(self, tokens: int) -> None:
        if len(self.admitted) == self.refuses_after:
            raise ConnectionError("The database is gone.")
        self.admitted.append(tokens)
        self.threads.add(threading.get_ident())

    def record(self, *, admitted: int, used: int, billed: int) -> None:
        self.recorded.append((admitted, used, billed))

    def settle(self) -> None:
        self.settled += 1


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server.running() as made:
        yield made


def metered(server: Server, **given: Any) -> tuple[Metered, Meter]:
    """An encoder of the server, and its meter."""
    settings = Settings(encoder_urls={REFERENCE: {"url": server.url, **given.pop("endpoint", {})}}, **given)
    encoder = encoders.load(REFERENCE, settings=settings)
    assert isinstance(encoder, Metered)
    encoder.meter = Meter()
    return encoder, encoder.meter


def encode(encoder: Any, *texts: str) -> None:
    encoder.encode_documents(texts or TEXTS)


def test_tokens_are_those_that_the_server_reports(server: Server) -> None:
    encoder, meter = metered(server)
    server.tokens_per_text = 5
    encode(encoder)
    assert meter.recorded == [(ESTIMATE, 20, 20)]
    assert meter.settled == 1


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"total_tokens": 0}, {"total_tokens": "5"}, {"total_tokens": -1}, {"total_tokens": True}]
)
def test_tokens_are_counted_here_if_the_server_does_not_report_them(server: Server, usage: object) -> None:
    encoder, meter = metered(server)
    server.rule = lambda request: Reply(200, {**server.vectors(request), "usage": usage})
    encode(encoder)
    assert meter.recorded == [(ESTIMATE, ESTIMATE, ESTIMATE)]


def test_a_text_counts_as_many_tokens_as_the_encoder_reads_at_most(server: Server) -> None:
    encoder, meter = metered(server, endpoint={"max_tokens": 16})
    encode(encoder, "word " * 1000)
    assert meter.admitted == [16]


def test_each_attempt_counts_for_the_rate_and_only_the_answered_one_costs(server: Server) -> None:
    encoder, meter = metered(server, remote_retries=3)
    server.tokens_per_text = 5
    server.next.extend([Reply(429, headers={"Retry-After": "0.01"})] * 2)
    encode(encoder)
    assert meter.recorded == [(ESTIMATE, 2 * ESTIMATE + 20, 20)]


def test_attempts_after_a_status_500_count_too(server: Server) -> None:
    encoder, meter = metered(server, remote_retries=2)
    server.tokens_per_text = 5
    server.next.append(Reply(500))
    encode(encoder)
    assert meter.recorded == [(ESTIMATE, ESTIMATE + 20, 20)]


def test_probes_between_the_attempts_do_not_count(server: Server) -> None:
    encoder, meter = metered(server, remote_retries=2)
    server.rule = lambda request: Reply(500) if TEXTS[0] in request.texts else None
    asked = len(server.requests)
    with pytest.raises(errors.EncoderError):
        encode(encoder, TEXTS[0])
    assert len(server.requests) - asked > 2
    assert meter.recorded == [(ESTIMATE // 4, 2 * ESTIMATE // 4, 0)]


def test_a_refused_request_costs_nothing(server: Server) -> None:
    encoder, meter = metered(server, remote_retries=0)
    server.rule = lambda request: Reply(429) if TEXTS[0] in request.texts else None
    with pytest.raises(errors.EncoderUnavailable):
        encode(encoder)
    assert meter.recorded == [(ESTIMATE, ESTIMATE, 0)]
    assert meter.settled == 1


def test_a_request_that_timed_out_costs_as_much_as_an_answered_one(server: Server) -> None:
    encoder, meter = metered(server, remote_retries=0, remote_timeout_seconds=0.2)
    late = threading.Event()
    server.rule = lambda request: Reply(after=late) if TEXTS[0] in request.texts else None
    with pytest.raises(errors.EncoderUnavailable):
        encode(encoder)
    late.set()
    assert meter.recorded == [(ESTIMATE, ESTIMATE, ESTIMATE)]


def test_texts_that_are_sent_again_in_smaller_requests_count_again(server: Server) -> None:
    encoder, meter = metered(server)
    server.tokens_per_text = 5
    server.rule = lambda request: Reply(413) if len(request.texts) > 2 else None
    encode(encoder)
    assert meter.recorded == [(ESTIMATE, ESTIMATE + 20, 20)]


def test_what_was_admitted_and_never_sent_is_given_back(server: Server) -> None:
    """Two texts wait for others to be answered, when the third is refused."""
    encoder, meter = metered(server, remote_batch=1, remote_concurrency=3)
    release, busy = threading.Event(), threading.Semaphore(0)

    def hold(request: Request) -> Reply | None:
        if "others" in request.texts[0]:
            busy.release()
            return Reply(after=release)
        return None

    server.rule = hold
    with ThreadPoolExecutor(1) as threads:
        others = threads.submit(encode, encoder, *["others"] * 3)
        try:
            for _ in range(3):
                assert busy.acquire(timeout=20)
            meter.refuses_after = len(meter.admitted) + 2
            with pytest.raises(ConnectionError):
                encode(encoder)
            assert meter.recorded == [(ESTIMATE // 4, 0, 0)] * 2
        finally:
            release.set()
        others.result()


def test_requests_are_admitted_one_by_one_on_the_thread_that_asks(server: Server) -> None:
    """Waiting for it on a thread that sends requests would keep others from sending theirs."""
    encoder, meter = metered(server, remote_batch=1)
    encode(encoder)
    assert meter.admitted == [ESTIMATE // 4] * 4
    assert meter.threads == {threading.get_ident()}


def test_no_request_of_several_texts_is_larger_than_the_meter_allows(server: Server) -> None:
    encoder, meter = metered(server)
    one = ESTIMATE // 4
    for largest, expected in ((2 * one, [2 * one] * 2), (3 * one, [3 * one, one]), (1, [one] * 4)):
        meter.largest_request = largest
        meter.admitted.clear()
        vectors = encoder.encode_documents(TEXTS)  # type: ignore[attr-defined]
        assert meter.admitted == expected
        np.testing.assert_array_equal(vectors, server.encoder.encode_documents(TEXTS))


def test_queries_count_too(server: Server) -> None:
    encoder, meter = metered(server)
    server.tokens_per_text = 5
    encoder.encode_queries(TEXTS[:1])  # type: ignore[attr-defined]
    assert [billed for *_, billed in meter.recorded] == [5]


def test_an_encoder_without_a_server_has_no_meter() -> None:
    assert not isinstance(encoders.load("hashed:32"), Metered)
