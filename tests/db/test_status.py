"""The status is cheap to read: large tables aren't counted, analyzed or not, and what waits is a single statement."""

from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic.operations import status
from pg_semantic.operations.status import IndexStatus
from tests.db.library import Article, Base, execute, read_of, rows, sync
from tests.waiting import eventually

ROWS = 5_000


@pytest.fixture
def unread(engine: sa.Engine) -> sa.Engine:
    """Rows that are older than their index, in a table that was never analyzed and that autovacuum leaves alone."""
    Article.__table__.create(engine)  # type: ignore[attr-defined]
    execute(engine, "ALTER TABLE article SET (autovacuum_enabled = false)")
    execute(engine, f"INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, {ROWS}) i")
    Base.metadata.create_all(engine)
    engine.dispose()  # a session reports what it wrote when it ends
    live = "SELECT pg_stat_get_live_tuples('article'::regclass)"
    eventually(lambda: rows(engine, live) == [(ROWS,)], "the statistics")
    return engine


def index_status(engine: sa.Engine, *, exact: bool = False) -> IndexStatus:
    with engine.connect() as connection:
        [found] = status.read(connection, exact=exact).indexes
        return found


def test_a_large_table_that_was_never_analyzed_is_not_counted(
    unread: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index_status(unread).exact
    monkeypatch.setattr(status, "_SMALL_BYTES", 100_000)
    found = index_status(unread)
    assert (found.exact, found.rows, found.synced, found.chunks) == (False, ROWS, 0, 0)
    unread.dispose()
    with unread.connect() as connection:
        status.read(connection)
        assert read_of(connection, "article") == 0
        status.read(connection, exact=True)
        assert read_of(connection, "article") == ROWS


def test_the_time_left_of_a_first_backfill_is_known_without_analyze(
    unread: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_SMALL_BYTES", 100_000)
    execute(unread, "INSERT INTO semantic.worker (host, pid, rows_per_second) VALUES ('x', 1, 100)")
    execute(unread, "UPDATE semantic.generation SET backfill_rows = 4000")
    found = index_status(unread)
    assert (found.backfill_left, found.eta_seconds) == (1_000, 10.0)


def test_what_waits_is_one_statement_that_reads_no_row(unread: sa.Engine) -> None:
    execute(unread, "UPDATE semantic.generation SET backfill_rows = 4000")
    execute(unread, "UPDATE article SET title = 'new' WHERE id <= 7")
    unread.dispose()
    statements: list[str] = []
    sa.event.listen(unread, "before_cursor_execute", lambda *call: statements.append(call[2]))
    with unread.connect() as connection:
        assert status.waiting(connection) == 1_007
        assert len(statements) == 1
        assert read_of(connection, "article") == 0
    execute(unread, "UPDATE semantic.generation SET backfill_rows = 0")
    sync(unread)
    with unread.connect() as connection:
        assert status.waiting(connection) == 0


def test_a_locked_table_that_was_never_analyzed_has_a_status(unread: sa.Engine) -> None:
    with unread.begin() as other:
        other.execute(sa.text("LOCK TABLE article IN ACCESS EXCLUSIVE MODE"))
        with unread.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '1ms'"))
            [row] = connection.execute(sa.text("SELECT rows_estimate, bytes FROM semantic.index_status"))
    assert tuple(row) == (ROWS, None)


def test_partitions_that_were_never_analyzed_are_in_the_estimate(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE part (id int) PARTITION BY RANGE (id)")
    for number in range(3):
        bounds = f"FROM ({number * 100}) TO ({number * 100 + 100})"
        execute(engine, f"CREATE TABLE part_{number} PARTITION OF part FOR VALUES {bounds}")
        execute(engine, f"ALTER TABLE part_{number} SET (autovacuum_enabled = false)")
    execute(engine, "INSERT INTO part SELECT generate_series(0, 299)")
    engine.dispose()  # a session reports what it wrote when it ends
    execute(engine, "ANALYZE part_1")

    def estimates() -> list[tuple[Any, ...]]:
        return rows(engine, "SELECT semantic.rows_estimate_v1('part'), semantic.analyzed_rows_estimate_v1('part')")

    eventually(lambda: estimates() == [(300, None)], "the statistics")
