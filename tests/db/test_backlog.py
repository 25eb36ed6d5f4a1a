"""`semantic.backlog()` counts the work that a worker could do now, cheaply, for any role."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from tests.db.library import Article, Base, execute, fold, generation_of, rows, sync
from tests.waiting import eventually

LIMIT = 100_000
STATES = {
    "failed": "INSERT INTO semantic.job (generation_id, key, state) SELECT :generation, i, 'failed'",
    "claimed": """
        INSERT INTO semantic.job (generation_id, key, state, claim, lease_until)
        SELECT :generation, i, 'processing', gen_random_uuid(), now() + interval '1 minute'
    """,
    "waiting for the next attempt": """
        INSERT INTO semantic.job (generation_id, key, available_at) SELECT :generation, i, now() + interval '1 minute'
    """,
}


def backlog(engine: sa.Engine) -> int:
    [(found,)] = rows(engine, "SELECT semantic.backlog()")
    assert isinstance(found, int)
    return found


def insert(engine: sa.Engine, statement: str, count: int) -> None:
    execute(
        engine,
        f"{statement} FROM generate_series(1, :count) AS i",
        generation=generation_of(engine).id,
        count=count,
    )


def pending(engine: sa.Engine, count: int) -> None:
    insert(engine, "INSERT INTO semantic.job (generation_id, key, priority) SELECT :generation, i, i % 2", count)


def buffers(engine: sa.Engine) -> int:
    """Pages that a call reads, in the cache or not, once the session knows the catalogs."""
    statement = "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT semantic.backlog()"
    plans = [rows(engine, statement)[0][0][0]["Plan"] for _ in range(5)]
    return min(int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]) for plan in plans)


@pytest.fixture
def synced(articles: sa.Engine) -> sa.Engine:
    """A table of three rows with an index that is complete."""
    execute(
        articles, "INSERT INTO article (id, title, lang) SELECT i, 'title ' || i, 'en' FROM generate_series(1, 3) AS i"
    )
    sync(articles)
    return articles


@pytest.fixture
def scaler(synced: sa.Engine) -> Iterator[sa.Engine]:
    """The database as a role sees it that has no right but to connect."""
    name = f"scaler_{str(synced.url.database)[-8:]}"
    execute(synced, f"CREATE ROLE {name} LOGIN")
    made = sa.create_engine(synced.url.set(username=name))
    yield made
    made.dispose()
    execute(synced, f"DROP ROLE {name}")


def test_a_database_without_indexes_has_no_backlog(engine: sa.Engine) -> None:
    assert backlog(engine) == 0


def test_an_index_whose_backfill_has_not_begun_is_work_even_without_rows(articles: sa.Engine) -> None:
    assert rows(articles, "SELECT backfill_after, backfilled_at FROM semantic.generation") == [(None, None)]
    assert backlog(articles) == 1
    sync(articles)
    assert backlog(articles) == 0


ROWS = 20_000


@pytest.fixture
def unread(engine: sa.Engine) -> sa.Engine:
    """Rows that are older than their index, in a table that was never analyzed and that autovacuum leaves alone."""
    Article.__table__.create(engine)  # type: ignore[attr-defined]
    execute(engine, "ALTER TABLE article SET (autovacuum_enabled = false)")
    with engine.connect() as connection:  # the statistics are up to date when a session ends
        connection.execute(
            sa.text(f"INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, {ROWS}) i")
        )
        connection.commit()
        connection.detach()
    Base.metadata.create_all(engine)
    assert rows(engine, "SELECT reltuples FROM pg_class WHERE relname = 'article'") == [(-1,)]
    return engine


def test_the_rows_of_a_table_that_was_never_analyzed_are_counted_by_the_servers_statistics(unread: sa.Engine) -> None:
    eventually(lambda: backlog(unread) == ROWS, "the statistics")
    execute(unread, "UPDATE semantic.generation SET backfill_rows = 15000")
    assert backlog(unread) == ROWS - 15_000


def test_the_rows_of_a_table_without_any_statistics_are_estimated_from_its_size(unread: sa.Engine) -> None:
    eventually(lambda: backlog(unread) == ROWS, "the statistics")
    execute(unread, "SELECT pg_stat_reset_single_table_counters('article'::regclass)")
    eventually(lambda: backlog(unread) != ROWS, "the loss of the statistics")
    [(plan,)] = rows(unread, "EXPLAIN (FORMAT json) SELECT FROM article")
    assert backlog(unread) == pytest.approx(plan[0]["Plan"]["Plan Rows"], rel=0.05)
    assert ROWS / 3 < backlog(unread) < ROWS * 3


def test_many_more_rows_than_at_the_last_analyze_are_counted(unread: sa.Engine) -> None:
    eventually(lambda: backlog(unread) == ROWS, "the statistics")
    execute(unread, "ANALYZE article")
    assert backlog(unread) == ROWS
    more = "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(:first, :last) i"
    execute(unread, more, first=ROWS + 1, last=3 * ROWS)
    execute(unread, "TRUNCATE semantic.mark")
    unread.dispose()
    eventually(lambda: backlog(unread) == 3 * ROWS, "the statistics")


@pytest.mark.parametrize("name", ["article", "article_semantic"])
def test_it_never_waits_for_a_table_that_is_locked(unread: sa.Engine, name: str) -> None:
    """KEDA would get no answer, and start a worker less or more than it should."""
    execute(unread, "SELECT pg_stat_reset_single_table_counters('article'::regclass)")
    execute(unread, "UPDATE semantic.generation SET backfilled_at = now() WHERE :done", done=name != "article")
    with unread.begin() as other:
        other.execute(sa.text(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"))
        with unread.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '1ms'"))
            assert connection.scalar(sa.text("SELECT semantic.backlog()")) in {0, 1, ROWS}


def test_nothing_waits_once_a_worker_has_finished_and_each_edit_is_work_again(synced: sa.Engine) -> None:
    assert backlog(synced) == 0
    execute(synced, "UPDATE article SET title = title || ', edited' WHERE id < 3")
    assert backlog(synced) == 2
    fold(synced)
    assert backlog(synced) == 2
    sync(synced)
    assert backlog(synced) == 0


def test_a_mark_for_all_rows_is_work(synced: sa.Engine) -> None:
    execute(synced, "INSERT INTO semantic.mark (generation_id) SELECT id FROM semantic.generation")
    assert backlog(synced) == 1
    fold(synced)
    assert backlog(synced) == 1  # the backfill that it began


@pytest.mark.parametrize("state", STATES)
def test_jobs_that_no_worker_can_take_now_are_no_work(synced: sa.Engine, state: str) -> None:
    insert(synced, STATES[state], 50)
    assert backlog(synced) == 0


def test_jobs_of_a_worker_that_was_lost_are_work(synced: sa.Engine) -> None:
    insert(synced, STATES["claimed"], 50)
    execute(synced, "UPDATE semantic.job SET lease_until = now() - interval '1 second' WHERE key <= '3'")
    assert backlog(synced) == len([key for key in map(str, range(1, 51)) if key <= "3"])


def test_what_a_dropped_table_or_a_dropped_index_left_behind_is_no_work(synced: sa.Engine) -> None:
    pending(synced, 10)
    execute(synced, "INSERT INTO semantic.job (generation_id, key) VALUES (1000000, 'x')")
    execute(synced, "INSERT INTO semantic.mark (generation_id, key) VALUES (1000000, 'x')")
    assert backlog(synced) == 10
    execute(synced, "DROP TABLE article CASCADE")
    assert backlog(synced) == 0


@pytest.mark.parametrize("suffix", ["_vector_idx", "_lexemes_idx"])
def test_an_index_that_must_be_built_is_work_until_its_build_has_failed(synced: sa.Engine, suffix: str) -> None:
    execute(synced, f"DROP INDEX {Article.semantic.tables.chunks.name}{suffix}")
    assert backlog(synced) == 1
    execute(
        synced,
        """
        INSERT INTO semantic.problem (generation_id, kind, reason, next_at)
        SELECT id, 'build', 'x', now() + interval '1 hour' FROM semantic.generation
        """,
    )
    assert backlog(synced) == 0
    execute(synced, "UPDATE semantic.problem SET next_at = now()")
    assert backlog(synced) == 1
    sync(synced)
    assert backlog(synced) == 0


def test_a_role_that_can_only_connect_learns_the_number_and_nothing_else(synced: sa.Engine, scaler: sa.Engine) -> None:
    pending(synced, 7)
    assert backlog(scaler) == 7
    for secret in ("SELECT FROM semantic.job", "SELECT FROM semantic.mark", "SELECT FROM article"):
        with pytest.raises(exc.ProgrammingError, match="permission denied"):
            rows(scaler, secret)


def test_counting_ends_at_the_limit(synced: sa.Engine) -> None:
    pending(synced, LIMIT + 1)
    assert backlog(synced) == LIMIT
    before = buffers(synced)
    insert(synced, "INSERT INTO semantic.mark (generation_id, key) SELECT :generation, i", LIMIT)
    assert backlog(synced) == LIMIT
    assert buffers(synced) < before + 100


def test_jobs_that_failed_cost_nothing(synced: sa.Engine) -> None:
    before = buffers(synced)
    insert(synced, STATES["failed"], 20_000)
    insert(synced, STATES["waiting for the next attempt"].replace("i, now", "-i, now"), 20_000)
    assert buffers(synced) < before + 100
