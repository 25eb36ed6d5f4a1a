"""Who is let in."""

import contextlib
import socket
from collections.abc import Iterator

import httpx2
import openai
import pytest

from pg_semantic import errors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.service import auth
from pg_semantic.settings import Settings
from tests.service import serving
from tests.service.serving import KEY

EMBEDDING = {"model": "hashed:8", "input": "tea"}


@pytest.fixture(scope="module")
def locked() -> Iterator[httpx2.Client]:
    with serving.running(HashedEncoder(8), service_api_key=KEY) as made:
        yield made


@pytest.fixture(scope="module")
def unlocked() -> Iterator[httpx2.Client]:
    with serving.running(HashedEncoder(8)) as made:
        yield made


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer \xe9"],
)
def test_without_the_key_nothing_is_done_and_nothing_is_told(locked: httpx2.Client, authorization: str | None) -> None:
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    for method, path in (
        ("POST", "/v1/embeddings"),
        ("POST", "/rerank"),
        ("POST", "/search"),
        ("GET", "/v1/models"),
        ("GET", "/info"),
        ("GET", "/metrics"),
        ("GET", "/health/../info"),
        ("GET", f"{locked.base_url}//info"),
    ):
        response = locked.request(method, path, headers=headers, json=EMBEDDING if method == "POST" else None)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == "Bearer"
        assert KEY not in response.text


def test_a_body_is_not_waited_for_before_the_key_was_seen(locked: httpx2.Client) -> None:
    assert serving.announced(locked, 1000) == 401


def test_bodies_that_do_not_come_to_open_pages_keep_nobody_out() -> None:
    with serving.running(HashedEncoder(8), service_api_key=KEY, service_requests=2) as client:
        address = (client.base_url.host, client.base_url.port or 0)
        with contextlib.ExitStack() as slow:
            for path in ("/", "/docs", "/static/page.js"):
                connection = slow.enter_context(socket.create_connection(address, timeout=serving.PATIENCE_SECONDS))
                connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n".encode())
                assert connection.recv(1000).split()[1] == b"405"
            answer = client.post("/v1/embeddings", json=EMBEDDING, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200


def test_the_document_says_what_needs_the_key(locked: httpx2.Client) -> None:
    paths = locked.get("/openapi.json").json()["paths"]
    named = {path for path, methods in paths.items() for one in methods.values() if "security" in one}
    assert paths.keys() - named == {"/health", "/ready"}


def test_those_with_the_key_are_let_in(locked: httpx2.Client) -> None:
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {KEY}"}
        assert locked.post("/v1/embeddings", json=EMBEDDING, headers=headers).status_code == 200
    with openai.OpenAI(base_url=f"{locked.base_url}/v1", api_key=KEY, max_retries=0) as client:
        assert client.embeddings.create(model="hashed:8", input="tea").data
    with (
        openai.OpenAI(base_url=f"{locked.base_url}/v1", api_key="other", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.embeddings.create(model="hashed:8", input="tea")


def test_whether_the_process_lives_is_told_to_all(locked: httpx2.Client) -> None:
    for path in ("/health", "/ready"):
        assert (locked.get(path).status_code, locked.head(path).status_code, locked.head(path).text) == (200, 200, "")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:80", "", "10.0.0.1"])
def test_without_a_key_a_name_that_leads_here_from_elsewhere_is_refused(unlocked: httpx2.Client, host: str) -> None:
    assert unlocked.post("/v1/embeddings", json=EMBEDDING, headers={"Host": host}).status_code in {400, 421}


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:1", "127.8.8.8", "[::1]", "[::1]:8080", "LOCALHOST"]
)
def test_without_a_key_this_machine_is_let_in_by_all_its_names(unlocked: httpx2.Client, host: str) -> None:
    assert unlocked.post("/v1/embeddings", json=EMBEDDING, headers={"Host": host}).status_code == 200


def test_with_a_key_any_name_leads_here(locked: httpx2.Client) -> None:
    headers = {"Host": "search.example", "Authorization": f"Bearer {KEY}"}
    assert locked.post("/v1/embeddings", json=EMBEDDING, headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "search.example", ""])  # noqa: S104 - it is refused
def test_an_address_that_others_reach_needs_a_key(host: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="PG_SEMANTIC_SERVICE_API_KEY"):
        auth.require_key_beyond_loopback(host, Settings())
    auth.require_key_beyond_loopback(host, Settings(service_api_key=KEY))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_an_address_of_this_machine_needs_none(host: str) -> None:
    auth.require_key_beyond_loopback(host, Settings())


@pytest.mark.parametrize("key", ["", "  "])
def test_a_blank_key_is_none_and_is_refused(key: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="is blank"):
        auth.require_key_beyond_loopback("0.0.0.0", Settings(service_api_key=key))  # noqa: S104
