"""What pauses backfill, that it continues by itself, and that edits are never paused."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.operations import status
from pg_semantic.settings import Settings
from pg_semantic.worker.throttle import Throttle
from pg_semantic.worker.worker import Worker
from tests.conftest import VERSION
from tests.db import test_cli as shell
from tests.db.library import CLEAN, Article, Base, execute, rows, truth
from tests.waiting import eventually


@pytest.fixture
def unread(engine: sa.Engine) -> sa.Engine:
    """250 articles that are older than their index."""
    Article.__table__.create(engine)  # type: ignore[attr-defined]
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 250) i")
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def slot(engine: sa.Engine) -> Iterator[str]:
    """A replication slot that retains WAL from now on."""
    name = f"slot_{engine.url.database}"[:63]
    execute(engine, "SELECT pg_create_physical_replication_slot(:name, true)", name=name)
    yield name
    execute(engine, "SELECT pg_drop_replication_slot(:name)", name=name)


def write_wal(engine: sa.Engine) -> None:
    """More than two megabytes, flushed by the commit."""
    execute(engine, "SELECT pg_logical_emit_message(true, 'test', repeat('x', 100000)) FROM generate_series(1, 25)")


def looked(throttle: Throttle, engine: sa.Engine) -> bool:
    """What it says, without the time between two looks."""
    throttle._look_at = 0.0
    with engine.connect() as connection:
        throttle.look(connection)
        return throttle.pauses(is_remote=False)


def test_without_a_limit_nothing_is_asked(engine: sa.Engine) -> None:
    asked: list[object] = []
    with engine.connect() as connection:
        sa.event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call))
        throttle = Throttle(Settings())
        throttle.look(connection)
    assert not throttle.pauses(is_remote=True)
    assert asked == []


def test_backfill_is_paused_while_a_slot_retains_too_much(engine: sa.Engine, slot: str) -> None:
    throttle = Throttle(Settings(max_slot_wal_mb=1))
    assert not looked(throttle, engine)
    write_wal(engine)
    assert looked(throttle, engine)
    assert throttle.reason is not None
    assert slot in throttle.reason
    execute(engine, "SELECT pg_replication_slot_advance(:slot, pg_current_wal_lsn())", slot=slot)
    assert not looked(throttle, engine)


@pytest.mark.skipif(VERSION < 18, reason="older servers lose a slot in no way that keeps its position")
def test_a_slot_that_was_lost_retains_nothing(engine: sa.Engine, slot: str) -> None:
    """A slot that was idle for too long keeps its position, and no WAL."""
    with set_on_the_server(engine, "idle_replication_slot_timeout", "1s"):
        eventually(lambda: is_lost(engine, slot), "the slot to be lost")
    write_wal(engine)
    assert rows(engine, "SELECT pg_current_wal_lsn() - restart_lsn > 2000000 FROM pg_replication_slots") == [(True,)]
    assert not looked(Throttle(Settings(max_slot_wal_mb=1)), engine)


def is_lost(engine: sa.Engine, slot: str) -> bool:
    """Whether the slot was lost by now, at a checkpoint."""
    execute(engine, "CHECKPOINT")
    lost = "SELECT FROM pg_replication_slots WHERE slot_name = :slot AND wal_status = 'lost'"
    return bool(rows(engine, lost, slot=slot))


@contextlib.contextmanager
def set_on_the_server(engine: sa.Engine, name: str, value: str) -> Iterator[None]:
    """Changes a setting of the whole server for a while."""

    def change(statement: str) -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(statement)
            connection.exec_driver_sql("SELECT pg_reload_conf()")

    change(f"ALTER SYSTEM SET {name} = '{value}'")
    yield
    change(f"ALTER SYSTEM RESET {name}")


def test_backfill_is_paused_until_the_average_of_wal_is_within_the_limit(engine: sa.Engine) -> None:
    throttle = Throttle(Settings(max_wal_mb_s=5))
    assert not looked(throttle, engine)
    write_wal(engine)
    write_wal(engine)
    write_wal(engine)
    assert looked(throttle, engine)
    eventually(lambda: not looked(throttle, engine), "the average to fall")


def test_pauses_that_follow_each_other_are_logged_once_a_minute(
    engine: sa.Engine, slot: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    throttle = Throttle(Settings(max_slot_wal_mb=1))
    with caplog.at_level(logging.INFO, "pg_semantic"):
        for _ in range(8):
            write_wal(engine)
            assert looked(throttle, engine)
            execute(engine, "SELECT pg_replication_slot_advance(:slot, pg_current_wal_lsn())", slot=slot)
            assert not looked(throttle, engine)
            now[0] += 10.0
    assert [one.message.partition(":")[0] for one in caplog.records] == ["backfill is paused", "backfill continues"] * 2


def test_edits_are_synced_and_status_says_why_while_backfill_is_paused(unread: sa.Engine, slot: str, dsn: str) -> None:
    write_wal(unread)
    settings = Settings(max_slot_wal_mb=1, lease_seconds=1)
    worker, stop = Worker(unread, settings, load=lambda *_, **__: HashedEncoder(32)), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        execute(unread, "UPDATE article SET title = 'new' WHERE id = 7")
        eventually(lambda: worker.progress.rows, "the edit")
        eventually(lambda: read(unread).paused, "the reason")
        assert rows(unread, "SELECT content FROM article_semantic") == [("new",)]
        [found] = read(unread).indexes
        assert (found.backfill_left, found.waiting) == (250, 250)
        assert f"Backfill is paused: replication slot {slot} retains" in " ".join(shell.ok("status", dsn=dsn).split())
        execute(unread, "SELECT pg_replication_slot_advance(:slot, pg_current_wal_lsn())", slot=slot)
        eventually(lambda: worker.progress.rows >= 250, "the backfill")
        eventually(lambda: not read(unread).paused, "the reason to be forgotten")
    finally:
        stop.set()
        thread.join()
    assert truth(unread) == CLEAN


def read(engine: sa.Engine) -> status.Status:
    with engine.connect() as connection:
        return status.read(connection)
