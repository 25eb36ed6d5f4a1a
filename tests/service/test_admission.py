"""Many requests at once: what is encoded together, what waits, what is refused, and who is not waited for."""

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx2
import pytest

from tests.service import serving
from tests.service.encoders import Held
from tests.waiting import eventually

NAME = "hashed:8"


@pytest.fixture
def held() -> Iterator[Held]:
    encoder = Held()
    yield encoder
    encoder.let_go()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as made:
        yield made


def post(client: httpx2.Client, *texts: str, kind: str = "query") -> httpx2.Response:
    return client.post("/v1/embeddings", json={"model": NAME, "input": list(texts), "input_type": kind})


def until(client: httpx2.Client, count: int) -> None:
    """Waits until so many texts wait for the encoder, as the figures have it."""
    line = f'pg_semantic_queue_texts{{encoder="{NAME}"}} {float(count)}'
    eventually(lambda: line in client.get("/metrics").text.splitlines(), f"{count} waiting texts")


def busy(client: httpx2.Client, held: Held, callers: ThreadPoolExecutor) -> Future[httpx2.Response]:
    """A request whose text is being encoded."""
    first = callers.submit(post, client, "first")
    assert held.begun() == ["first"]
    return first


def test_texts_of_many_requests_that_come_while_the_encoder_is_busy_are_its_next_batch(
    held: Held, callers: ThreadPoolExecutor
) -> None:
    with serving.running(held) as client:
        asked = [busy(client, held, callers)]
        asked += [callers.submit(post, client, f"text {number}") for number in range(20)]
        until(client, 20)
        held.let_go()
        assert {one.result().status_code for one in asked} == {200}
    assert sorted(held.given[1][1]) == sorted(f"text {number}" for number in range(20))
    assert len(held.given) == 2


def test_a_batch_has_no_more_tokens_than_the_setting_says_but_one_text_at_least(
    held: Held, callers: ThreadPoolExecutor
) -> None:
    with serving.running(held, service_batch_tokens=4) as client:
        first = busy(client, held, callers)
        second = callers.submit(post, client, "a b", "c d", "e f", "g h i j k", "l")
        until(client, 5)
        held.let_go()
        assert (first.result().status_code, second.result().status_code) == (200, 200)
    assert [texts for _, texts in held.given[1:]] == [["a b", "c d"], ["e f"], ["g h i j k"], ["l"]]


def test_a_query_waits_for_one_batch_of_documents_and_not_for_all(held: Held, callers: ThreadPoolExecutor) -> None:
    with serving.running(held, service_batch_tokens=1) as client:
        first = busy(client, held, callers)
        documents = callers.submit(post, client, "a", "b", "c", kind="document")
        until(client, 3)
        query = callers.submit(post, client, "where")
        until(client, 4)
        held.let_go()
        assert {one.result().status_code for one in (first, documents, query)} == {200}
    assert held.given[1:4] == [("document", ["a"]), ("query", ["where"]), ("document", ["b"])]


def test_texts_that_would_be_too_many_are_refused_together_and_those_that_wait_are_answered(
    held: Held, callers: ThreadPoolExecutor
) -> None:
    with serving.running(held, service_waiting_texts=3) as client:
        asked = [busy(client, held, callers), callers.submit(post, client, "a", "b")]
        until(client, 2)
        refused = post(client, "c", "d")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["type"] == "rate_limit_error"
        held.let_go()
        assert {one.result().status_code for one in asked} == {200}
    assert held.given[1:] == [("query", ["a", "b"])]


def test_more_requests_than_are_answered_at_once_are_refused_and_health_and_figures_are_not(
    held: Held, callers: ThreadPoolExecutor
) -> None:
    with serving.running(held, service_requests=1) as client:
        first = busy(client, held, callers)
        refused = post(client, "tea")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert {client.get(path).status_code for path in ("/health", "/ready", "/metrics")} == {200}
        held.let_go()
        assert first.result().status_code == 200
        # The place of the first is free a moment after its answer.
        eventually(lambda: post(client, "tea").status_code == 200, "the place of the first request")


def test_a_client_that_hung_up_is_not_encoded_for_and_makes_room(held: Held, callers: ThreadPoolExecutor) -> None:
    with serving.running(held) as client:
        first = busy(client, held, callers)
        leaving = socket.create_connection((client.base_url.host, client.base_url.port or 0))
        body = b'{"model": "hashed:8", "input": "gone"}'
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        leaving.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        until(client, 1)
        leaving.close()
        await_left(client)
        held.let_go()
        assert first.result().status_code == 200
        assert post(client, "next").status_code == 200
    assert [texts for _, texts in held.given] == [["first"], ["next"]]


def await_left(client: httpx2.Client) -> None:
    """Waits until a request was counted as left by its client."""
    line = 'pg_semantic_requests_total{path="/v1/embeddings",status="499"} 1.0'
    eventually(lambda: line in client.get("/metrics").text, "a request that its client left")


def test_a_body_that_says_that_it_is_too_large_is_refused_unread() -> None:
    with serving.running(Held(), service_body_bytes=1024) as client:
        assert serving.announced(client, 1025) == 413
        response = client.post("/v1/embeddings", content=b" " * 1025)
        assert response.status_code == 413
        assert "1024 bytes" in response.json()["error"]["message"]


def test_a_body_that_turns_out_to_be_too_large_is_refused() -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(3):
            yield b" " * 512

    with serving.running(Held(), service_body_bytes=1024) as client:
        assert client.post("/v1/embeddings", content=parts()).status_code == 413


def figures_with(client: httpx2.Client, part: str) -> list[str]:
    """All figures, once one of them has this part."""
    text = client.get("/metrics").text
    return text.splitlines() if part in text else []


def test_batches_and_requests_are_counted(held: Held, callers: ThreadPoolExecutor) -> None:
    held.let_go()
    with serving.running(held) as client:
        post(client, "tea with milk", "milk")
        client.get("/a-path-that-anyone-can-think-of")
        figures = eventually(lambda: figures_with(client, 'requests_total{path="none"'), "the 404 to be counted")
    assert f'pg_semantic_batch_texts_sum{{encoder="{NAME}"}} 2.0' in figures
    assert f'pg_semantic_batch_tokens_sum{{encoder="{NAME}"}} 4.0' in figures
    assert 'pg_semantic_requests_total{path="/v1/embeddings",status="200"} 1.0' in figures
    assert 'pg_semantic_requests_total{path="none",status="404"} 1.0' in figures
    assert not [line for line in figures if "anyone" in line]
