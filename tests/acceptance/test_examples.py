"""The examples do what they say, each through what a person meets of it: requests, or a command line."""

import asyncio
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from sqlalchemy.ext.asyncio import async_sessionmaker

from pg_semantic import AsyncSearcher
from pg_semantic.encoders import BatchingEncoder, Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from tests import documents
from tests.db.library import sync

ENCODER = "hashed:64"
EXAMPLES = documents.ROOT / "examples"
FASTAPI_APP = ("articles", "messages", "main")
PATIENCE_SECONDS = 30

ARTICLES = [
    {"title": "Password help", "body": "Ask for a reset link on the login page."},
    {"title": "Lost password", "body": "A recovery code lets you in again."},
    {"title": "Passwort vergessen", "body": "Ein Link steht auf der Anmeldeseite: reset.", "lang": "de"},
    {"title": "Delivery times", "body": "Parcels arrive in three days."},
]


class Held(HashedEncoder):
    """Waits to be let go before it makes vectors of queries."""

    def __init__(self) -> None:
        super().__init__(64)
        self.begun, self.free = threading.Event(), threading.Event()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.begun.set()
        assert self.free.wait(PATIENCE_SECONDS)
        return super().encode_queries(texts)


@pytest.fixture
def service(dsn: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the FastAPI application, for the test's own database."""
    monkeypatch.setenv("PG_SEMANTIC_DSN", dsn)
    monkeypatch.setenv("EXAMPLE_ENCODER", ENCODER)
    for name in FASTAPI_APP:
        monkeypatch.delitem(sys.modules, f"examples.fastapi_app.{name}", raising=False)
    return importlib.import_module("examples.fastapi_app.main")


def titles(client: TestClient, **asked: Any) -> list[str]:
    answer = client.get("/search", params=asked)
    assert answer.status_code == 200, answer.text
    return [found["title"] for found in answer.json()]


def test_the_service_finds_the_articles_that_it_was_sent(service: ModuleType, engine: sa.Engine) -> None:
    with TestClient(service.app) as client:
        added = [client.post("/articles", json=article) for article in ARTICLES]
        assert [(answer.status_code, answer.json()) for answer in added] == [(201, {"id": i}) for i in (1, 2, 3, 4)]
        assert titles(client, q="password reset") == []
        sync(engine)
        for mode in ("dense", "lexical", "hybrid"):
            assert titles(client, q="password reset", mode=mode, limit=1) == ["Password help"]
        assert titles(client, q="password reset", lang="de") == ["Passwort vergessen"]
        ranked = titles(client, q="password reset", mode="dense")
        assert sorted(ranked) == sorted(article["title"] for article in ARTICLES)
        assert titles(client, q="password reset", mode="dense", limit=2, offset=1) == ranked[1:3]


def test_an_article_that_was_found_has_its_scores_and_its_passage(service: ModuleType, engine: sa.Engine) -> None:
    with TestClient(service.app) as client:
        client.post("/articles", json=ARTICLES[0])
        sync(engine)
        [found] = client.get("/search", params={"q": "login"}).json()
    assert found["passage"] == "Password help\n\nAsk for a reset link on the login page."
    assert set(found["scores"]) == {"dense", "lexical", "fused"}
    assert found["score"] == found["scores"]["fused"] == pytest.approx(2 / 61)


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"q": " "}, 400, "The query is empty: enter text to search for."),
        ({"q": "tea\0"}, 400, "The query has a NUL character"),
        ({"q": "tea", "mode": "psychic"}, 422, "Input should be 'dense', 'lexical' or 'hybrid'"),
        ({"q": "tea", "limit": 101}, 422, "less than or equal to 100"),
        ({}, 422, "Field required"),
    ],
)
def test_what_the_service_can_not_answer_it_explains(
    service: ModuleType, asked: dict[str, str], status: int, said: str
) -> None:
    with TestClient(service.app) as client:
        answer = client.get("/search", params=asked)
    assert answer.status_code == status
    assert said in answer.text


def test_the_service_puts_off_a_question_when_too_many_wait_for_the_encoder(service: ModuleType) -> None:
    held = Held()
    overloaded = service.Service(async_sessionmaker(), AsyncSearcher(BatchingEncoder(held, waiting=1)))
    service.app.dependency_overrides[service.service] = lambda: overloaded

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(service.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:

            def asking(q: str) -> "asyncio.Task[httpx2.Response]":
                return asyncio.create_task(client.get("/search", params={"q": q}))

            first = asking("one")
            await asyncio.to_thread(held.begun.wait, PATIENCE_SECONDS)
            done, waiting = await asyncio.wait({asking("two"), asking("three")}, return_when=asyncio.FIRST_COMPLETED)
            for task in (first, *waiting):
                task.cancel()
            held.free.set()
            [refused] = done
            return await refused

    answer = asyncio.run(ask())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert "overloaded" in answer.json()["detail"]


def run(script: str, *arguments: str, dsn: str, **environment: str) -> list[str]:
    """Runs a script of the examples and gives the lines that it prints."""
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    given = os.environ | {"PG_SEMANTIC_DSN": dsn} | environment
    ended = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return [line for line in ended.stdout.splitlines() if line]


def test_the_script_searches_in_three_ways_and_may_be_run_again(dsn: str) -> None:
    lines = run("script/help_centre.py", "reset", "my", "password", dsn=dsn, EXAMPLE_ENCODER=ENCODER)
    found = [line.split(maxsplit=1)[-1] for line in lines]
    assert [found.index(mode) for mode in ("dense", "lexical", "hybrid")] == [0, 4, 6]
    assert found[1] == found[5] == found[7] == "Password help"
    assert "Passwort vergessen" not in found
    assert run("script/help_centre.py", "reset my password", dsn=dsn, EXAMPLE_ENCODER=ENCODER) == lines


@pytest.mark.weights
def test_the_script_finds_by_meaning_what_shares_no_word_with_the_question(dsn: str) -> None:
    dense, best, *_ = run("script/help_centre.py", "how do I get back into my account", dsn=dsn)
    assert dense == "dense"
    assert best.endswith("Password help")


def test_recipes_of_sqlmodel_are_found_as_json(dsn: str) -> None:
    lines = run("sqlmodel_app/recipes.py", "lentils with cumin", dsn=dsn, EXAMPLE_ENCODER=ENCODER)
    found = [json.loads(line) for line in lines]
    assert found[0] == {
        "id": 1,
        "name": "Lentil soup",
        "steps": "Simmer red lentils with cumin and lemon.",
        "vegan": True,
    }
    assert [recipe["vegan"] for recipe in found] == [True, True]
