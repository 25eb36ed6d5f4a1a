"""The job table stays small although millions of jobs come and go between two looks of autovacuum."""

import time
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic.worker import queue_vacuum
from pg_semantic.worker.queue_vacuum import QueueVacuum
from tests.db.library import execute, rows

JOBS = "INSERT INTO semantic.job (generation_id, key) SELECT 7, i::text FROM generate_series(1, 5000) AS i"


@pytest.fixture
def untended(engine: sa.Engine) -> sa.Engine:
    """No other vacuum, and 5,000 finished jobs."""
    execute(engine, "ALTER TABLE semantic.job SET (autovacuum_enabled = false)")
    execute(engine, JOBS)
    execute(engine, "DELETE FROM semantic.job")
    return engine


def size(engine: sa.Engine) -> int:
    [(octets,)] = rows(engine, "SELECT pg_relation_size('semantic.job')")
    return int(octets)


def size_with_new_jobs(engine: sa.Engine) -> int:
    execute(engine, JOBS)
    return size(engine)


def test_new_jobs_take_the_place_of_finished_ones(untended: sa.Engine) -> None:
    before = size(untended)
    QueueVacuum(untended).tend(queue_vacuum._ROWS)
    assert size_with_new_jobs(untended) == before


def test_it_waits_until_many_jobs_are_finished(untended: sa.Engine) -> None:
    before, vacuum = size(untended), QueueVacuum(untended)
    vacuum.tend(queue_vacuum._ROWS - 1)
    assert size_with_new_jobs(untended) > 1.5 * before


def test_after_a_vacuum_that_took_long_it_rests_for_much_longer(
    untended: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a long transaction, each takes longer than the one before, and frees nothing."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    vacuums: list[float] = []

    @sa.event.listens_for(untended, "after_cursor_execute")
    def take_ten_seconds(*call: Any) -> None:
        if call[2].startswith("VACUUM"):
            vacuums.append(now[0])
            now[0] += 10.0

    vacuum = QueueVacuum(untended)
    for batches in range(1, 11):
        vacuum.tend(batches * queue_vacuum._ROWS)
        now[0] += 30.0
    assert vacuums == [1000.0, 1220.0]


def test_a_role_that_may_not_vacuum_the_table_leaves_it(untended: sa.Engine) -> None:
    name = untended.url.database
    execute(untended, f"CREATE ROLE worker_{name} LOGIN")
    execute(untended, f"GRANT USAGE ON SCHEMA semantic TO worker_{name}")
    before = size(untended)
    warned: list[str] = []
    theirs = sa.create_engine(untended.url.set(username=f"worker_{name}"))

    @sa.event.listens_for(theirs, "connect")
    def listen(connection: object, _: object) -> None:
        connection.add_notice_handler(lambda notice: warned.append(notice.message_primary))  # type: ignore[attr-defined]

    QueueVacuum(theirs).tend(queue_vacuum._ROWS)
    theirs.dispose()
    assert warned == []
    assert size_with_new_jobs(untended) > 1.5 * before


def test_it_leaves_a_table_that_is_locked(untended: sa.Engine) -> None:
    with untended.begin() as other:
        other.execute(sa.text("LOCK TABLE semantic.job IN ACCESS EXCLUSIVE MODE"))
        QueueVacuum(untended).tend(queue_vacuum._ROWS)
