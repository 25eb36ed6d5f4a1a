"""`semantic.lock_tables_v1`: how our DDL waits for tables that others use, and what a drop leaves to be swept up."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, generations, jobqueue
from pg_semantic.operations import create_index
from tests.db.copies import NAME, OTHER, all_of, await_blocked, begin, pid
from tests.db.library import Article, Base, execute, generation_of, rows, wait_for_locks

LOCK = "SELECT semantic.lock_tables_v1('SHARE ROW EXCLUSIVE', VARIADIC CAST(:names AS regclass[]))"
FOREVER = 1_000_000


def lock(connection: sa.Connection, *names: str) -> None:
    connection.execute(sa.text(LOCK), {"names": list(names)})


def use(connection: sa.Connection, table: str) -> None:
    """Takes the lock of a writer, until the transaction ends."""
    connection.execute(sa.text(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE"))


def second_index(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)


def test_a_transaction_that_keeps_writers_from_one_table_does_not_wait_for_another(articles: sa.Engine) -> None:
    second_index(articles)
    wait_for_locks(articles, seconds=FOREVER)
    with articles.connect() as writer, articles.connect() as connection:
        use(writer, "note")
        lock(connection, "article")
        with pytest.raises(exc.OperationalError, match="do this in a separate transaction") as refused:
            lock(connection, "note")
    assert f"note) are in use by other transactions (pid: {pid_in(refused.value)})" in str(refused.value)


def pid_in(error: exc.OperationalError) -> str:
    return str(error.orig).partition("pid: ")[2].partition(")")[0]


def test_what_the_transaction_has_locked_already_is_not_waited_for(articles: sa.Engine) -> None:
    with articles.connect() as connection:
        lock(connection, "article")
        lock(connection, "article")


def test_a_partition_in_use_is_named_by_its_process_and_leaves_the_parent_free(engine: sa.Engine) -> None:
    execute(
        engine,
        "CREATE TABLE event (id integer PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (10) TO (20)",
    )
    wait_for_locks(engine, seconds=0.3)
    with engine.connect() as writer, engine.connect() as connection:
        use(writer, "event_2")
        with pytest.raises(exc.OperationalError, match=rf"pid: {pid(writer)}\)"), connection.begin_nested():
            lock(connection, "event")
        held = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock'"
        assert connection.scalar(sa.text(held)) == 0
        writer.rollback()
        lock(connection, "event")
        assert connection.scalar(sa.text(held)) == 3


def test_a_short_statement_timeout_leaves_time_to_say_who_is_in_the_way(articles: sa.Engine) -> None:
    wait_for_locks(articles, seconds=FOREVER)
    with articles.connect() as writer, articles.connect() as connection:
        use(writer, "article")
        connection.execute(sa.text("SET statement_timeout = '2s'"))
        with pytest.raises(exc.OperationalError, match=rf"pid: {pid(writer)}\)"):
            lock(connection, "article")


def test_how_long_tables_are_waited_for_is_a_setting(articles: sa.Engine) -> None:
    with articles.connect() as connection:
        seconds = sa.text("SELECT semantic.lock_wait_seconds_v1()")
        assert connection.scalar(seconds) == 30
        connection.execute(sa.text("SET semantic.lock_seconds = 120"))
        assert connection.scalar(seconds) == 120
        connection.execute(sa.text("SET statement_timeout = '2min'"))
        assert connection.scalar(seconds) == 96


def test_settings_of_the_session_are_as_before(articles: sa.Engine) -> None:
    settings = sa.text("SELECT current_setting('lock_timeout'), current_setting('deadlock_timeout')")
    with articles.connect() as connection:
        connection.execute(sa.text("SET lock_timeout = '7s'"))
        before = connection.execute(settings).one()
        lock(connection, "article")
        assert connection.execute(settings).one() == before


def test_an_index_that_the_application_builds_on_its_table_is_not_cancelled(articles: sa.Engine) -> None:
    wait_for_locks(articles, seconds=0.3)

    def build() -> None:
        with articles.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(sa.text("CREATE INDEX CONCURRENTLY article_lang ON article (lang)"))

    with ThreadPoolExecutor(1) as threads:
        with articles.connect() as writer:
            use(writer, "article")
            building = threads.submit(build)
            await_blocked(articles, pid(writer), building.done)
            with pytest.raises(errors.DatabaseError, match="are in use by other transactions"):
                create_index.drop(articles, generation_of(articles).spec)
        building.result()
    assert rows(articles, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'article_lang'::regclass") == [(True,)]


def test_a_mode_that_is_none_of_ours_is_refused(articles: sa.Engine) -> None:
    with articles.connect() as connection, pytest.raises(exc.DBAPIError, match="lock mode 'SHARE MODE; --' is unknown"):
        connection.execute(sa.text("SELECT semantic.lock_tables_v1('SHARE MODE; --', 'article')"))


def test_a_refusal_of_a_lock_is_told_from_a_timeout_of_the_server(articles: sa.Engine) -> None:
    with articles.connect() as writer, articles.connect() as connection:
        use(writer, "article")
        connection.execute(sa.text("SET lock_timeout = 1"))
        with pytest.raises(exc.OperationalError) as timeout:
            connection.execute(sa.text("LOCK TABLE article"))
    assert database.lock_refusal(timeout.value) is None
    assert "try again in a moment" in str(database.translate(timeout.value))


def test_a_statement_that_took_too_long_says_which_setting_to_raise(articles: sa.Engine) -> None:
    with articles.connect() as connection:
        connection.execute(sa.text("SET statement_timeout = 1"))
        with pytest.raises(exc.OperationalError) as timeout:
            connection.execute(sa.text("SELECT pg_sleep(10)"))
    said = str(database.translate(timeout.value))
    assert "canceling statement due to statement timeout" in said
    assert "ALTER ROLE ... SET statement_timeout" in said


_QUEUE = """
    WITH keys (key) AS (SELECT CAST(n AS text) FROM generate_series(1, 12000) AS n),
         marked AS (INSERT INTO semantic.mark (generation_id, key) SELECT :id, key FROM keys)
    INSERT INTO semantic.job (generation_id, key) SELECT :id, key FROM keys
"""
_LEFT = """
    SELECT generation_id, count(*) FROM (
        SELECT generation_id FROM semantic.mark UNION ALL SELECT generation_id FROM semantic.job
    ) AS waiting GROUP BY 1 ORDER BY 1
"""


def test_a_drop_deletes_little_of_a_long_queue_and_what_is_left_is_swept_up(articles: sa.Engine) -> None:
    live, dropped = generation_of(articles).id, begin(articles, encoder=OTHER).id
    execute(articles, "DELETE FROM semantic.mark")
    for number in (live, dropped):
        execute(articles, _QUEUE, id=number)
    with articles.begin() as connection:
        connection.execute(sa.select(sa.func.semantic.delete_generation_v1(dropped, True)))
    assert rows(articles, _LEFT) == [(live, 24000), (dropped, 4000)]
    jobqueue.sweep(articles)
    assert rows(articles, _LEFT) == [(live, 24000)]


@pytest.fixture
def left_over(articles: sa.Engine) -> sa.Engine:
    """Marks and jobs of a copy that was dropped, more than are deleted with it."""
    dropped = begin(articles, encoder=OTHER).id
    execute(articles, "DELETE FROM semantic.mark")
    execute(articles, _QUEUE.replace("12000", "120000"), id=dropped)
    with articles.begin() as connection:
        connection.execute(sa.select(sa.func.semantic.delete_generation_v1(dropped, True)))
    return articles


@pytest.mark.parametrize("setting", ["statement_timeout = '50ms'", "transaction_timeout = '50ms'", "search_path = ''"])
def test_a_sweep_takes_its_time_whatever_the_database_has_set(left_over: sa.Engine, setting: str) -> None:
    if setting.startswith("transaction_timeout") and int(rows(left_over, "SHOW server_version_num")[0][0]) < 170000:
        pytest.skip("this server has no transaction_timeout")
    name = left_over.url.database
    execute(left_over, f"ALTER DATABASE {name} SET {setting}")
    left_over.dispose()
    jobqueue.sweep(left_over)
    execute(left_over, f"ALTER DATABASE {name} RESET ALL")
    left_over.dispose()
    assert rows(left_over, _LEFT) == []


def test_what_others_have_locked_is_left_for_the_next_sweep(left_over: sa.Engine) -> None:
    with left_over.begin() as connection:
        connection.execute(sa.text("LOCK TABLE semantic.mark IN ACCESS EXCLUSIVE MODE"))
        jobqueue.sweep(left_over)
        assert connection.scalar(sa.text("SELECT count(*) > 0 FROM semantic.mark"))
    jobqueue.sweep(left_over)
    assert rows(left_over, _LEFT) == []


def test_commands_that_drop_leave_nothing_in_the_queue(articles: sa.Engine) -> None:
    execute(articles, _QUEUE, id=begin(articles, encoder=OTHER).id)
    generations.drop(articles, NAME, "next", grace_seconds=0)
    execute(articles, _QUEUE, id=all_of(articles)["live"].id)
    create_index.drop(articles, generation_of(articles).spec)
    assert rows(articles, _LEFT) == []
    Base.metadata.create_all(articles)
