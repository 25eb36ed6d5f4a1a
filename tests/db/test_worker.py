"""The worker as a process: it starts, serves, and stops when told to."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import pytest
import sqlalchemy as sa

from pg_semantic import database, errors
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.operations import create_index
from pg_semantic.settings import Settings
from pg_semantic.worker import read_rows
from pg_semantic.worker.batch_log import Progress
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, Article, Base, execute, fold, jobs, rows, sync, truth
from tests.waiting import eventually

COMMAND = (sys.executable, "-m", "pg_semantic.cli")


def test_a_continuous_worker_syncs_what_comes_and_stops_when_told(articles: sa.Engine) -> None:
    stop, synced = threading.Event(), threading.Event()
    worker = Worker(articles, Settings(poll_seconds=0.01), on_progress=lambda _: synced.set())
    results: list[Progress] = []
    thread = threading.Thread(target=lambda: results.append(worker.run(stop)))
    thread.start()
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    assert synced.wait(20)
    assert truth(articles) == CLEAN
    stop.set()
    thread.join(20)
    assert results[0].rows == 1
    assert rows(articles, "SELECT count(*) FROM semantic.worker") == [(0,)]


def test_a_worker_that_is_told_to_stop_gives_back_what_it_has_not_begun(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    stop = threading.Event()

    class StopsTheWorker(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            stop.set()
            return super().encode_documents(texts)

    worker = Worker(articles, Settings(batch_rows=10), load=lambda *_, **__: StopsTheWorker(32))
    assert worker.run(stop).rows == 10
    assert rows(articles, "SELECT state, attempts, count(*) FROM semantic.job GROUP BY 1, 2") == [("pending", 0, 40)]


def test_a_worker_that_ends_with_an_error_gives_back_what_it_has_in_hand(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")

    def fail(_: Progress) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        Worker(articles, Settings(batch_rows=10), on_progress=fail).run(threading.Event())
    assert rows(articles, "SELECT DISTINCT state, attempts, claim FROM semantic.job") == [("pending", 0, None)]
    assert rows(articles, "SELECT count(*) BETWEEN 1 AND 49 FROM semantic.job") == [(True,)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_process_ends_cleanly_on_a_signal(articles: sa.Engine, dsn: str, number: signal.Signals) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 20) i")
    process = subprocess.Popen(
        [*COMMAND, "worker"], env=os.environ | {"PG_SEMANTIC_DSN": dsn}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    logged = iter(process.stderr.readline, b"")
    counts = (int(found[1]) for line in logged if (found := re.search(rb"(\d+) rows, \d+ chunks encoded", line)))
    patience = threading.Timer(60, process.kill)
    patience.start()
    assert any(total >= 20 for total in itertools.accumulate(counts))
    patience.cancel()
    process.send_signal(number)
    output, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert b"20 rows synced" in output
    assert jobs(articles) == set()
    assert rows(articles, "SELECT count(*) FROM semantic.worker") == [(0,)]


def test_two_workers_at_once_do_each_row_once(articles: sa.Engine, dsn: str) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 500) i")
    processes = [
        subprocess.Popen(
            [*COMMAND, "worker", "--once", "--json", "--batch-rows", "20", "--dsn", dsn], stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(result["rows"] for result in results) == 500
    assert truth(articles) == CLEAN


def test_an_index_that_is_dropped_while_it_is_worked_on_does_not_stop_the_worker(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")

    class DropsTheIndex(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            Base.metadata.drop_all(articles, [Article.semantic.tables.chunks, Article.semantic.tables.receipts])
            return super().encode_documents(texts)

    assert sync(articles, lambda *_, **__: DropsTheIndex(32), batch_rows=10).rows == 0
    assert jobs(articles) == set()


def test_a_failure_in_the_reading_thread_reaches_the_caller(
    articles: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("reading failed")

    monkeypatch.setattr(read_rows, "look", broken)
    with pytest.raises(RuntimeError, match="reading failed"):
        sync(articles)


def test_a_worker_on_a_database_that_is_not_set_up_says_what_to_run(bare_dsn: str) -> None:
    engine = database.connect(bare_dsn)
    with pytest.raises(errors.NotInstalled, match="CREATE EXTENSION vector"):
        sync(engine)
    engine.dispose()


def test_a_worker_that_is_stopped_ends_the_build_of_a_vector_index(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    stop, synced = threading.Event(), threading.Event()
    worker = Worker(articles, Settings(poll_seconds=0.01), on_progress=lambda _: synced.set())
    with articles.connect() as old:  # a concurrent build waits for transactions that are older
        old.execute(sa.text("INSERT INTO article VALUES (2, 'two', NULL, 'en')"))
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        assert synced.wait(20)
        synced.clear()
        execute(articles, "INSERT INTO article VALUES (3, 'three', NULL, 'en')")
        assert synced.wait(20)
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
        old.rollback()
    sync(articles)
    assert truth(articles) == CLEAN
    assert rows(articles, "SELECT indisvalid FROM pg_index WHERE indexrelid::regclass::text LIKE '%vector_idx'") == [
        (True,)
    ]


def test_a_row_that_ends_every_worker_that_tries_it_is_parked_and_its_neighbours_are_synced(
    articles: sa.Engine,
) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 60) i")
    execute(articles, "UPDATE article SET body = 'poison' WHERE id = 42")

    class Killed(BaseException): ...

    class EndsTheWorker(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            if any("poison" in text for text in texts):
                raise Killed
            return super().encode_documents(texts)

    for _ in range(20):
        try:
            sync(articles, lambda *_, **__: EndsTheWorker(32), batch_rows=30, max_attempts=3, retry_seconds=0.001)
            break
        except Killed:
            execute(articles, "UPDATE semantic.job SET lease_until = now() WHERE state = 'processing'")
    parked = {key for (key,) in rows(articles, "SELECT key FROM semantic.job WHERE state = 'failed'")}
    assert "42" in parked
    assert len(parked) <= 2
    assert truth(articles).missing == parked


def test_problem_with_one_index_is_not_that_of_another(articles: sa.Engine) -> None:
    execute(articles, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    with articles.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(articles, spec)
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    execute(articles, "INSERT INTO note VALUES (1, 'one')")
    execute(articles, "ALTER TABLE article_semantic RENAME COLUMN content TO other")
    with pytest.raises(errors.DatabaseError, match="content"):
        sync(articles)
    assert rows(articles, "SELECT content FROM note_semantic") == [("one",)]
    assert rows(articles, "SELECT state, attempts FROM semantic.job") == [("pending", 0)]


def test_an_index_that_is_dropped_and_made_anew_has_its_encoder_recorded_again(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (0, 'text', NULL, 'en')")
    sync(articles)
    stop, synced = threading.Event(), threading.Event()
    worker = Worker(articles, Settings(poll_seconds=0.01), on_progress=lambda _: synced.set())
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    for number in (1, 2):
        execute(articles, "INSERT INTO article VALUES (:number, 'text', NULL, 'en')", number=number)
        assert synced.wait(20)
        synced.clear()
        if number == 1:
            Base.metadata.drop_all(articles, [Article.semantic.tables.chunks, Article.semantic.tables.receipts])
            Base.metadata.create_all(articles)
            assert synced.wait(20)  # the backfill
            synced.clear()
    stop.set()
    thread.join(20)
    assert rows(articles, "SELECT fingerprint FROM semantic.encoder") == [(HashedEncoder(32).fingerprint,)]


def test_a_build_of_a_vector_index_gives_way_to_an_application_that_empties_the_table(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    stop = threading.Event()
    worker = Worker(articles, Settings(poll_seconds=0.01))
    with articles.connect().execution_options(isolation_level="REPEATABLE READ") as old:
        old.execute(sa.text("SELECT count(*) FROM pg_class"))  # a concurrent build waits for older snapshots
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for old snapshots%'"
        eventually(
            lambda: rows(articles, waiting) != [(0,)], "a concurrent build", unless=lambda: not thread.is_alive()
        )
        execute(articles, "TRUNCATE article CASCADE")
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
        old.rollback()
    assert truth(articles) == CLEAN


class Slow(HashedEncoder):
    """Has an edit come while a backlog is encoded, and is not done with that before it was given the edit.

    On a busy machine, single rows of the backlog may come before that: edits too, while the worker looks around.
    """

    def __init__(self, edit: Callable[[], None]) -> None:
        super().__init__(32)
        self._edit = edit
        self._urgent = threading.Event()
        self.given: list[list[str]] = []
        self.backlog: Sequence[str] = ()

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.given.append(list(texts))
        if "urgent" in texts:
            self._urgent.set()
        elif len(texts) > 10 and not self.backlog:
            self.backlog = texts
            self._edit()
            assert self._urgent.wait(30)
        return super().encode_documents(texts)


@pytest.mark.parametrize("other", [False, True])
def test_an_edit_passes_the_backlog_that_is_being_encoded(articles: sa.Engine, other: bool) -> None:
    execute(articles, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    with articles.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(articles, spec)
    sync(articles)
    body = "SELECT i, 'title ' || i, repeat('word' || i || ' ', 100), 'en' FROM generate_series(1, 200) i"
    execute(articles, f"INSERT INTO article {body}")
    if not other:  # as backfill
        fold(articles)
        execute(articles, "UPDATE semantic.job SET priority = 1")
    edit = "INSERT INTO note VALUES (1, 'urgent')" if other else "INSERT INTO article VALUES (0, 'urgent', NULL, 'en')"
    encoder = Slow(lambda: execute(articles, edit))
    sync(articles, lambda *_, **__: encoder, batch_rows=200)
    assert encoder.given[encoder.given.index(list(encoder.backlog)) + 1] == ["urgent"]
    assert truth(articles) == CLEAN


def test_a_table_that_somebody_has_locked_keeps_no_other_index_waiting(articles: sa.Engine) -> None:
    execute(articles, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    with articles.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(articles, spec)
    stop, synced = threading.Event(), threading.Event()
    worker = Worker(articles, Settings(poll_seconds=0.01), on_progress=lambda _: synced.set())
    thread = threading.Thread(target=worker.run, args=(stop,))
    with articles.connect() as other:
        other.execute(sa.text("TRUNCATE article CASCADE"))
        thread.start()
        execute(articles, "INSERT INTO note VALUES (1, 'one')")
        assert synced.wait(20)
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
        other.rollback()
    assert rows(articles, "SELECT content FROM note_semantic") == [("one",)]


def test_a_row_of_many_chunks_has_more_time_to_be_written(articles: sa.Engine) -> None:
    """Otherwise, one that takes longer than any other statement may would stop its index again and again."""
    allowed: list[int] = []

    @sa.event.listens_for(articles, "before_cursor_execute")
    def note(*call: object) -> None:
        given = call[3].get("statement_timeout", "") if isinstance(call[3], dict) else ""
        if seconds := re.fullmatch(r"(\d+)s", given):  # that of an index build is in minutes
            allowed.append(int(seconds[1]))

    execute(articles, "INSERT INTO article VALUES (1, 'short', NULL, 'en')")
    sync(articles)
    assert max(allowed) == 60
    execute(articles, "INSERT INTO article VALUES (2, 'long', repeat('some words of a long text ', 30000), 'en')")
    sync(articles)
    [(chunks,)] = rows(articles, "SELECT count(*) FROM article_semantic WHERE id = 2")
    assert max(allowed) == 60 + chunks // 10 > 90
