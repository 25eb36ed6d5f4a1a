"""A worker outlives the connections that it has: a restart, a failover, a pooler that closes."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic import database, errors
from pg_semantic.database import embedded, migrate
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.settings import Settings
from pg_semantic.worker.batch_log import Progress
from pg_semantic.worker.intervals import Intervals
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, Base, execute, jobs, rows, sync, truth
from tests.waiting import eventually

_END_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Held(HashedEncoder):
    """Says when it encodes, and goes on when it is let."""

    def __init__(self) -> None:
        super().__init__(32)
        self.encoding, self.let = threading.Event(), threading.Event()

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.encoding.set()
        assert self.let.wait(20)
        return super().encode_documents(texts)


@contextmanager
def working(dsn: str, encoder: HashedEncoder, synced: threading.Event) -> Iterator[list[Progress]]:
    """A continuous worker with connections of its own."""
    engine, stop = database.connect(dsn), threading.Event()
    worker = Worker(
        engine,
        Settings(poll_seconds=0.01),
        load=lambda *_, **__: encoder,
        on_progress=lambda _: synced.set(),
        intervals=Intervals(resources=0.0),
    )
    done: list[Progress] = []
    thread = threading.Thread(target=lambda: done.append(worker.run(stop)))
    thread.start()
    yield done
    stop.set()
    thread.join(20)
    engine.dispose()
    assert not thread.is_alive()


def test_a_worker_that_loses_its_connections_while_encoding_comes_back_and_finishes(
    articles: sa.Engine, dsn: str
) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 20) i")
    encoder, synced = Held(), threading.Event()
    with working(dsn, encoder, synced) as done:
        assert encoder.encoding.wait(20)
        execute(articles, _END_ALL)
        encoder.let.set()
        for _ in range(10):
            if not jobs(articles):
                break
            assert synced.wait(20)
            synced.clear()
    assert truth(articles) == CLEAN
    assert done[0].rows >= 20
    assert rows(articles, "SELECT count(*) FROM semantic.worker WHERE heartbeat_at < now() - interval '1h'") == [(0,)]


def test_what_was_in_hand_is_taken_up_again_before_its_lease_ends(articles: sa.Engine, dsn: str) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    encoder, synced = Held(), threading.Event()
    with working(dsn, encoder, synced):
        assert encoder.encoding.wait(20)
        execute(articles, _END_ALL)
        encoder.let.set()
        assert synced.wait(20)  # the lease is a minute
    assert truth(articles) == CLEAN


def test_a_worker_waits_for_a_database_that_lets_nobody_in_and_stops_when_told(articles: sa.Engine, dsn: str) -> None:
    name = articles.url.database
    encoder, synced = HashedEncoder(32), threading.Event()
    administrator = sa.create_engine(articles.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    with working(dsn, encoder, synced):
        assert synced.wait(20)
        articles.dispose()
        with administrator.connect() as connection:
            connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            connection.execute(sa.text(end), {"name": name})
    with administrator.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    administrator.dispose()
    assert truth(articles) == CLEAN


@pytest.mark.parametrize("at", ["INSERT ON semantic.worker", "UPDATE ON semantic.job"])
def test_a_worker_waits_for_a_server_whose_disk_is_full(
    articles: sa.Engine, dsn: str, at: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(
        articles,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$",
    )
    execute(articles, f"CREATE TRIGGER full_disk BEFORE {at} EXECUTE FUNCTION full_disk()")
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    encoder, synced = HashedEncoder(32), threading.Event()
    with working(dsn, encoder, synced):
        said = "short of resources: DiskFull: could not extend file (SQLSTATE 53100)"
        eventually(lambda: said in caplog.text, "the worker to report the full disk")
        execute(articles, f"DROP TRIGGER full_disk ON {at.rpartition(' ')[2]}")
        assert synced.wait(20)
    assert truth(articles) == CLEAN
    assert rows(articles, "SELECT FROM semantic.worker") == []


def test_with_once_a_database_that_goes_away_is_an_error(articles: sa.Engine, dsn: str) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")

    class Ending(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            execute(articles, _END_ALL)
            return super().encode_documents(texts)

    engine = database.connect(dsn)
    with pytest.raises(errors.DatabaseError, match="does not answer"):
        sync(engine, lambda *_, **__: Ending(32))
    engine.dispose()


def test_a_worker_outlives_a_restart_of_postgres() -> None:
    with tempfile.TemporaryDirectory(prefix="pg_semantic-") as folder:  # not under pytest's, which others may not enter
        data = Path(folder) / "data"
        dsn = embedded.start(data)
        engine = database.connect(dsn)
        migrate.upgrade(engine)
        Base.metadata.create_all(engine)
        synced = threading.Event()
        with working(dsn, HashedEncoder(32), synced) as done:
            execute(engine, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
            assert synced.wait(20)
            engine.dispose()
            embedded.stop(data)
            embedded.start(data)
            synced.clear()
            execute(engine, "INSERT INTO article VALUES (2, 'two', NULL, 'en')")
            assert synced.wait(20)
        assert done[0].rows == 2
        assert truth(engine) == CLEAN
        engine.dispose()
        embedded.stop(data)


class Counted(Held):
    """Counts its calls."""

    calls = 0

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        return super().encode_documents(texts)


def test_a_worker_whose_heartbeat_loses_its_connection_keeps_the_claims_in_hand(
    articles: sa.Engine, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    engine, encoder, stop, cut = database.connect(dsn), Counted(), threading.Event(), threading.Event()

    def cut_off(_: object, cursor: Any, statement: str, *__: object) -> None:
        if "UPDATE semantic.worker" in statement and not cut.is_set():
            end = "UPDATE semantic.job SET lease_until = now() FROM pg_terminate_backend(:pid, 5000)"
            execute(articles, end, pid=cursor.connection.info.backend_pid)
            cut.set()

    sa.event.listen(engine, "before_cursor_execute", cut_off)
    worker = Worker(engine, Settings(lease_seconds=3), load=lambda *_, **__: encoder)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        extended = "SELECT state, attempts FROM semantic.job WHERE lease_until > now()"
        assert cut.wait(20)
        assert eventually(lambda: rows(articles, extended), "a heartbeat") == [("processing", 1)]
        assert encoder.calls == 1
        assert "the heartbeat failed and will be repeated" in caplog.text
    finally:
        encoder.let.set()
        stop.set()
        thread.join(20)
        engine.dispose()
    assert truth(articles) == CLEAN
    assert encoder.calls == 1
