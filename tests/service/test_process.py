"""``pg-semantic serve`` as a person runs it: what it answers as it is told to stop, and what it logs."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from pg_semantic import cli
from pg_semantic.encoders.hashed import HashedEncoder
from tests.db.library import Base, encoder, execute, sync
from tests.service import serving
from tests.service.serving import KEY, PATIENCE_SECONDS
from tests.waiting import eventually

NAME = "hashed:512"
PASSWORD = "a-password"  # noqa: S105 - of nobody


def test_what_was_asked_before_sigterm_is_answered_and_then_it_exits_with_0(tmp_path: Path) -> None:
    texts = [f"word{number} " * 200 for number in range(2000)]
    expected = HashedEncoder(512).encode_documents(texts[:1])[0].tolist()
    with (
        serving.process("--encoder", NAME, folder=tmp_path) as process,
        ThreadPoolExecutor(10) as callers,
        httpx2.Client(base_url=process.url, timeout=PATIENCE_SECONDS) as client,
    ):
        asked = [
            callers.submit(client.post, "/v1/embeddings", json={"model": NAME, "input": [texts[0], *texts[n::10]]})
            for n in range(10)
        ]
        under_way(client)
        process.running.send_signal(signal.SIGTERM)
        answers = [one.result() for one in asked]
        assert process.end() == 0
        with pytest.raises(httpx2.ConnectError):
            client.get("/health")
    assert [answer.status_code for answer in answers] == [200] * 10
    for answer in answers:
        assert answer.json()["data"][0]["embedding"] == pytest.approx(expected, rel=1e-5)


def test_the_address_that_is_logged_can_be_asked(tmp_path: Path) -> None:
    with serving.process("--encoder", "hashed:8", "--host", "::1", folder=tmp_path) as process:
        assert httpx2.get(f"{process.url}/health").status_code == 200


def under_way(client: httpx2.Client) -> None:
    """Waits until all ten requests were taken on: the texts of some wait while those of others are encoded."""

    def are() -> bool:
        figures = client.get("/metrics").text.splitlines()
        waiting, encoded = (_figure(figures, name) for name in ("queue_texts", "batch_texts_sum"))
        if waiting + encoded <= 9 * 201:
            return False
        assert waiting
        return True

    eventually(are, "all ten requests to be taken on")


def _figure(figures: list[str], name: str) -> float:
    """The value of a series that has one label, 0 while there is none."""
    found = [line for line in figures if line.startswith(f"pg_semantic_{name}{{")]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def test_neither_texts_nor_keys_nor_passwords_are_logged(tmp_path: Path, engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO article VALUES (1, 'a-text-of-a-row', NULL, 'en')")
    sync(engine)
    dsn = engine.url.set(drivername="postgresql", password=PASSWORD).render_as_string(hide_password=False)
    environment = {"PG_SEMANTIC_DSN": dsn, "PG_SEMANTIC_SERVICE_API_KEY": KEY}
    with serving.process("--log-format", "json", "--host", "0.0.0.0", folder=tmp_path, **environment) as process:  # noqa: S104
        url = process.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx2.Client(base_url=url, headers=headers, timeout=PATIENCE_SECONDS) as client:
            search = {"index": "article_semantic", "text": "a-query-of-a-person", "mode": "hybrid"}
            assert "a-text-of-a-row" in client.post("/search", json=search).text
            assert client.post("/search", json=search | {"keys": ["a-query-of-a-person"]}).status_code == 422
            assert client.post("/search?text=a-query-of-a-person", json=[]).status_code == 422
            assert client.post("/search", headers={"Authorization": "Bearer a-wrong-key"}).status_code == 401
            execute(engine, "ALTER TABLE article RENAME COLUMN title TO a_title")
            assert client.post("/search", json=search | {"mode": "lexical"}).status_code in {200, 404, 500}
        process.running.send_signal(signal.SIGTERM)
        assert process.end() == 0
    assert "serving on" in process.log
    for secret in ("a-text-of-a-row", "a-query-of-a-person", "a-wrong-key", PASSWORD, KEY):
        assert secret not in process.log
    assert [json.loads(line)["level"] for line in process.lines]


def test_the_encoders_of_the_databases_indexes_are_served(tmp_path: Path, engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with (
        serving.process("--encoder", NAME, "--dsn", dsn, folder=tmp_path) as process,
        openai.OpenAI(base_url=f"{process.url}/v1", api_key="none") as client,
    ):
        assert [one.id for one in client.models.list()] == [NAME, encoder().reference]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "hashed:8", "--host", "0.0.0.0"], "PG_SEMANTIC_SERVICE_API_KEY"),  # noqa: S104 - refused
        ([], "pass --dsn, --encoder or --reranker"),
        (["--encoder", "no/such-encoder"], "no/such-encoder"),
    ],
)
def test_what_can_not_be_served_is_one_line_before_anything_is_listened_to(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PG_SEMANTIC_DSN", "PG_SEMANTIC_SERVICE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    refused = CliRunner().invoke(cli.app, ["serve", *arguments])
    assert refused.exit_code == 1
    assert message in str(refused.exception)
