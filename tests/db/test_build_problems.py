"""Problem with a build: it stays known until all is built, waits are kept between workers, and no worker ends by it."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.database import transaction
from pg_semantic.settings import Settings
from pg_semantic.worker.index_builder import IndexBuilder
from tests.db.library import execute, generation_of, rows, sync
from tests.db.test_failing_builds import refusing, tried
from tests.waiting import eventually

_FAILURES = "SELECT failures FROM semantic.problem WHERE kind = 'build'"
_COUNTED = "SELECT count(*) FROM semantic.lexicon WHERE refreshed_at > '2000-01-01'"


@pytest.fixture
def failed(articles: sa.Engine) -> sa.Engine:
    """Rows whose vector index could not be built once; it can be tried again now, and is refused again."""
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 20) i")
    execute(articles, "CREATE SEQUENCE builds")
    refusing(articles, "53200")
    with pytest.raises(errors.DatabaseError):
        sync(articles)
    execute(articles, "UPDATE semantic.problem SET next_at = now()")
    return articles


@pytest.fixture
def repaired(failed: sa.Engine) -> sa.Engine:
    """The same, and nothing refuses the index any more."""
    execute(failed, "DROP EVENT TRIGGER refuse")
    return failed


@contextlib.contextmanager
def building(engine: sa.Engine, **settings: Any) -> Iterator[IndexBuilder]:
    """A builder that is closed in the end."""
    made = IndexBuilder(engine, Settings(**settings))
    yield made
    made.close()


@contextlib.contextmanager
def holding(engine: sa.Engine, lock: str) -> Iterator[None]:
    """A transaction that keeps a table: a build on a table that somebody writes to waits for the writer."""
    with engine.begin() as connection:
        connection.execute(sa.text(f"LOCK TABLE {lock} MODE"))
        yield


def until_building(engine: sa.Engine) -> None:
    building = "SELECT FROM pg_stat_progress_create_index WHERE index_relid <> 0"
    eventually(lambda: rows(engine, building), "a build to begin")


def make_statistics_old(engine: sa.Engine) -> None:
    execute(engine, "UPDATE semantic.lexicon SET refreshed_at = '1999-01-01'")


def test_a_worker_beside_one_that_builds_builds_nothing_and_keeps_the_problem(repaired: sa.Engine) -> None:
    generation = generation_of(repaired)
    with building(repaired) as one, building(repaired) as other:
        with holding(repaired, "article_semantic IN ROW EXCLUSIVE"):
            one.tend(generation)
            until_building(repaired)
            for _ in range(2):
                assert not other.tend(generation)
                assert not other.wait(20)
            assert rows(repaired, _FAILURES) == [(1,)]
        one.wait(20)
        assert one.tend(generation)
        assert other.tend(generation)
    assert rows(repaired, _FAILURES) == []


def test_a_worker_waits_as_long_as_another_whose_build_failed_after_it_came(failed: sa.Engine) -> None:
    generation = generation_of(failed)
    execute(failed, "ALTER TABLE article_semantic RENAME TO hidden")
    execute(failed, "CREATE TABLE article_semantic (LIKE hidden)")  # nothing to build yet
    execute(failed, "CREATE TABLE kept AS SELECT * FROM semantic.problem")
    execute(failed, "DELETE FROM semantic.problem")
    with building(failed) as early:
        early.tend(generation)
        execute(failed, "DROP TABLE article_semantic")
        execute(failed, "ALTER TABLE hidden RENAME TO article_semantic")
        execute(failed, "INSERT INTO semantic.problem SELECT * FROM kept")
        execute(failed, "UPDATE semantic.problem SET next_at = now() + interval '1 hour'")
        assert early.tend(generation)
        assert not early.wait(20)
    assert tried(failed) == 1


def test_a_build_on_a_connection_that_is_dead_is_begun_again(repaired: sa.Engine, engine: sa.Engine) -> None:
    generation, apart = generation_of(repaired), sa.create_engine(engine.url)
    ended: list[int] = []

    @sa.event.listens_for(repaired, "checkout")
    def _end(driver: Any, *_: object) -> None:
        if threading.current_thread() is not threading.main_thread() and not ended:
            ended.append(driver.info.backend_pid)
            assert rows(apart, "SELECT pg_terminate_backend(:pid, 5000)", pid=ended[0]) == [(True,)]

    with building(repaired) as builder:
        for _ in range(2):
            assert not builder.tend(generation, draining=True)
            builder.wait(20)
        assert ended
        assert builder.tend(generation, draining=True)
    apart.dispose()
    assert rows(repaired, _FAILURES) == []


def test_problem_that_is_locked_as_a_build_ends_is_forgotten_later(repaired: sa.Engine) -> None:
    generation = generation_of(repaired)
    with building(repaired) as builder:
        with holding(repaired, "article_semantic IN ROW EXCLUSIVE"):
            builder.tend(generation)
            until_building(repaired)
            locked = contextlib.ExitStack()
            locked.enter_context(holding(repaired, "semantic.problem IN ACCESS EXCLUSIVE"))
        with locked:
            builder.wait(20)
            with transaction.unless_busy():
                builder.tend(generation)
        assert builder.tend(generation)
    assert rows(repaired, _FAILURES) == []


def test_what_ended_a_build_is_raised_once(repaired: sa.Engine) -> None:
    generation = generation_of(repaired)
    with building(repaired) as builder:
        with holding(repaired, "article_semantic IN ROW EXCLUSIVE"):
            builder.tend(generation)
            until_building(repaired)
            execute(repaired, "ALTER TABLE semantic.problem RENAME TO away")
        builder.wait(20)
        with pytest.raises(sa.exc.ProgrammingError):
            builder.tend(generation)
        execute(repaired, "ALTER TABLE semantic.away RENAME TO problem")
        assert builder.tend(generation)


def test_a_worker_that_is_told_to_stop_while_it_builds_forgets_no_problem(repaired: sa.Engine) -> None:
    generation = generation_of(repaired)
    with holding(repaired, "article_semantic IN ROW EXCLUSIVE"), building(repaired) as builder:
        builder.tend(generation)
        until_building(repaired)
        builder.close()
    assert rows(repaired, _FAILURES) == [(1,)]


def test_counting_terms_while_many_jobs_wait_forgets_no_problem(failed: sa.Engine) -> None:
    make_statistics_old(failed)
    execute(failed, "INSERT INTO article VALUES (100, 'waits', NULL, 'en')")
    with building(failed, vector_index_backlog=0) as builder:
        assert not builder.tend(generation_of(failed))
        builder.wait(20)
    assert rows(failed, _COUNTED) == [(1,)]
    assert rows(failed, _FAILURES) == [(1,)]
    assert tried(failed) == 1


@pytest.mark.parametrize("draining", [False, True])
def test_terms_are_counted_while_an_index_waits_to_be_tried_again(failed: sa.Engine, *, draining: bool) -> None:
    generation = generation_of(failed)
    with building(failed) as before:
        assert not before.tend(generation)
        before.wait(20)
        assert tried(failed) == 2
        make_statistics_old(failed)
        with building(failed) as later:
            builder = before if draining else later
            assert not builder.tend(generation, draining=draining)
            builder.wait(20)
            assert builder.tend(generation, draining=draining)
    assert rows(failed, _COUNTED) == [(1,)]
    assert rows(failed, _FAILURES) == [(2,)]
    assert tried(failed) == 2


def test_problem_is_over_once_somebody_else_has_built_the_index(repaired: sa.Engine) -> None:
    generation = generation_of(repaired)
    execute(repaired, "UPDATE semantic.problem SET next_at = now() + interval '1 hour'")
    with building(repaired) as builder:
        with repaired.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for index in generation.stored.late_indexes:
                connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
        assert builder.tend(generation)
    assert rows(repaired, _FAILURES) == []
