"""Every DDL of ours on a table that is written to, with a transaction open on it: writers do not queue behind it.

How long a writer waits for a lock is the server's own account (`pg_locks.waitstart`), so it does not depend on how
fast a machine is. Before, DDL waited for a lock of its own as long as the transaction was open, or for three seconds.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from pg_semantic import generations
from pg_semantic.index import chunk_tables, ddl
from pg_semantic.operations import create_index, repair
from pg_semantic.worker import key_changes
from tests.db.copies import NAME, OTHER, all_of, begin, fill, pid
from tests.db.library import Article, execute, generation_of, sync

WRITERS = 8
OPEN_SECONDS = 1.5  # for which the transaction stays open once somebody waits for it
LONGEST_SECONDS = 1.0
_ROWS_OF_WRITERS = range(100, 100 + WRITERS)

Step = Callable[[sa.Engine], object]
OTHER_SPEC = dataclasses.replace(Article.semantic.spec, name="other")


@pytest.fixture
def hot(articles: sa.Engine) -> Iterator[sa.Engine]:
    """A synced table that eight writers update, delete from and insert into."""
    fill(articles)
    execute(articles, "INSERT INTO article SELECT n, 'row', NULL, 'en' FROM generate_series(100, 107) AS n")
    sync(articles)
    stop = threading.Event()
    with ThreadPoolExecutor(WRITERS) as threads:
        running = [threads.submit(write, articles, row, stop) for row in _ROWS_OF_WRITERS]
        yield articles
        stop.set()
    for each in running:
        each.result()


def write(engine: sa.Engine, row: int, stop: threading.Event) -> None:
    """Statements of one writer, each committed by itself."""
    dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn, autocommit=True, application_name="writer") as connection:
        while not stop.is_set():
            connection.execute("UPDATE article SET title = md5(random()::text) WHERE id = %s", (row,))
            connection.execute("DELETE FROM article WHERE id = %s", (row,))
            connection.execute("INSERT INTO article VALUES (%s, 'row', NULL, 'en')", (row,))


def longest_wait_beside(engine: sa.Engine, step: Step) -> float:
    """Seconds that a writer waited for a table while ``step`` ran beside an open transaction."""
    longest = 0.0
    waits = """
        SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)
        FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'writer' AND NOT granted AND locktype = 'relation'
    """
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE :by = ANY (pg_blocking_pids(pid))"
    with ThreadPoolExecutor(1) as threads, engine.connect() as open_, engine.connect() as watching:
        watching.execution_options(isolation_level="AUTOCOMMIT")
        open_.execute(sa.text("UPDATE article SET lang = 'de' WHERE id = 0"))
        open_.execute(sa.text("SELECT count(*) FROM article_semantic")).all()
        running = threads.submit(step, engine)
        until: float | None = None
        while not running.done() and (until is None or time.monotonic() < until):
            longest = max(longest, float(watching.scalar(sa.text(waits)) or 0))
            if until is None and watching.scalar(sa.text(blocked), {"by": pid(open_)}):
                until = time.monotonic() + OPEN_SECONDS
        assert not running.done()  # it needs the table
        open_.commit()
        while not running.done():
            longest = max(longest, float(watching.scalar(sa.text(waits)) or 0))
        running.result()
    return longest


def execute_all(engine: sa.Engine, statements: list[sa.schema.ExecutableDDLElement]) -> None:
    """As a migration does, in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)


def create_at_the_shell(engine: sa.Engine) -> None:
    create_index.create(engine, OTHER_SPEC)


def create_all(engine: sa.Engine) -> None:
    tables = chunk_tables.build(OTHER_SPEC)
    tables.source.metadata.create_all(engine, [tables.receipts, tables.chunks])


def create_in_a_migration(engine: sa.Engine) -> None:
    execute_all(engine, ddl.create(OTHER_SPEC))


def begin_at_the_shell(engine: sa.Engine) -> None:
    begin(engine, encoder=OTHER)


def begin_in_a_migration(engine: sa.Engine) -> None:
    live = generation_of(engine).spec
    execute_all(engine, ddl.begin(dataclasses.replace(live, encoder=OTHER), live))


def repair_triggers(engine: sa.Engine) -> None:
    repair.repair(engine, generation_of(engine))


def drop_at_the_shell(engine: sa.Engine) -> None:
    create_index.drop(engine, generation_of(engine).spec)


def drop_all(engine: sa.Engine) -> None:
    tables = chunk_tables.build(generation_of(engine).spec)
    tables.source.metadata.drop_all(engine, [tables.receipts, tables.chunks])


def drop_in_a_migration(engine: sa.Engine) -> None:
    execute_all(engine, ddl.drop(generation_of(engine).spec))


@pytest.mark.parametrize(
    "step",
    [
        create_at_the_shell,
        create_all,
        create_in_a_migration,
        begin_at_the_shell,
        begin_in_a_migration,
        drop_at_the_shell,
        drop_all,
        drop_in_a_migration,
    ],
)
def test_writers_do_not_queue_behind_what_makes_and_removes_an_index(hot: sa.Engine, step: Step) -> None:
    assert longest_wait_beside(hot, step) <= LONGEST_SECONDS


def test_writers_do_not_queue_behind_missing_triggers_that_are_created_again(hot: sa.Engine) -> None:
    execute(hot, "ALTER TABLE article DISABLE TRIGGER article_semantic_capture_update")
    assert longest_wait_beside(hot, repair_triggers) <= LONGEST_SECONDS


def refresh_key(engine: sa.Engine) -> None:
    assert key_changes.refresh(engine, generation_of(engine))


def test_writers_do_not_queue_behind_an_index_that_is_adapted_to_an_altered_key(hot: sa.Engine) -> None:
    execute(hot, "ALTER TABLE article ALTER COLUMN id TYPE bigint")
    assert longest_wait_beside(hot, refresh_key) <= LONGEST_SECONDS


def switch(engine: sa.Engine) -> None:
    generations.switch(engine, NAME, force=True)


def rollback(engine: sa.Engine) -> None:
    generations.rollback(engine, NAME)


def rollback_and_drop_next(engine: sa.Engine) -> None:
    generations.rollback(engine, NAME, drop_next=True)


def withdraw(engine: sa.Engine) -> None:
    copies = all_of(engine)
    execute_all(engine, ddl.withdraw(copies["live"].spec, copies["previous"].spec))


def drop_previous(engine: sa.Engine) -> None:
    generations.drop(engine, NAME, "previous", grace_seconds=0)


@pytest.mark.parametrize("step", [switch, rollback, withdraw, drop_previous, rollback_and_drop_next])
def test_writers_do_not_queue_behind_a_step_of_a_copy(hot: sa.Engine, step: Step) -> None:
    begin(hot, encoder=OTHER)
    if step is not switch:
        switch(hot)
    if step is rollback_and_drop_next:
        begin(hot, encoder=dataclasses.replace(OTHER, reference="hashed:16", dimensions=16))
    assert longest_wait_beside(hot, step) <= LONGEST_SECONDS
