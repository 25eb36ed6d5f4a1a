"""The budget of a day for remote encoders: backfill pauses and continues on the next day, edits go on."""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, doctor, status
from pg_semantic.settings import Settings
from pg_semantic.worker import metrics_endpoint
from pg_semantic.worker.worker import Worker
from tests import openai_server
from tests.db import test_cli as shell
from tests.db.library import CLEAN, ENCODER, Article, Base, execute, rows, sync, truth
from tests.openai_server import Reply, Request, Server
from tests.waiting import eventually

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too
TOKENS = 10  # of each text, as the server reports them
NEXT_DAY = """
    UPDATE semantic.token_usage SET day = (SELECT min(day) FROM semantic.token_usage) - 1
    WHERE day = CAST(now() AT TIME ZONE 'UTC' AS date)
"""


@pytest.fixture
def service() -> Iterator[Server]:
    with openai_server.running() as made:
        made.tokens_per_text = TOKENS
        yield made


@pytest.fixture
def unread(engine: sa.Engine) -> sa.Engine:
    """Articles that are older than their index."""
    Article.__table__.create(engine)  # type: ignore[attr-defined]
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 1500) i")
    Base.metadata.create_all(engine)
    return engine


def remote(service: Server, **given: Any) -> Settings:
    return Settings(encoder_urls={ENCODER: service.url}, lease_seconds=1, batch_rows=100, **given)


@contextlib.contextmanager
def running(engine: sa.Engine, settings: Settings) -> Iterator[Worker]:
    worker, stop = Worker(engine, settings), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        yield worker
    finally:
        stop.set()
        eventually(lambda: stopped(engine, thread), "the worker to stop")


def stopped(engine: sa.Engine, thread: threading.Thread) -> bool:
    """Whether a worker has ended. Lets what it still has to send pass."""
    execute(engine, "UPDATE semantic.token_usage SET paced_until = now()")
    return not thread.is_alive()


def has_synced_more(worker: Worker, rows: int) -> bool:
    return worker.progress.rows > rows


def found(engine: sa.Engine) -> status.Status:
    with engine.connect() as connection:
        return status.read(connection)


def test_backfill_pauses_at_the_budget_and_continues_on_the_next_day_while_edits_go_on(
    unread: sa.Engine, service: Server, dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = remote(service, max_tokens_per_day=3_000)
    with running(unread, settings) as worker:
        eventually(lambda: found(unread).paused, "the reason")
        [reason] = found(unread).paused
        assert "(max_tokens_per_day = 3,000)" in reason
        before = worker.progress.rows
        assert 100 <= before < 1500
        execute(unread, "UPDATE article SET title = 'new' WHERE id = 1499")
        eventually(lambda: rows(unread, "SELECT 1 FROM article_semantic WHERE content = 'new'"), "the edit")
        assert worker.progress.rows == before + 1

        monkeypatch.setenv("PG_SEMANTIC_MAX_TOKENS_PER_DAY", "3000")
        [finding] = [one for one in doctor.examine(unread) if one.check == "token_budget"]
        assert finding.what == reason
        assert "PG_SEMANTIC_MAX_TOKENS_PER_DAY" in finding.repair
        said = " ".join(shell.ok("status", dsn=dsn).split())
        assert f"Backfill is paused: {reason}." in said
        assert f"Remote encoders have received {found(unread).tokens_today:,} tokens since 00:00 UTC." in said
        metrics = metrics_endpoint.registry(lambda: worker.activity)
        assert metrics.get_sample_value("pg_semantic_worker_backfill_paused") == 1
        assert metrics.get_sample_value("pg_semantic_worker_tokens_billed_total") == TOKENS * worker.progress.rows

        monkeypatch.delenv("PG_SEMANTIC_MAX_TOKENS_PER_DAY")
        while (done := worker.progress.rows) < 1500 and (day := found(unread).tokens_today):
            execute(unread, NEXT_DAY)
            eventually(functools.partial(has_synced_more, worker, done), f"more than {day} tokens")
    assert found(unread).paused == []
    assert [one.message for one in caplog.records if one.message.startswith("backfill with remote encoders")][:2] == [
        f"backfill with remote encoders is paused: {reason}",
        "backfill with remote encoders continues",
    ]
    sync(unread, encoder_urls={ENCODER: service.url})
    assert truth(unread) == CLEAN


def test_what_is_sent_beyond_the_budget_is_little(unread: sa.Engine, service: Server) -> None:
    """At most what a worker has already read, and it reads less at the end."""
    with running(unread, remote(service, max_tokens_per_day=8_000)):
        eventually(lambda: found(unread).paused, "the reason")
    assert 8_000 <= (found(unread).tokens_today or 0) < 8_100


def test_a_worker_that_starts_later_knows_what_others_have_spent(unread: sa.Engine, service: Server) -> None:
    execute(unread, "INSERT INTO semantic.token_usage (day, tokens) SELECT CAST(now() AT TIME ZONE 'UTC' AS date), 500")
    with running(unread, remote(service, max_tokens_per_day=500)) as worker:
        eventually(lambda: found(unread).paused, "the reason")
        execute(unread, "UPDATE article SET title = 'new' WHERE id = 7")
        eventually(lambda: worker.progress.rows, "the edit")
    assert worker.progress.rows == 1


def test_an_index_with_an_encoder_of_its_own_machine_is_not_paused(unread: sa.Engine, service: Server) -> None:
    execute(unread, "INSERT INTO semantic.token_usage (day, tokens) SELECT CAST(now() AT TIME ZONE 'UTC' AS date), 500")
    execute(unread, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    execute(unread, "INSERT INTO note SELECT i, 'words ' || i FROM generate_series(1, 50) i")
    with unread.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=EncoderSpec("hashed:64", 64))
    create_index.create(unread, spec)
    with running(unread, remote(service, max_tokens_per_day=500)):
        eventually(lambda: rows(unread, "SELECT count(*) FROM note_semantic") == [(50,)], "the other index")
        assert rows(unread, "SELECT count(*) FROM article_semantic") == [(0,)]


def test_an_edit_is_synced_while_the_backfill_waits_for_its_share_of_a_minute(
    unread: sa.Engine, service: Server
) -> None:
    """The pace is kept four seconds ahead, which an edit may be too, so that only backfill waits."""
    first = threading.Event()

    def look(request: Request) -> Reply | None:
        if request.texts[0].startswith("title"):
            first.set()
        return None

    def synced_ahead() -> bool:
        execute(unread, "UPDATE semantic.token_usage SET paced_until = clock_timestamp() + interval '4 seconds'")
        return rows(unread, "SELECT 1 FROM article_semantic WHERE content = 'new'") != []

    service.rule = look
    service.tokens_per_text = 100
    with running(unread, remote(service, max_tokens_per_minute=65)):
        assert first.wait(30)
        execute(unread, "UPDATE article SET title = 'new' WHERE id = 1499")
        eventually(synced_ahead, "the edit")
