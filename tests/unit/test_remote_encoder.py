"""The remote back end against a real HTTP server on this machine."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pg_semantic import encoders, errors
from pg_semantic.encoders import Encoder
from pg_semantic.encoders.remote import response
from pg_semantic.settings import Settings
from tests import openai_server
from tests.openai_server import DIMENSIONS, Reply, Request, Server

REFERENCE = "org/name"
TEXTS = [f"text number {number}" for number in range(10)]
AT_ONCE = {"Retry-After": "0.01"}


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server.running() as made:
        yield made


def load(
    server: Server, *, dimensions: int | None = None, endpoint: dict[str, Any] | None = None, **given: Any
) -> Encoder:
    settings = Settings(encoder_urls={REFERENCE: {"url": server.url, **(endpoint or {})}}, **given)
    return encoders.load(REFERENCE, dimensions=dimensions, settings=settings)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.parametrize("knows_base64", [True, False])
def test_vectors_come_in_base64_or_as_numbers_and_are_the_same(server: Server, knows_base64: bool) -> None:
    server.knows_base64 = knows_base64
    vectors = load(server).encode_documents(TEXTS)
    np.testing.assert_array_equal(vectors, server.encoder.encode_documents(TEXTS))
    assert vectors.dtype == np.float32
    assert {request.body["encoding_format"] for request in server.requests} == {"base64"}


def test_vectors_are_in_the_order_of_the_texts_whatever_request_is_answered_first(server: Server) -> None:
    others = threading.Event()

    def first_is_answered_last(request: Request) -> Reply | None:
        if TEXTS[0] in request.texts:
            return Reply(after=others)
        if TEXTS[-1] in request.texts:
            others.set()
        return None

    encoder = load(server, remote_batch=2, remote_concurrency=5)
    server.rule = first_is_answered_last
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS), server.encoder.encode_documents(TEXTS))


def test_a_request_has_at_most_so_many_texts(server: Server) -> None:
    load(server, remote_batch=4).encode_documents(TEXTS)
    assert sorted(len(request.texts) for request in server.requests[1:]) == [2, 4, 4]


def test_nothing_is_asked_for_no_texts(server: Server) -> None:
    encoder = load(server)
    asked = len(server.requests)
    assert encoder.encode_documents([]).shape == (0, DIMENSIONS)
    assert len(server.requests) == asked


def test_as_many_requests_as_allowed_are_under_way_and_never_more_whoever_asks(server: Server) -> None:
    encoder = load(server, remote_batch=1, remote_concurrency=3)
    three, crowded = threading.Barrier(3, timeout=20), threading.Event()

    def only_together(_: Request) -> None:
        if server.most_at_once > 3:
            crowded.set()
        three.wait()
        crowded.wait(0.2)  # time for a fourth to come

    server.rule = only_together
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(encoder.encode_documents, [TEXTS[:3], TEXTS[:3]]))
    assert server.most_at_once == 3


def test_prompts_are_put_before_the_texts_here(server: Server) -> None:
    encoder = load(server, endpoint={"query_prompt": "query: ", "document_prompt": "passage: "})
    encoder.encode_documents(["tea"])
    encoder.encode_queries(["tea"])
    assert [request.texts for request in server.requests[1:]] == [["passage: tea"], ["query: tea"]]


@pytest.mark.parametrize("name", [None, "served-name"])
def test_the_server_is_asked_for_the_name_that_it_knows(server: Server, name: str | None) -> None:
    load(server, endpoint={"model": name})
    assert server.requests[0].body["model"] == (name or REFERENCE)


def test_retry_after_is_waited_for(server: Server) -> None:
    encoder = load(server)
    server.next.append(Reply(429, headers={"Retry-After": "0.8"}))
    encoder.encode_documents(["tea"])
    refused, answered = server.requests[-2:]
    assert answered.at - refused.at >= 0.8  # the library's own first wait is at most half a second


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_request_is_tried_again_until_it_is_answered(server: Server, status: int) -> None:
    encoder = load(server, remote_retries=3)
    server.next.extend([Reply(status, headers=AT_ONCE)] * 3)
    np.testing.assert_array_equal(encoder.encode_documents(["tea"]), server.encoder.encode_documents(["tea"]))
    assert len(server.requests) == 1 + 4


def test_an_answer_that_takes_too_long_is_asked_for_again(server: Server) -> None:
    encoder, never = load(server, remote_timeout_seconds=0.3), threading.Event()
    server.next.append(Reply(after=never))
    np.testing.assert_array_equal(encoder.encode_documents(["tea"]), server.encoder.encode_documents(["tea"]))
    assert len(server.requests) == 1 + 2
    never.set()


def test_a_server_that_never_answers_in_time_is_unavailable(server: Server) -> None:
    encoder, never = load(server, remote_timeout_seconds=0.2, remote_retries=0), threading.Event()
    server.next.append(Reply(after=never))
    with pytest.raises(errors.EncoderUnavailable, match=r"within 0.2 s: .*PG_SEMANTIC_REMOTE_TIMEOUT_SECONDS"):
        encoder.encode_documents(["tea"])
    never.set()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_goes_on_refusing_is_unavailable(server: Server, status: int) -> None:
    encoder = load(server, remote_retries=2)
    server.rule = lambda _: Reply(status, headers=AT_ONCE)
    with pytest.raises(errors.EncoderUnavailable, match=f"returned status {status}"):
        encoder.encode_queries(["tea"])


def test_an_outage_takes_the_time_of_all_retries_only_once(server: Server) -> None:
    encoder = load(server, remote_retries=3)

    def requests_of_a_call() -> int:
        before = len(server.requests)
        with contextlib.suppress(errors.EncoderUnavailable):
            encoder.encode_documents(["tea"])
        return len(server.requests) - before

    server.rule = lambda _: Reply(503, headers=AT_ONCE)
    assert [requests_of_a_call() for _ in range(3)] == [4, 1, 1]
    server.rule = lambda _: None
    assert requests_of_a_call() == 1
    server.rule = lambda _: Reply(503, headers=AT_ONCE)
    assert requests_of_a_call() == 4


@pytest.mark.parametrize(
    "reply", [Reply(400, headers=AT_ONCE), Reply(200, "under maintenance"), Reply(200, {"data": 1})]
)
def test_a_server_that_answers_no_text_is_unavailable(server: Server, reply: Reply) -> None:
    encoder = load(server, remote_retries=1)
    server.rule = lambda _: reply
    with pytest.raises(errors.EncoderUnavailable):
        encoder.encode_documents(["tea"])


@pytest.mark.parametrize("status", [400, 413, 422, 424, 500])
def test_a_text_that_the_server_chokes_on_is_an_error_of_that_text(server: Server, status: int) -> None:
    encoder = load(server, remote_retries=1)
    server.rule = lambda request: Reply(status, headers=AT_ONCE) if "poison" in request.texts else None
    with pytest.raises(errors.EncoderError, match=f"status {status}") as failure:
        encoder.encode_documents(["poison"])
    assert not isinstance(failure.value, errors.EncoderUnavailable)


def test_a_text_that_gets_a_500_is_not_asked_for_again_and_again(server: Server) -> None:
    encoder = load(server, remote_retries=100)
    server.rule = lambda request: Reply(500) if "poison" in request.texts else None
    before = len(server.requests)
    with pytest.raises(errors.EncoderError, match="status 500 for this text, but encodes other texts"):
        encoder.encode_documents(["poison"])
    assert [request.texts for request in server.requests[before:]].count(["poison"]) == 2


def test_vectors_of_other_dimensions_than_before_are_a_mismatch_that_names_both(server: Server) -> None:
    encoder = load(server)
    server.next.append(Reply(200, {"data": [{"index": 0, "embedding": [1.0, 2.0]}]}))
    with pytest.raises(errors.EncoderMismatch, match=f"2 dimensions, not {DIMENSIONS}"):
        encoder.encode_documents(["tea"])


def test_a_server_of_other_dimensions_than_declared_is_a_mismatch_that_says_what_to_declare(server: Server) -> None:
    with pytest.raises(errors.EncoderMismatch, match=f"declare the index with dimensions={DIMENSIONS}"):
        load(server, dimensions=64)


def vector(index: int) -> dict[str, Any]:
    return {"index": index, "embedding": [0.5] * DIMENSIONS}


WRONG = [[], [vector(0)], [vector(0), vector(1), vector(2)], [vector(0), vector(0)], [vector(1), vector(2)]]


@pytest.mark.parametrize("data", WRONG)
def test_vectors_that_can_not_be_told_apart_are_refused(data: list[dict[str, Any]]) -> None:
    said = "which text each of its 2 vectors" if len(data) == 2 else f"{len(data)} vectors for 2 texts"
    with pytest.raises(errors.EncoderError, match=said):
        response.vectors({"data": data}, texts=2, dimensions=None, reference=REFERENCE)


@pytest.mark.parametrize("data", WRONG)
def test_texts_whose_vectors_can_not_be_told_apart_are_asked_for_one_by_one(
    server: Server, data: list[dict[str, Any]]
) -> None:
    server.rule = lambda request: Reply(200, {"data": data}) if len(request.texts) > 1 else None
    vectors = load(server).encode_documents(TEXTS)
    np.testing.assert_array_equal(vectors, server.encoder.encode_documents(TEXTS))


@pytest.mark.parametrize(
    "body",
    [
        None,
        "secret",
        {"data": None},
        {"data": [{"index": 0}]},
        {"data": [{"index": 0, "embedding": ["secret"]}]},
        {"data": [{"index": 0, "embedding": None}]},
        {"data": [{"index": 0, "embedding": "not base64!"}]},
        {"data": [{"index": 0, "embedding": "AAA="}]},
        {"data": [{"index": "secret", "embedding": [0.5]}]},
    ],
)
def test_an_answer_that_is_no_vectors_is_refused_without_repeating_it(server: Server, body: object) -> None:
    encoder = load(server)
    server.next.append(Reply(200, body))
    with pytest.raises(errors.EncoderError, match="something other than vectors") as refusal:
        encoder.encode_documents(["tea"])
    assert "secret" not in str(refusal.value)


def test_fewer_dimensions_are_asked_for_by_number_of_a_server_that_can(server: Server) -> None:
    server.truncates = True
    encoder = load(server, dimensions=8)
    vectors = encoder.encode_documents(TEXTS)
    np.testing.assert_array_equal(vectors, server.encoder.encode_documents(TEXTS)[:, :8])
    assert encoder.fingerprint != load(server).fingerprint


@pytest.mark.parametrize("refuses", [True, False])
def test_fewer_dimensions_are_a_mismatch_with_a_server_that_can_not(server: Server, refuses: bool) -> None:
    server.rule = lambda request: Reply(400) if refuses and "dimensions" in request.body else None
    with pytest.raises(errors.EncoderMismatch, match=f"{DIMENSIONS} dimensions, not 8"):
        load(server, dimensions=8)


@pytest.mark.parametrize("dimensions", [None, DIMENSIONS])
def test_dimensions_that_the_server_has_anyway_are_not_asked_for(server: Server, dimensions: int | None) -> None:
    load(server, dimensions=dimensions).encode_documents(["tea"])
    assert not any("dimensions" in request.body for request in server.requests)


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "PG_SEMANTIC_REMOTE_API_KEY"), (403, "PG_SEMANTIC_REMOTE_API_KEY"), (404, "PG_SEMANTIC_ENCODER_URLS")],
)
def test_a_server_that_lets_nobody_in_says_what_to_mend(server: Server, status: int, advice: str) -> None:
    server.rule = lambda _: Reply(status)
    with pytest.raises(errors.EncoderUnavailable, match=f"status {status}: .*{advice}"):
        load(server)


def test_a_server_that_is_not_there_says_what_to_mend() -> None:
    settings = Settings(encoder_urls={REFERENCE: f"http://127.0.0.1:{closed_port()}/v1"}, remote_retries=0)
    with pytest.raises(errors.EncoderUnavailable, match=r"'org/name' at http://127.0.0.1:.* cannot be reached"):
        encoders.load(REFERENCE, settings=settings)


def test_the_key_is_sent_and_neither_it_nor_a_text_is_in_an_error(server: Server) -> None:
    encoder = load(server, remote_api_key="hunter2", remote_retries=0)
    assert server.requests[0].headers["authorization"] == "Bearer hunter2"
    for status in (400, 401, 404, 429, 500):
        refusal = Reply(status, {"error": {"message": "hunter2: a private text"}})
        server.next.extend([refusal, refusal])
        with pytest.raises(errors.EncoderError) as failure:
            encoder.encode_documents(["a private text"])
        said = f"{failure.value} {failure.value.__cause__} {failure.value.__context__}"
        assert "hunter2" not in said
        assert "private" not in said


def test_what_is_meant_for_openai_is_not_sent_to_another_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "hunter2")
    load(server)
    assert "authorization" not in server.requests[0].headers
    assert not any("hunter2" in value for value in server.requests[0].headers.values())


def test_the_fingerprint_is_that_of_all_that_is_known(server: Server) -> None:
    known = [
        load(server),
        load(server, endpoint={"model": "other"}),
        load(server, endpoint={"query_prompt": "query: "}),
        load(server, endpoint={"document_prompt": "query: "}),
        load(server, endpoint={"max_tokens": 256}),
    ]
    assert len({encoder.fingerprint for encoder in known}) == len(known)
    assert known[0].fingerprint == load(server).fingerprint


def listed(fingerprint: object, **more: object) -> Reply:
    others = {"id": "another", "fingerprint": "b" * 64, "document_fingerprint": "b" * 64}
    return Reply(200, {"object": "list", "data": [others, {"id": REFERENCE, "fingerprint": fingerprint, **more}]})


def test_the_fingerprint_that_the_server_lists_is_taken(server: Server) -> None:
    server.models = listed("a" * 64)
    assert load(server).fingerprint == "a" * 64


def test_a_document_prompt_of_our_own_makes_another_fingerprint_of_the_servers(server: Server) -> None:
    server.models = listed("a" * 64)
    assert load(server, endpoint={"document_prompt": "passage: "}).fingerprint != "a" * 64
    assert load(server, endpoint={"query_prompt": "query: "}).fingerprint == "a" * 64


def test_the_document_fingerprint_that_the_server_lists_is_taken_unless_we_add_a_prompt(server: Server) -> None:
    server.models = listed("a" * 64, document_fingerprint="d" * 64)
    assert load(server).document_fingerprint == "d" * 64
    assert load(server, endpoint={"query_prompt": "query: "}).document_fingerprint == "d" * 64
    assert load(server, endpoint={"document_prompt": "passage: "}).document_fingerprint != "d" * 64
    server.models = listed("a" * 64, document_fingerprint="short")
    assert load(server).document_fingerprint not in {"short", "a" * 64}


def test_without_one_the_document_fingerprint_has_all_that_is_known_but_the_query_prompt(server: Server) -> None:
    known = [
        load(server),
        load(server, endpoint={"model": "other"}),
        load(server, endpoint={"document_prompt": "query: "}),
        load(server, endpoint={"max_tokens": 256}),
    ]
    assert len({encoder.document_fingerprint for encoder in known}) == len(known)
    other_queries = load(server, endpoint={"query_prompt": "query: "})
    assert other_queries.document_fingerprint == load(server).document_fingerprint


@pytest.mark.parametrize(
    "models", [listed("short"), listed("A" * 64), listed(7), Reply(200, {"data": []}), Reply(200, []), Reply(401)]
)
def test_what_is_no_fingerprint_is_not_taken_for_one(server: Server, models: Reply) -> None:
    unlisted = load(server).fingerprint
    server.models = models
    assert load(server).fingerprint == unlisted


def test_a_list_that_can_not_be_had_for_now_is_not_taken_for_none(server: Server) -> None:
    server.models = Reply(503, headers=AT_ONCE)
    with pytest.raises(errors.EncoderUnavailable, match="status 503"):
        load(server)


def test_a_remote_encoder_without_the_extra_is_refused_with_how_to_install_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    for name in ("encoder", "client", "response_errors"):
        monkeypatch.delitem(sys.modules, f"pg_semantic.encoders.remote.{name}", raising=False)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[remote\]'"):
        load(server)
