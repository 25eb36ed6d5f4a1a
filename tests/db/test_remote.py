"""Rows whose encoder is a server: what it refuses, and what happens to them while it cannot be used."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import encoders, errors
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.search import Searcher
from pg_semantic.settings import Settings
from pg_semantic.worker import encode_chunks
from pg_semantic.worker.intervals import Intervals
from pg_semantic.worker.worker import Worker
from tests import openai_server
from tests.db.library import CLEAN, ENCODER, Article, execute, jobs, rows, sync, truth
from tests.openai_server import Reply, Server
from tests.waiting import eventually

OUTAGE = Reply(503, headers={"Retry-After": "0.01"})


@pytest.fixture
def service() -> Iterator[Server]:
    with openai_server.running() as made:
        yield made


def remote(service: Server) -> dict[str, Any]:
    """Settings by which the server encodes the articles."""
    return {"encoder_urls": {ENCODER: service.url}, "remote_retries": 1, "remote_batch": 4}


def note(engine: sa.Engine, encoder: EncoderSpec, table: str = "note") -> None:
    """Another table with a semantic index."""
    execute(engine, f"CREATE TABLE {table} (id integer PRIMARY KEY, words text)")
    with engine.connect() as connection:
        spec = create_index.describe(connection, table, columns=("words",), encoder=encoder)
    create_index.create(engine, spec)
    execute(engine, f"INSERT INTO {table} VALUES (1, 'one')")


def articles_of(engine: sa.Engine, count: int) -> None:
    execute(engine, f"INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, {count}) i")


def test_a_text_that_the_server_refuses_parks_its_row_alone_and_the_others_are_found(
    articles: sa.Engine, service: Server
) -> None:
    articles_of(articles, 30)
    execute(articles, "UPDATE article SET title = 'poison' WHERE id = 20")
    service.rule = lambda request: Reply(400) if "poison" in request.texts else None
    sync(articles, max_attempts=1, **remote(service))
    assert rows(articles, "SELECT key, state FROM semantic.job") == [("20", "failed")]
    assert truth(articles).missing == {"20"}
    searcher = Searcher(encoders.load(ENCODER, settings=Settings(**remote(service))))
    with orm.Session(articles) as session:
        [hit] = searcher.search(session, Article.semantic, "title 21", limit=1)
    assert hit.entity.id == 21


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_an_outage_parks_nothing_and_all_is_synced_once_it_is_over(
    articles: sa.Engine, service: Server, status: int
) -> None:
    articles_of(articles, 50)
    answers = iter([None, None])  # while it is loaded, and for one request

    service.rule = lambda _: next(answers, Reply(status, headers=OUTAGE.headers))
    with pytest.raises(errors.EncoderUnavailable, match=f"status {status}"):
        sync(articles, max_attempts=1, **remote(service))
    assert rows(articles, "SELECT DISTINCT state, attempts, error FROM semantic.job") == [("pending", 0, None)]
    assert len(truth(articles).missing) == 50
    service.rule = lambda _: None
    sync(articles, **remote(service))
    assert truth(articles) == CLEAN
    assert jobs(articles) == set()


def test_a_server_of_other_vectors_than_before_parks_nothing(articles: sa.Engine, service: Server) -> None:
    articles_of(articles, 5)
    answers = iter([None])
    other = Reply(200, {"data": [{"index": index, "embedding": [1.0]} for index in range(4)]})
    service.rule = lambda _: next(answers, other)
    with pytest.raises(errors.EncoderMismatch, match="1 dimensions, not 32"):
        sync(articles, max_attempts=1, **remote(service) | {"remote_batch": 4, "remote_concurrency": 1})
    assert rows(articles, "SELECT DISTINCT state, attempts FROM semantic.job") == [("pending", 0)]


def test_a_worker_goes_on_with_other_indexes_in_an_outage_and_catches_up_by_itself(
    articles: sa.Engine, service: Server
) -> None:
    stop, refused = threading.Event(), threading.Semaphore(0)
    down = threading.Event()

    def outage(_: object) -> Reply | None:
        if down.is_set():
            refused.release()
            return OUTAGE
        return None

    service.rule = outage
    settings = Settings(poll_seconds=0.01, **remote(service))
    thread = threading.Thread(target=Worker(articles, settings, intervals=Intervals(refused=0.05)).run, args=(stop,))

    def wait_for(statement: str, wanted: int) -> None:
        eventually(
            lambda: rows(articles, statement) == [(wanted,)],
            f"{wanted} from {statement}",
            unless=lambda: not thread.is_alive(),
        )

    thread.start()
    try:
        articles_of(articles, 1)
        wait_for("SELECT count(*) FROM article_semantic", 1)
        down.set()
        execute(articles, "INSERT INTO article VALUES (2, 'two', NULL, 'en')")
        for _ in range(4):
            assert refused.acquire(timeout=20)
        note(articles, EncoderSpec("hashed:64", 64))
        wait_for("SELECT count(*) FROM note_semantic", 1)
        assert truth(articles).missing == {"2"}
        down.clear()
        wait_for("SELECT count(*) FROM article_semantic", 2)
    finally:
        stop.set()
        thread.join(20)
    assert truth(articles) == CLEAN
    assert rows(articles, "SELECT count(*) FROM semantic.job") == [(0,)]


def test_an_outage_is_found_out_for_all_indexes_of_an_encoder(articles: sa.Engine, service: Server) -> None:
    """By the batch in hand, and perhaps by one beside it: not by each index."""
    for number in range(6):
        note(articles, Article.semantic.spec.encoder, f"note{number}")
    articles_of(articles, 1)
    answers = iter([None])
    service.rule = lambda _: next(answers, OUTAGE)
    with pytest.raises(errors.EncoderUnavailable):
        sync(articles, **remote(service))
    assert len(service.requests) <= 1 + 2 * 2  # loaded; asked, and asked again


def test_what_was_encoded_before_an_outage_is_not_asked_for_again(
    articles: sa.Engine, service: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_chunks, "_TOGETHER", 4)
    articles_of(articles, 9)
    execute(articles, "UPDATE article SET body = repeat('word' || id || ' ', 250)")
    asked: list[str] = []
    stop, faults = threading.Event(), iter([None, None, OUTAGE, OUTAGE])  # loaded, first part, second part

    def second_part_fails(request: openai_server.Request) -> Reply | None:
        reply = next(faults, None)
        if reply is None:
            asked.extend(request.texts)
        return reply

    service.rule = second_part_fails
    settings = Settings(poll_seconds=0.01, **remote(service) | {"remote_batch": 1000})  # a request a part
    synced = threading.Event()
    worker = Worker(
        articles,
        settings,
        on_progress=lambda done: synced.set() if done.rows == 9 else None,
        intervals=Intervals(refused=0.05),
    )
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    assert synced.wait(20)
    stop.set()
    thread.join(20)
    assert sorted(asked) == sorted(set(asked))
    assert jobs(articles) == set()


def test_a_search_in_an_outage_says_so(articles: sa.Engine, service: Server) -> None:
    searcher = Searcher(encoders.load(ENCODER, settings=Settings(**remote(service))))
    service.rule = lambda _: OUTAGE
    with orm.Session(articles) as session, pytest.raises(errors.EncoderUnavailable, match="try again later"):
        searcher.search(session, Article.semantic, "tea")
