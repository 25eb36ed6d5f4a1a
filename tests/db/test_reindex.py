"""A rebuild of the vector index: complete or without a trace, one at a time, and in no one's way."""

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database, errors
from pg_semantic.operations import doctor, reindex
from pg_semantic.operations import status as statuses
from pg_semantic.operations.reindex import Reindexed
from pg_semantic.operations.status import BuiltIndex, IndexStatus
from pg_semantic.settings import Settings
from pg_semantic.worker import build_progress, build_records, create_index_concurrently
from pg_semantic.worker.build_progress import BuildProgress
from pg_semantic.worker.index_builder import IndexBuilder
from tests.db import pooler
from tests.db import test_cli as shell
from tests.db.library import Article, encoder, execute, generation_of, read_of, rows, sync
from tests.waiting import eventually

T = TypeVar("T")

INDEX = "article_semantic_vector_idx"
_FILL = "INSERT INTO article SELECT i, 'title ' || md5(i::text), NULL, 'en' FROM generate_series(1, 300) AS i"

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too


@pytest.fixture
def synced(articles: sa.Engine) -> sa.Engine:
    execute(articles, _FILL)
    sync(articles)
    return articles


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[None]:
    """A transaction that has written to the chunk table: a rebuild waits for it."""
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text("LOCK TABLE article_semantic IN ROW EXCLUSIVE MODE"))
        yield
        transaction.rollback()


@contextlib.contextmanager
def rebuilding(engine: sa.Engine, seen: list[BuildProgress] | None = None) -> Iterator[Future[Reindexed]]:
    """A rebuild on another thread that waits for a writer until the end of the block, and then ends."""
    generation = generation_of(engine)
    on_progress = seen.append if seen is not None else lambda _: None
    with waiting_build(engine, lambda: reindex.reindex(engine, generation, on_progress=on_progress)) as running:
        yield running


@contextlib.contextmanager
def waiting_build(engine: sa.Engine, build: Callable[[], T]) -> Iterator[Future[T]]:
    """Runs a build on another thread, which waits for a writer until the end of the block."""
    with ThreadPoolExecutor(1) as threads, writing(engine):
        running = threads.submit(build)
        eventually(lambda: progress(engine), "a build to begin", unless=running.done)
        yield running


def progress(engine: sa.Engine) -> BuildProgress | None:
    with engine.connect() as connection:
        return build_progress.read(connection, generation_of(engine).stored)


def file_of(engine: sa.Engine) -> int:
    [(file,)] = rows(engine, "SELECT relfilenode FROM pg_class WHERE oid = CAST(:name AS regclass)", name=INDEX)
    return int(file)


def invalid(engine: sa.Engine) -> list[str]:
    return [name for (name,) in rows(engine, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")]


def index_status(engine: sa.Engine) -> IndexStatus:
    with engine.connect() as connection:
        [found] = statuses.read(connection).indexes
        return found


def built(engine: sa.Engine) -> BuiltIndex:
    found = index_status(engine).built
    assert found is not None
    return found


def drift(engine: sa.Engine, expected: float) -> None:
    """Waits for this drift: sessions report what they wrote when they end, or after a while."""
    engine.dispose()
    eventually(lambda: built(engine).drift == pytest.approx(expected), f"a drift of {expected}")


def leave_something_behind(engine: sa.Engine) -> None:
    """A rebuild by hand whose session ends before it does."""
    with waiting_build(engine, lambda: run_alone(engine, f"REINDEX INDEX CONCURRENTLY {INDEX}")) as running:
        execute(engine, "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index")
        with pytest.raises(sa.exc.OperationalError):
            running.result(60)
    assert invalid(engine) == [f"{INDEX}_ccnew"]


def run_alone(engine: sa.Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)


def test_an_index_is_rebuilt_while_searches_and_a_worker_use_the_old_one(synced: sa.Engine) -> None:
    before, seen = file_of(synced), list[BuildProgress]()
    generation = generation_of(synced)
    with rebuilding(synced, seen) as running:
        with Session(synced) as session:
            assert len(Searcher(encoder()).search(session, Article.semantic, "title", limit=5)) == 5
        builder = IndexBuilder(synced, Settings())
        assert builder.tend(generation, draining=True)
        builder.close()
        assert index_status(synced).vector_index == "ready"
        assert doctor.examine(synced) == []
        eventually(lambda: seen, "progress", unless=running.done)
    done = running.result(60)
    assert file_of(synced) != before
    assert (done.in_memory, done.dropped) == (True, ())
    assert done.bytes_after == done.bytes_before > 0
    assert seen[0].phase.startswith("waiting for writers")
    assert invalid(synced) == []
    with synced.connect() as connection:
        assert create_index_concurrently.state(connection, generation.stored.vector_index) == "ready"


def test_of_two_rebuilds_at_once_the_second_is_refused(synced: sa.Engine) -> None:
    generation = generation_of(synced)
    with rebuilding(synced), pytest.raises(errors.GenerationError, match="is being built"):
        reindex.reindex(synced, generation)
    by_hand = waiting_build(synced, lambda: run_alone(synced, f"REINDEX INDEX CONCURRENTLY {INDEX}"))
    with by_hand, pytest.raises(errors.GenerationError, match="is being built"):
        reindex.reindex(synced, generation)
    assert invalid(synced) == []


def test_a_rebuild_gives_way_to_a_session_that_waits_for_the_table_and_leaves_nothing(synced: sa.Engine) -> None:
    before = file_of(synced)
    with ThreadPoolExecutor(1) as threads:
        with rebuilding(synced) as running:
            locking = threads.submit(execute, synced, "LOCK TABLE article_semantic IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(errors.DatabaseError, match=r"old one is still in use: .*another session needed"):
                running.result(60)
        locking.result(60)
    assert file_of(synced) == before
    assert index_status(synced).vector_index == "ready"
    left = invalid(synced)
    assert reindex.reindex(synced, generation_of(synced)).dropped == tuple(left)
    assert invalid(synced) == []


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[None]:
    """A transaction that has read the chunk table, and does nothing: a rebuild waits for it after its swap."""
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text("SELECT FROM article_semantic LIMIT 1"))
        yield
        transaction.rollback()


def test_a_rebuild_that_gives_way_when_the_new_index_is_in_use_has_succeeded(
    synced: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "_LOCK_SECONDS", 0.1)
    before, generation = file_of(synced), generation_of(synced)
    with ThreadPoolExecutor(2) as threads, reading(synced):
        running = threads.submit(reindex.reindex, synced, generation)
        eventually(lambda: file_of(synced) != before, "the swap", unless=running.done)
        locking = threads.submit(execute, synced, "SET lock_timeout = 0; LOCK TABLE article_semantic")
        done = running.result(60)
    locking.result(60)
    assert done.bytes_after > 0
    assert built(synced).age_seconds is not None
    assert reindex.reindex(synced, generation).dropped == (f"{INDEX}_ccold",)
    assert invalid(synced) == []


def test_what_is_left_of_a_rebuild_is_not_dropped_while_that_would_keep_others_waiting(
    synced: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_something_behind(synced)
    monkeypatch.setattr(reindex, "_LOCK_SECONDS", 0.1)
    before, generation = file_of(synced), generation_of(synced)
    with ThreadPoolExecutor(1) as threads, reading(synced):
        running = threads.submit(reindex.reindex, synced, generation)
        eventually(lambda: file_of(synced) != before, "the swap", unless=running.done)
    assert running.result(60).dropped == ()


def test_what_a_killed_rebuild_left_behind_is_found_and_dropped_with_a_message(synced: sa.Engine, dsn: str) -> None:
    leave_something_behind(synced)
    assert [one.check for one in doctor.examine(synced)] == ["late_indexes"]
    plan = shell.ok("reindex", "article_semantic", "--dry-run", dsn=dsn)
    assert f"Would drop {INDEX}_ccnew" in plan
    assert invalid(synced) == [f"{INDEX}_ccnew"]
    said = shell.ok("reindex", "article_semantic", dsn=dsn)
    assert f"Dropped {INDEX}_ccnew, which an interrupted rebuild had left behind." in said
    assert "Rebuilt the vector index of public.article_semantic" in said
    assert invalid(synced) == []
    assert doctor.examine(synced) == []


def stop_a_worker(engine: sa.Engine, *, session: int | None) -> None:
    """A worker is asked to stop while it works for the same index, on an index in this session or on statistics."""
    working: Future[None] = Future()
    looks: list[None] = []

    def look() -> None:
        looks.append(None)
        if len(looks) == 3:
            working.set_result(None)

    stored = generation_of(engine).stored
    create_index_concurrently.cancel_for_others(
        engine, working, stored, is_closing=lambda: True, session=lambda: session, look=look
    )


def test_a_worker_that_stops_cancels_no_build_but_its_own(synced: sa.Engine) -> None:
    with rebuilding(synced) as running:
        stop_a_worker(synced, session=0)
    assert running.result(60).bytes_after > 0


def test_a_worker_that_stops_cancels_any_build_if_it_cannot_know_its_own(synced: sa.Engine) -> None:
    with rebuilding(synced) as running:
        stop_a_worker(synced, session=None)
        with pytest.raises(errors.DatabaseError, match="old one is still in use"):
            running.result(60)


def test_a_dry_run_changes_nothing(synced: sa.Engine, dsn: str) -> None:
    before = file_of(synced)
    found = shell.parsed("reindex", "article_semantic", "--dry-run", dsn=dsn)
    assert (found["chunks"], found["fits"], found["leftovers"]) == (300, True, [])
    assert shell.ok("reindex", "article_semantic", "--dry-run", dsn=dsn).endswith("Nothing was changed.\n")
    assert file_of(synced) == before


def test_the_command_prints_what_it_did_as_json(synced: sa.Engine, dsn: str) -> None:
    found = json.loads(shell.ok("reindex", "public.article_semantic", "--json", dsn=dsn))
    assert (found["index"], found["in_memory"], found["dropped"]) == ("public.article_semantic", True, [])
    assert found["bytes_before"] == found["bytes_after"] > 0


def test_a_rebuild_that_is_short_of_memory_asks_first(synced: sa.Engine, dsn: str) -> None:
    execute(synced, f"ALTER DATABASE {synced.url.database} SET max_parallel_maintenance_workers = 0")
    before = file_of(synced)
    done = shell.run("reindex", "article_semantic", "--memory", "64kB", dsn=dsn)
    assert (done.returncode, file_of(synced)) == (1, before)
    assert "pass --yes" in done.stderr
    assert "Set PG_SEMANTIC_MAINTENANCE_WORK_MEM=1MB" in done.stdout
    shell.ok("reindex", "article_semantic", "--memory", "1MB", dsn=dsn)
    assert file_of(synced) != before


def test_an_index_that_is_missing_or_broken_is_left_to_a_worker(articles: sa.Engine, dsn: str) -> None:
    said = shell.error("reindex", "article_semantic", dsn=dsn)
    assert "has no vector index yet. A worker builds it: run `pg-semantic worker --once`" in said
    execute(articles, _FILL)
    sync(articles)
    execute(articles, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST(:name AS regclass)", name=INDEX)
    assert "whose build was interrupted" in shell.error("reindex", "article_semantic", "--dry-run", dsn=dsn)


def test_a_role_that_does_not_own_the_table_is_told_so(synced: sa.Engine) -> None:
    role = "rebuilder_" + str(synced.url.database)[-8:]
    execute(synced, f"CREATE ROLE {role} LOGIN; GRANT pg_monitor TO {role}")
    other = database.connect(synced.url.set(username=role).render_as_string(hide_password=False))
    try:
        with pytest.raises(errors.DatabaseError, match="must own the table"):
            reindex.reindex(other, generation_of(synced))
        assert invalid(synced) == []
    finally:
        other.dispose()
        execute(synced, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_connection_through_a_transaction_pooler_is_refused(synced: sa.Engine, dsn: str) -> None:
    before = file_of(synced)
    with pooler.running(dsn) as pooled_dsn:
        pooled = database.connect(pooled_dsn)
        with pytest.raises(errors.DatabaseError, match="goes through a transaction pooler"):
            reindex.reindex(pooled, generation_of(synced))
        pooled.dispose()
    assert file_of(synced) == before


def test_timeouts_of_the_role_do_not_end_a_rebuild(synced: sa.Engine) -> None:
    for name in ("statement_timeout", "lock_timeout"):
        execute(synced, f"ALTER DATABASE {synced.url.database} SET {name} = '50ms'")
    synced.dispose()
    with rebuilding(synced) as running:
        with pytest.raises(sa.exc.OperationalError):
            execute(synced, "SELECT pg_sleep(1)")
        assert not running.done()
    assert running.result(60).seconds > 0.05


def test_status_knows_the_age_the_size_and_the_drift_of_an_index(synced: sa.Engine, dsn: str) -> None:
    fresh = built(synced)
    assert fresh.age_seconds is not None
    assert 0 <= fresh.age_seconds < 60
    assert fresh.bloat == pytest.approx(1, abs=0.05)
    drift(synced, 0)
    execute(synced, "UPDATE article SET title = 'edited ' || id WHERE id <= 30")
    execute(synced, "DELETE FROM article WHERE id > 270")
    sync(synced)
    drift(synced, 60 / 300)
    [index] = shell.parsed("status", dsn=dsn)["indexes"]
    assert index["built"]["drift"] == pytest.approx(0.2)
    assert index["built"]["bytes"] > 0
    assert "of its chunks changed since" not in shell.ok("status", dsn=dsn), "the index is small, and 20% is not much"
    execute(synced, "UPDATE article SET title = 'again ' || id WHERE id <= 120")
    sync(synced)
    drift(synced, 180 / 300)
    assert "60% of its chunks changed since" in " ".join(shell.ok("status", dsn=dsn).split())
    reindex.reindex(synced, generation_of(synced))
    drift(synced, 0)


def test_the_drift_is_unknown_after_the_statistics_were_reset(synced: sa.Engine) -> None:
    drift(synced, 0)
    execute(synced, "SELECT pg_stat_reset()")
    eventually(lambda: built(synced).drift is None, "an unknown drift")
    assert built(synced).age_seconds is not None


def test_the_age_is_unknown_if_someone_else_built_the_index(synced: sa.Engine, dsn: str) -> None:
    run_alone(synced, f"REINDEX INDEX {INDEX}")
    found = built(synced)
    assert (found.built_at, found.age_seconds, found.drift) == (None, None, None)
    assert found.bytes
    assert shell.parsed("status", dsn=dsn)["indexes"][0]["built"]["age_seconds"] is None
    execute(synced, f"DROP INDEX {INDEX}")
    assert index_status(synced).built is None


def test_a_stranger_learns_no_number_of_chunks(synced: sa.Engine) -> None:
    role = "stranger_" + str(synced.url.database)[-8:]
    execute(synced, f"CREATE ROLE {role}")
    try:
        with synced.connect() as connection:
            connection.execute(sa.text(f"SET ROLE {role}"))
            assert build_records.read(connection) == {}
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                connection.execute(sa.text("SELECT * FROM semantic.vector_index_build"))
    finally:
        execute(synced, f"DROP ROLE {role}")


def test_status_reads_no_chunk_of_a_large_table_and_waits_for_no_lock(synced: sa.Engine) -> None:
    execute(synced, "UPDATE pg_class SET relpages = 1000000, reltuples = 1e6 WHERE relname = 'article'")
    [(size,)] = rows(synced, "SELECT pg_relation_size(:name)", name=INDEX)
    with synced.connect() as blocking, synced.connect() as connection:
        connection.execute(sa.text("SET lock_timeout = '100ms'"))
        before = read_of(connection, "article_semantic")
        blocking.execute(sa.text("LOCK TABLE article_semantic IN ACCESS EXCLUSIVE MODE"))
        [index] = statuses.read(connection).indexes
        assert index.built is not None
        assert index.built.bytes == size
        assert read_of(connection, "article_semantic") == before


def test_a_record_of_a_build_goes_with_its_copy(synced: sa.Engine) -> None:
    counted = "SELECT count(*) FROM semantic.vector_index_build"
    assert rows(synced, counted) == [(1,)]
    execute(synced, "DROP TABLE article CASCADE")
    execute(synced, "SELECT semantic.unregister_index_v1(chunks) FROM semantic.generation")
    assert rows(synced, counted) == [(0,)]
