"""What servers with OpenAI's API answer and refuse, each as its own documentation or a public report shows it."""

import base64
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pg_semantic import encoders, errors
from pg_semantic.encoders import Encoder
from pg_semantic.settings import Settings
from tests import openai_server
from tests.openai_server import DIMENSIONS, Reply, Request, Server

REFERENCE = "org/name"
TEXTS = [f"text number {number}" for number in range(10)]

Refusal = Callable[[Request], Reply | None]


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server.running() as made:
        yield made


def load(server: Server, url: str | None = None, *, dimensions: int | None = None, **given: Any) -> Encoder:
    settings = Settings(encoder_urls={REFERENCE: {"url": url or server.url}}, remote_retries=0, **given)
    return encoders.load(REFERENCE, dimensions=dimensions, settings=settings)


def is_right(encoder: Encoder, server: Server) -> None:
    for encode in (encoder.encode_documents, encoder.encode_queries):
        np.testing.assert_array_equal(encode(TEXTS), server.encoder.encode_documents(TEXTS))


@dataclass(frozen=True)
class Kind:
    """A kind of server: how it writes a vector and all of them, and what it refuses."""

    one: Callable[[int, list[float] | str], dict[str, Any]]
    rest: dict[str, Any]
    refuses: Refusal = lambda _: None
    knows_base64: bool = False
    base: str = "/v1"

    def rule(self, server: Server) -> Refusal:
        def answer(request: Request) -> Reply:
            if refusal := self.refuses(request):
                return refusal
            data = [
                self.one(place, written(row, as_base64=self.knows_base64 and format_of(request) == "base64"))
                for place, row in enumerate(server.encoder.encode_documents(request.texts))
            ]
            return Reply(200, {"data": data, **self.rest})

        return answer


def format_of(request: Request) -> object:
    return request.body.get("encoding_format")


def written(row: Any, *, as_base64: bool) -> list[float] | str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode() if as_base64 else row.tolist()


def indexed(place: int, vector: list[float] | str) -> dict[str, Any]:
    return {"object": "embedding", "index": place, "embedding": vector}


def bare(_: int, vector: list[float] | str) -> dict[str, Any]:
    return {"object": "embedding", "embedding": vector}


def listed(tokens: int = 5) -> dict[str, Any]:
    return {"object": "list", "model": "m", "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def more_than(most: int, status: int, body: object) -> Refusal:
    return lambda request: Reply(status, body) if len(request.texts) > most else None


def fields_other_than(*known: str, status: int, body: object) -> Refusal:
    return lambda request: Reply(status, body) if request.body.keys() - {"model", "input", *known} else None


GEMINI_TOO_MANY = [
    {
        "error": {
            "code": 400,
            "message": "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n",
            "status": "INVALID_ARGUMENT",
        }
    }
]
MISTRAL_EXTRA = {
    "object": "error",
    "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "encoding_format"], "msg": "Extra inputs"}]},
    "type": "invalid_request_error",
    "param": None,
    "code": None,
}
VOYAGE_FLOAT = {"detail": "Value 'float' supplied for argument 'encoding_format' is not valid -- accepted: ['base64']."}
LITELLM_UNSUPPORTED = {
    "error": {
        "message": "litellm.UnsupportedParamsError: gemini does not support parameters: {'encoding_format': 'base64'}",
        "type": "None",
        "param": "None",
        "code": "400",
    }
}
TEI_TOO_MANY = {"message": "batch size 64 > maximum allowed batch size 32", "code": 413, "type": "Validation"}
VLLM_BASE64 = {
    "object": "error",
    "message": "base64 encoding is not currently supported",
    "type": "BadRequestError",
    "param": None,
    "code": 400,
}
DASHSCOPE_TOO_MANY = {
    "error": {
        "message": "<400> InternalError.Algo.InvalidParameter: batch size is invalid, it should not be larger than 10.",
        "type": "InvalidParameter",
        "param": None,
        "code": "InvalidParameter",
    }
}

SERVERS = {
    "OpenAI": Kind(indexed, listed(), knows_base64=True, refuses=more_than(2048, 400, {"error": {"code": None}})),
    "Gemini": Kind(bare, {"object": "list", "model": "m"}, more_than(4, 400, GEMINI_TOO_MANY), base="/v1beta/openai"),
    "Gemini, with 0 left out": Kind(
        lambda place, vector: indexed(place, vector) if place else bare(place, vector), listed()
    ),
    "Mistral": Kind(
        indexed,
        {"id": "e8a8", "object": "list", "model": "mistral-embed", "usage": {"prompt_tokens": 1, "total_tokens": 1}},
        fields_other_than("output_dimension", "output_dtype", status=422, body=MISTRAL_EXTRA),
    ),
    "Cohere": Kind(indexed, listed(0), knows_base64=True, base="/compatibility/v1"),
    "Voyage": Kind(
        indexed,
        {"object": "list", "model": "voyage-3.5", "usage": {"total_tokens": 10}},
        lambda request: Reply(400, VOYAGE_FLOAT) if format_of(request) == "float" else None,
        knows_base64=True,
    ),
    "LiteLLM": Kind(
        lambda place, vector: {"embedding": vector, "index": place, "object": "embedding"},
        listed(),
        lambda request: Reply(400, LITELLM_UNSUPPORTED) if "encoding_format" in request.body else None,
    ),
    "TEI": Kind(indexed, listed(512), more_than(4, 413, TEI_TOO_MANY), knows_base64=True),
    "vLLM": Kind(indexed, {"id": "embd-7f", "created": 1_750_000_000, **listed()}, knows_base64=True),
    "vLLM, older": Kind(
        indexed,
        {"id": "cmpl-7f", **listed()},
        lambda request: Reply(400, VLLM_BASE64) if format_of(request) == "base64" else None,
    ),
    "Ollama": Kind(indexed, {"object": "list", "model": "nomic-embed-text"}),
    "llama.cpp": Kind(
        lambda place, vector: {
            "embedding": vector,
            "index": place,
            "object": "embedding",
            **({"encoding_format": "base64"} if isinstance(vector, str) else {}),
        },
        {"model": "gpt-3.5-turbo", "object": "list", "usage": {"prompt_tokens": 6, "total_tokens": 6}},
        knows_base64=True,
    ),
    "OpenVINO Model Server": Kind(indexed, {"object": "list"}, base="/v3"),
    "DashScope": Kind(indexed, listed(), more_than(3, 400, DASHSCOPE_TOO_MANY), base="/compatible-mode/v1"),
    "an index that is a text": Kind(lambda place, vector: indexed(place, vector) | {"index": str(place)}, listed()),
    "an index that is null": Kind(lambda place, vector: indexed(place, vector) | {"index": None}, listed()),
    "an index that is always 0": Kind(lambda _, vector: indexed(0, vector), listed()),
    "one vector for all": Kind(
        indexed, {}, lambda request: Reply(200, {"data": [indexed(0, [0.5] * DIMENSIONS)]}) if many(request) else None
    ),
}


def many(request: Request) -> bool:
    return len(request.texts) > 1


@pytest.mark.parametrize("name", SERVERS)
def test_vectors_are_right_and_in_order_whatever_server_makes_them(server: Server, name: str) -> None:
    kind = SERVERS[name]
    server.base, server.rule = kind.base, kind.rule(server)
    encoder = load(server, server.url.removesuffix("/v1") + kind.base)
    assert encoder.dimensions == DIMENSIONS
    is_right(encoder, server)


@pytest.mark.parametrize("name", ["Mistral", "LiteLLM", "vLLM, older"])
def test_a_server_that_refuses_base64_is_asked_for_it_once(server: Server, name: str) -> None:
    server.rule = SERVERS[name].rule(server)
    encoder = load(server)
    before = len(server.requests)
    is_right(encoder, server)
    assert not any(format_of(request) == "base64" for request in server.requests[before:])


@pytest.mark.parametrize(("name", "most"), [("Gemini", 2), ("TEI", 2), ("DashScope", 2), ("an index that is null", 10)])
def test_the_size_of_a_batch_that_is_read_is_found_once_and_logged(
    server: Server, name: str, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    kind = SERVERS[name]
    server.base, server.rule = kind.base, kind.rule(server)
    encoder = load(server, server.url.removesuffix("/v1") + kind.base, remote_concurrency=1)
    with caplog.at_level(logging.WARNING, "pg_semantic.encoders"):
        is_right(encoder, server)
    before = len(server.requests)
    is_right(encoder, server)
    assert [len(request.texts) for request in server.requests[before:]] == [most] * (20 // most)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (most < 10)
    assert all(f"more than {most} texts at once; set PG_SEMANTIC_REMOTE_BATCH={most} to" in one for one in said)


def test_texts_that_are_too_much_together_are_read_by_halves(server: Server) -> None:
    """Voyage and OpenAI count the tokens of a request; probes are short."""
    server.rule = lambda request: Reply(400) if sum(map(len, request.texts)) > 100 else None
    is_right(load(server), server)


def test_a_bad_text_in_a_batch_is_not_taken_for_a_batch_that_is_too_large(server: Server) -> None:
    server.rule = lambda request: Reply(400) if TEXTS[3] in request.texts else None
    encoder = load(server)
    with pytest.raises(errors.EncoderError, match="rejects this text or its length"):
        encoder.encode_documents(TEXTS)
    server.rule = lambda _: None
    before = len(server.requests)
    is_right(encoder, server)
    assert len(server.requests) == before + 2  # one request a call, as before


@pytest.mark.parametrize("given", ["", "/", "/v1", "/v1/", "/v1//", "/v1/embeddings", "/v1/embeddings/"])
def test_the_url_may_end_as_people_write_it(server: Server, given: str) -> None:
    is_right(load(server, server.url.removesuffix("/v1") + given), server)


@pytest.mark.parametrize(
    "elsewhere",
    [
        Reply(404, b"404 page not found", {"Content-Type": "text/plain"}),
        Reply(405, {"detail": "Method Not Allowed"}),
        Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"}),
        Reply(200, [{"index": 0, "embedding": [[0.1, 0.2]]}]),
    ],
    ids=["Ollama", "another method", "a page", "llama.cpp's own API"],
)
def test_an_api_below_v1_is_found_whatever_is_at_the_url_itself(server: Server, elsewhere: Reply) -> None:
    server.elsewhere = elsewhere
    encoder = load(server, server.url.removesuffix("/v1"))
    before = len(server.requests)
    is_right(encoder, server)
    assert {request.path for request in server.requests[before:]} == {"/v1/embeddings"}


@pytest.mark.parametrize("url", ["/v1", "/v1beta/openai", "/api/v3"])
def test_a_url_with_a_version_in_it_is_not_looked_for_elsewhere(server: Server, url: str) -> None:
    server.base = "/somewhere"
    with pytest.raises(errors.EncoderUnavailable, match="status 404"):
        load(server, server.url.removesuffix("/v1") + url)
    assert {request.path for request in server.requests} <= {f"{url}/embeddings"}


@pytest.mark.parametrize("name", ["dimensions", "output_dimension"])
@pytest.mark.parametrize("by_itself", [DIMENSIONS, 16, 4])
def test_other_dimensions_are_asked_for_by_the_name_that_the_server_knows(
    server: Server, name: str, by_itself: int
) -> None:
    def rule(request: Request) -> Reply | None:
        if request.body.keys() & {"dimensions", "output_dimension"} - {name}:
            return Reply(400, {"detail": "Argument 'dimensions' is not supported by our API"})
        data = [
            indexed(place, row[: request.body.get(name, by_itself)].tolist())
            for place, row in enumerate(server.encoder.encode_documents(request.texts))
        ]
        return Reply(200, {"data": data})

    server.rule = rule
    vectors = load(server, dimensions=8).encode_documents(TEXTS)
    np.testing.assert_array_equal(vectors, server.encoder.encode_documents(TEXTS)[:, :8])


def test_an_empty_vector_is_none(server: Server) -> None:
    """Ollama 0.21 answers these to texts in a list."""
    server.rule = lambda _: Reply(200, {"data": [{"object": "embedding", "embedding": [], "index": 0}]})
    with pytest.raises(errors.EncoderUnavailable, match="returned an empty vector"):
        load(server)


@pytest.mark.parametrize("number", [None, float("nan"), "0.5x", [0.5]])
def test_a_vector_with_something_else_in_it_is_that_texts_alone(server: Server, number: object) -> None:
    """Some servers write null for a number that is none."""
    bad = {"data": [indexed(0, [number] * DIMENSIONS)]}  # type: ignore[list-item]
    server.rule = lambda request: Reply(200, bad) if TEXTS[0] in request.texts else None
    encoder = load(server)
    found: Any = None
    with contextlib.suppress(errors.EncoderError):
        found = encoder.encode_documents(TEXTS[:1])
    assert found is None or not np.isfinite(found).any()
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS[1:]), server.encoder.encode_documents(TEXTS[1:]))


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "application/json; charset=utf-8"])
def test_an_answer_that_is_json_is_read_whatever_it_is_said_to_be(server: Server, kind: str) -> None:
    server.rule = lambda request: Reply(200, json.dumps(server.vectors(request)).encode(), {"Content-Type": kind})
    is_right(load(server), server)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (429, {"error": {"message": "secret", "type": "insufficient_quota", "code": "insufficient_quota"}}, "quota"),
        (400, [{"error": {"code": 400, "message": "secret", "status": "INVALID_ARGUMENT"}}], "INVALID_ARGUMENT"),
        (401, {"object": "error", "message": "secret", "type": "Unauthorized", "code": 401}, "Unauthorized"),
        (429, {"error": "secret", "error_type": "overloaded"}, "overloaded"),
        (503, {"error": {"code": 503, "message": "secret", "type": "unavailable_error"}}, "unavailable_error"),
        (422, {"detail": [{"loc": ["body"], "msg": "secret", "type": "value_error"}]}, None),
        (400, {"error": {"code": "secret text"}}, None),
        (502, b"<html><body>secret: Bad Gateway</body></html>", None),
        (404, b"secret", None),
        (500, "secret", None),
        (400, [], None),
    ],
)
def test_a_refusal_is_told_with_its_code_and_without_its_message(
    server: Server, status: int, body: object, code: str | None
) -> None:
    server.rule = lambda _: Reply(status, body)
    with pytest.raises(errors.EncoderUnavailable) as failure:
        load(server)
    assert f"status {status}" in str(failure.value)
    assert "secret" not in str(failure.value)
    assert (code or "") in str(failure.value)
    assert (f"status {status} (" in str(failure.value)) == (code is not None)


def test_a_server_that_refuses_any_text_is_told_apart_from_one_that_is_overloaded(server: Server) -> None:
    """Gemini answers 400 to a wrong key."""
    server.rule = lambda _: Reply(400, [{"error": {"code": 400, "message": "API key not valid."}}])
    with pytest.raises(errors.EncoderUnavailable, match=r"even a short text.*PG_SEMANTIC_REMOTE_API_KEY"):
        load(server)


@pytest.mark.parametrize("code", [429, "429", 503])
def test_a_refusal_that_is_sent_as_an_answer_is_taken_for_what_it_says(server: Server, code: object) -> None:
    encoder = load(server)
    busy = Reply(200, {"error": {"message": "Rate limit exceeded", "code": code}})
    server.next.extend([busy])
    with pytest.raises(errors.EncoderUnavailable, match=f"status {code}: it is overloaded"):
        encoder.encode_documents(TEXTS)
    is_right(encoder, server)


def test_a_batch_is_not_made_smaller_since_the_server_was_busy_as_it_was_tried(server: Server) -> None:
    encoder = load(server)
    server.rule = lambda request: (
        Reply(400)
        if TEXTS[3] in request.texts
        else Reply(429)
        if len(set(request.texts)) < len(request.texts)
        else None
    )
    with pytest.raises(errors.EncoderError):
        encoder.encode_documents(TEXTS)
    server.rule = lambda _: None
    before = len(server.requests)
    is_right(encoder, server)
    assert len(server.requests) == before + 2
