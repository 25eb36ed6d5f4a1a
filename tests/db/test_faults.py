"""What goes wrong around a worker: clocks, memory, texts that never work, transactions that never end."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from pg_semantic import database, jobqueue, sql
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, execute, fold, generation_of, jobs, rows, sync, truth
from tests.waiting import eventually


@pytest.mark.parametrize("hours", [-30_000, 30_000])
def test_a_worker_whose_clock_is_wrong_keeps_its_leases_by_the_servers(
    articles: sa.Engine, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 3) i")
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + hours * 3600)
    fold(articles)
    generation = generation_of(articles)
    with articles.begin() as connection:
        claimed = jobqueue.claim(connection, generation.id, rows=1, lease_seconds=60)
        jobqueue.heartbeat(connection, [claimed.token], lease_seconds=50)
        jobqueue.reap(connection, max_attempts=5, retry_seconds=1)
    held = "SELECT lease_until - now() BETWEEN '45s' AND '50s' FROM semantic.job WHERE state = 'processing'"
    assert rows(articles, held) == [(True,)]
    with articles.begin() as connection:
        jobqueue.release(connection, claimed, [job.key for job in claimed.jobs], delay_seconds=0)
    sync(articles)
    assert truth(articles) == CLEAN
    assert rows(articles, "SELECT max(now() - embedded_at) < '60s' FROM article_semantic_receipt") == [(True,)]


def test_a_row_that_fails_1000_times_is_never_dropped_and_never_in_the_way(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'poison', NULL, 'en')")
    fold(articles)
    generation = generation_of(articles)
    with articles.connect() as connection:
        for _ in range(1000):
            claimed = jobqueue.claim(connection, generation.id, rows=10, lease_seconds=60)
            [job] = claimed.jobs
            jobqueue.fail(connection, claimed, job, error="no", max_attempts=2000, retry_seconds=1)
            connection.execute(sa.text("UPDATE semantic.job SET available_at = now()"))  # time passes
            connection.commit()
    assert rows(articles, "SELECT key, state, attempts, error FROM semantic.job") == [("1", "pending", 1000, "no")]
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(2, 50) i")
    sync(articles, lambda *_, **__: Fragile(32), max_attempts=1001)
    assert rows(articles, "SELECT key, state, attempts FROM semantic.job") == [("1", "failed", 1001)]
    assert truth(articles).missing == {"1"}


class Fragile(HashedEncoder):
    """Fails on any batch that has the word poison in it."""

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if any("poison" in text for text in texts):
            raise RuntimeError("the encoder choked")
        return super().encode_documents(texts)


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError])
def test_an_encoder_that_runs_out_of_memory_is_given_less_down_to_the_row_that_is_too_much(
    articles: sa.Engine, error: type[Exception]
) -> None:
    class Small(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            if sum(map(len, texts)) > 100:
                raise error
            return super().encode_documents(texts)

    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    execute(articles, "UPDATE article SET body = repeat('x', 200) WHERE id = 20")
    done = sync(articles, lambda *_, **__: Small(32), max_attempts=1)
    assert (done.rows, done.rows_failed) == (49, 1)
    [(key, state, said)] = rows(articles, "SELECT key, state, error FROM semantic.job")
    assert (key, state, said.partition(":")[0]) == ("20", "failed", error.__name__)
    assert truth(articles).missing == {"20"}


def test_a_row_whose_error_can_not_be_written_as_it_is_parks_alone(articles: sa.Engine) -> None:
    class Strange(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            if any("poison" in text for text in texts):
                raise RuntimeError("a NUL \0, half a pair \udc80")
            return super().encode_documents(texts)

    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    execute(articles, "UPDATE article SET title = 'poison' WHERE id = 20")
    done = sync(articles, lambda *_, **__: Strange(32), max_attempts=1)
    assert (done.rows, done.rows_failed) == (49, 1)
    said = "RuntimeError: a NUL \\x00, half a pair \\udc80"
    assert rows(articles, "SELECT key, state, error FROM semantic.job") == [("20", "failed", said)]


def test_what_neither_the_connection_nor_the_server_can_keep_of_a_text_is_escaped(server: sa.URL) -> None:
    url = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with psycopg.connect(url, dbname="latin", client_encoding="utf8") as connection:
        kept = connection.execute("SELECT %s", [database.storable("\xe9 \u65e5 \0 \udc80", connection)]).fetchone()
    assert kept == ("\xe9 \\u65e5 \\x00 \\udc80",)


def test_text_beyond_the_encoders_limit_is_cut_so_that_all_of_it_is_read(articles: sa.Engine) -> None:
    execute(
        articles, "INSERT INTO article SELECT 1, NULL, string_agg('w' || i, ' '), 'en' FROM generate_series(1, 999) i"
    )
    read: list[str] = []

    class Reads(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            read.extend(word for text in texts for word in text.split()[: self.max_tokens])
            return super().encode_documents(texts)

    sync(articles, lambda *_, **__: Reads(32))
    assert sorted(read) == sorted(f"w{number}" for number in range(1, 1000))
    assert rows(articles, "SELECT DISTINCT truncated FROM article_semantic") == [(False,)]


@pytest.mark.parametrize("text", ["a\\0b", "a\\x00b", "a\\u0000b", "a\u2400b", "\\N", "\\."])
def test_text_that_looks_like_a_nul_or_the_end_of_a_copy_is_stored_as_it_is(articles: sa.Engine, text: str) -> None:
    execute(articles, "INSERT INTO article VALUES (1, :text, NULL, 'en')", text=text)
    sync(articles)
    assert rows(articles, "SELECT content FROM article_semantic") == [(text,)]
    assert truth(articles) == CLEAN


@pytest.mark.parametrize(
    "held", ["SELECT FROM article WHERE id = 7 FOR UPDATE", "UPDATE article SET id = 700 WHERE id = 7"]
)
def test_a_transaction_that_does_not_end_holds_up_its_own_row_only(articles: sa.Engine, held: str) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 30) i")
    stop = threading.Event()
    thread = threading.Thread(target=Worker(articles, Settings(poll_seconds=0.01)).run, args=(stop,))

    def wait_for(count: int) -> None:
        synced = "SELECT count(*) FROM article_semantic"
        eventually(lambda: rows(articles, synced) == [(count,)], f"{count} rows", unless=lambda: not thread.is_alive())

    try:
        with articles.connect() as application:
            application.execute(sa.text(held))
            thread.start()
            wait_for(29)
            execute(articles, "INSERT INTO article VALUES (100, 'later', NULL, 'en')")
            wait_for(30)
            assert truth(articles).missing == {"7"}
            application.commit()
        wait_for(31)
    finally:
        stop.set()
        thread.join(20)
    sync(articles)
    assert truth(articles) == CLEAN
    assert jobs(articles) == set()


@pytest.mark.parametrize(
    "setting",
    [
        "statement_timeout = '30ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '300ms'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_isolation = 'repeatable read'",
        "datestyle = 'German'",
    ],
)
def test_settings_of_the_database_do_not_keep_a_worker_from_its_work(
    articles: sa.Engine, dsn: str, setting: str
) -> None:
    execute(articles, "INSERT INTO article SELECT i, md5(i::text), NULL, 'en' FROM generate_series(1, 3000) i")
    execute(articles, f"ALTER DATABASE {articles.url.database} SET {setting}")
    engine = database.connect(dsn)
    sync(engine)
    engine.dispose()
    execute(articles, f"ALTER DATABASE {articles.url.database} RESET ALL")
    articles.dispose()
    assert truth(articles) == CLEAN
    assert jobs(articles) == set()
    built = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'article_semantic_vector_idx'::regclass"
    assert rows(articles, built) == [(True,)]


@pytest.mark.parametrize("code", ["query_canceled", "lock_not_available"])
@pytest.mark.parametrize("what", ["UPDATE semantic.worker", "generations", "DELETE FROM semantic.problem", "heartbeat"])
def test_housekeeping_that_is_locked_or_too_slow_is_repeated_and_the_worker_continues(
    articles: sa.Engine, what: str, code: str
) -> None:
    known = {"generations": str(sql.statement("registry", "generations")), "heartbeat": "SET lease_until = now() + "}
    left = iter(range(2))
    refused = threading.Event()

    def refuse(*arguments: Any) -> tuple[str, Any]:
        _, __, statement, parameters, *___ = arguments
        if known.get(what, what)[:200] not in statement:
            return statement, parameters
        if next(left, None) is None:
            refused.set()
            return statement, parameters
        return f"DO $$ BEGIN RAISE 'not now' USING ERRCODE = '{code}'; END $$", ()

    sa.event.listen(articles, "before_cursor_execute", refuse, retval=True)
    stop, synced = threading.Event(), threading.Event()
    worker = Worker(articles, Settings(poll_seconds=0.01, lease_seconds=1), on_progress=lambda _: synced.set())
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        eventually(refused.is_set, "two errors", unless=lambda: not thread.is_alive())
        execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
        eventually(synced.is_set, "the row", unless=lambda: not thread.is_alive())
    finally:
        stop.set()
        thread.join(20)
    assert truth(articles) == CLEAN


def test_a_worker_that_others_took_for_gone_signs_in_again(articles: sa.Engine) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=Worker(articles, Settings(poll_seconds=0.01, lease_seconds=1)).run, args=(stop,))
    thread.start()
    try:
        there = "SELECT id FROM semantic.worker"
        [(before,)] = eventually(lambda: rows(articles, there), "a worker", unless=lambda: not thread.is_alive())
        execute(articles, "DELETE FROM semantic.worker")
        [(after,)] = eventually(lambda: rows(articles, there), "it again", unless=lambda: not thread.is_alive())
        assert after > before
    finally:
        stop.set()
        thread.join(20)
    assert rows(articles, there) == []
