"""Vectors over HTTP: the same as the encoder makes, for OpenAI's client, for ours, for anything that speaks JSON."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from pg_semantic import encoders
from pg_semantic.settings import Settings
from tests.service import serving
from tests.service.encoders import Held, Prompted

TEXTS = ["tea with milk", "a harbour", "tea"]
ENCODER = Prompted(32, max_tokens=6)
NAME = ENCODER.reference


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with serving.running(ENCODER, service_request_texts=4, service_text_characters=100) as made:
        yield made


@pytest.fixture
def official(client: httpx2.Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none", max_retries=0) as made:
        yield made


def asked(client: httpx2.Client, **body: Any) -> Any:
    response = client.post("/v1/embeddings", json={"model": NAME, "input": TEXTS} | body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (" ", "The text is blank: fill it in."),
        ([""], "The text is blank: fill it in."),
        (["tea", " "], "Text 1 is blank: fill it in, or leave it out."),
        ("a" * 101, "The text has 101 characters: send at most 100 (PG_SEMANTIC_SERVICE_TEXT_CHARACTERS)."),
        (["tea", "a" * 101], "Text 1 has 101 characters: send at most 100 (PG_SEMANTIC_SERVICE_TEXT_CHARACTERS)."),
    ],
)
def test_only_one_of_several_texts_has_a_number(client: httpx2.Client, given: Any, said: str) -> None:
    refused = client.post("/v1/embeddings", json={"model": NAME, "input": given})
    assert (refused.status_code, refused.json()["error"]["message"]) == (422, said)


def vectors(answer: Any) -> list[list[float]]:
    return [one["embedding"] for one in answer["data"]]


@pytest.mark.parametrize("written", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_the_official_client_gets_the_vectors_that_the_encoder_makes(
    official: openai.OpenAI, written: dict[str, Any]
) -> None:
    answer = official.embeddings.create(model=NAME, input=TEXTS, **written)
    found = [one.embedding for one in answer.data]
    if written.get("encoding_format") == "base64":
        found = [np.frombuffer(base64.b64decode(str(one)), "<f4").tolist() for one in found]
    np.testing.assert_array_equal(np.array(found, np.float32), ENCODER.encode_documents(TEXTS))
    assert answer.usage.prompt_tokens == 6


def test_the_official_client_lists_what_is_served_by_fingerprint(official: openai.OpenAI) -> None:
    [listed] = official.models.list().data
    assert (listed.id, listed.to_dict()["fingerprint"]) == (NAME, ENCODER.fingerprint)
    assert listed.to_dict()["document_fingerprint"] == ENCODER.document_fingerprint
    assert official.models.retrieve(NAME) == listed


def test_our_remote_encoder_is_the_same_encoder_as_the_one_that_is_served(client: httpx2.Client) -> None:
    remote = encoders.load(
        NAME, settings=Settings(encoder_urls={NAME: {"url": f"{client.base_url}/v1"}}, remote_batch=2)
    )
    long = ["a b c d e f g h", *TEXTS]
    assert (remote.fingerprint, remote.dimensions) == (ENCODER.fingerprint, 32)
    assert remote.document_fingerprint == ENCODER.document_fingerprint
    np.testing.assert_array_equal(remote.encode_documents(long), ENCODER.encode_documents(long))
    np.testing.assert_array_equal(remote.encode_queries(long), ENCODER.encode_queries(long))


def test_queries_are_told_from_documents(client: httpx2.Client) -> None:
    for kind, encode in (("query", ENCODER.encode_queries), ("document", ENCODER.encode_documents)):
        np.testing.assert_allclose(vectors(asked(client, input_type=kind)), encode(TEXTS), rtol=1e-6)


def test_one_text_alone_needs_no_list(client: httpx2.Client) -> None:
    assert vectors(asked(client, input="tea")) == [vectors(asked(client))[2]]


def test_vectors_are_cut_to_the_length_that_is_asked_for_and_are_of_length_one(client: httpx2.Client) -> None:
    cut = np.array(vectors(asked(client, dimensions=8)))
    whole = ENCODER.encode_documents(TEXTS)[:, :8]
    np.testing.assert_allclose(cut, whole / np.linalg.norm(whole, axis=1, keepdims=True), rtol=1e-5)


def test_a_text_that_can_not_be_read_whole_is_refused_unless_it_may_be_cut_and_then_counted(
    client: httpx2.Client,
) -> None:
    texts = ["a b c d e f", "a b c d e f g"]
    refused = client.post("/v1/embeddings", json={"model": NAME, "input": texts})
    assert refused.status_code == 422
    assert "7 tokens" in refused.json()["error"]["message"]
    answer = asked(client, input=texts, truncate=True)
    assert answer["usage"] == {"prompt_tokens": 12, "total_tokens": 12, "truncated": 1}
    assert vectors(answer)[0] == vectors(answer)[1]


@pytest.mark.parametrize(
    "tokens", [[1820, 374, 264], [[1820, 374, 264], [17]], [[1820, 374], []], [[]]], ids=["one", "two", "empty", "none"]
)
def test_token_ids_are_refused_with_how_to_have_langchain_send_texts(client: httpx2.Client, tokens: Any) -> None:
    response = client.post("/v1/embeddings", json={"model": NAME, "input": tokens})
    assert response.status_code == 422
    assert "check_embedding_ctx_length=False" in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == "input"


@pytest.mark.parametrize(
    "further",
    [
        {"encoding_format": None},
        {"dimensions": None},
        {"user": None},
        {"user": "someone"},
        {"input_type": None, "truncate": None, "encoding_format": None, "dimensions": None},
        {"extra": {"of": ["another", "service"]}},
    ],
)
def test_a_field_that_is_null_or_unknown_is_one_that_was_left_out(
    client: httpx2.Client, further: dict[str, Any]
) -> None:
    assert asked(client, **further) == asked(client)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("search_query", "query"), ("search_document", "document"), ("passage", "document")]
)
def test_kinds_of_texts_have_the_names_of_other_services_too(client: httpx2.Client, theirs: str, ours: str) -> None:
    assert asked(client, input_type=theirs) == asked(client, input_type=ours)


def test_an_end_may_be_cut_off_in_the_words_of_other_services(client: httpx2.Client) -> None:
    long = ["a b c d e f g h"]
    assert asked(client, input=long, truncate="END") == asked(client, input=long, truncate=True)
    for word in ("NONE", "START"):
        response = client.post("/v1/embeddings", json={"model": NAME, "input": long, "truncate": word})
        assert response.status_code == 422


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/embeddings/", "/embeddings"])
def test_vectors_are_where_clients_look_for_them(client: httpx2.Client, path: str) -> None:
    assert client.post(path, json={"model": NAME, "input": TEXTS}).json() == asked(client)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/models"])
def test_the_list_of_encoders_is_where_clients_look_for_it(client: httpx2.Client, path: str) -> None:
    assert [one["id"] for one in client.get(path).json()["data"]] == [NAME]


def test_the_official_client_may_leave_v1_out_of_its_base(client: httpx2.Client) -> None:
    with openai.OpenAI(base_url=str(client.base_url), api_key="none", max_retries=0) as official:
        assert len(official.embeddings.create(model=NAME, input="tea", user="someone").data) == 1
        assert [one.id for one in official.models.list()] == [NAME]


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": []},
        {"input": ""},
        {"input": ["tea", " \n"]},
        {"input": [1, 2]},
        {"input": [[1, 2]]},
        {"input": None},
        {"input": ["tea"] * 5},
        {"input": "x" * 101},
        {"input": "\ud800"},
        {"input": ["tea\0"]},
        {"dimensions": 0},
        {"dimensions": 33},
        {"dimensions": 1e400},
        {"encoding_format": "int8"},
        {"input_type": "poem"},
        {"model": ""},
        {"model": 1},
    ],
)
def test_what_is_malformed_is_refused_in_the_shape_of_openais_errors(
    client: httpx2.Client, wrong: dict[str, Any]
) -> None:
    body = json.dumps({"model": NAME, "input": "tea"} | wrong)  # halves of characters and infinities included
    response = client.post("/v1/embeddings", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", ["", "{", "[" * 100_000, "null", '"tea"', b"\xff\xfe"])
def test_what_is_no_json_object_is_refused(client: httpx2.Client, body: Any) -> None:
    response = client.post("/v1/embeddings", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["message"].startswith("The request body")
    assert error["param"] is None


def test_a_form_of_another_web_page_is_not_taken_for_json(client: httpx2.Client) -> None:
    body = json.dumps({"model": NAME, "input": "tea"})
    response = client.post("/v1/embeddings", content=body, headers={"Content-Type": "text/plain"})
    assert response.status_code == 422
    assert "Content-Type: application/json" in response.json()["error"]["message"]


def test_an_encoder_that_is_not_served_is_named_and_so_are_those_that_are(official: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"'hashed:64' isn't loaded.*hashed:32") as refusal:
        official.embeddings.create(model="hashed:64", input="tea")
    assert refusal.value.code == "model_not_found"


def test_a_text_that_breaks_the_encoder_harms_nobody_else_and_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    held.let_go()
    with serving.running(held) as client:
        for text, status in (("bad", 500), ("tea", 200)):
            response = client.post("/v1/embeddings", json={"model": "hashed:8", "input": text})
            assert response.status_code == status
    assert "ValueError at" in caplog.text
    assert "cannot read" not in caplog.text
