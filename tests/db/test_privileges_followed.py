"""Privileges that the source gives and takes later are followed: by a worker, by a command, after a restore."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from pg_semantic import database
from pg_semantic.alembic_plugin import operations
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.settings import Settings
from pg_semantic.worker import privileges
from pg_semantic.worker.intervals import Intervals
from pg_semantic.worker.worker import Worker
from tests.conftest import copy_of
from tests.db import test_cli as shell
from tests.db.library import Article, Base, execute, rows, sync
from tests.db.test_dump import dump_and_restore
from tests.waiting import eventually

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too

CHUNKS, RECEIPTS = "article_semantic", "article_semantic_receipt"


@pytest.fixture
def reader(articles: sa.Engine) -> Iterator[str]:
    """A role of the test's own, with five rows to read."""
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 5) AS i")
    role = "reader_" + str(articles.url.database)[-8:]
    execute(articles, f"CREATE ROLE {role}")
    yield role
    execute(articles, f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def may(engine: sa.Engine, role: str, table: str, privilege: str = "SELECT") -> bool:
    statement = "SELECT has_table_privilege(:role, CAST(:table AS regclass), :privilege)"
    return bool(rows(engine, statement, role=role, table=table, privilege=privilege)[0][0])


def due(engine: sa.Engine) -> list[str]:
    return [statement for one in privileges.due(engine) for statement in one.statements]


def test_a_worker_follows_as_it_starts(articles: sa.Engine, reader: str) -> None:
    execute(articles, f"GRANT SELECT ON article TO {reader}; GRANT UPDATE ON {CHUNKS} TO {reader}")
    sync(articles)
    assert may(articles, reader, CHUNKS)
    assert not may(articles, reader, CHUNKS, "UPDATE")


def follows(engine: sa.Engine, reader: str, expected: bool) -> Callable[[], bool]:
    return lambda: may(engine, reader, CHUNKS) is expected


def test_a_worker_follows_while_it_runs(articles: sa.Engine, reader: str) -> None:
    stop, at_work = threading.Event(), threading.Event()
    running = Worker(
        articles,
        Settings(lease_seconds=1),
        on_progress=lambda _: at_work.set(),
        intervals=Intervals(privileges=0.1),
    )
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(running.run, stop)
        try:
            assert at_work.wait(60)
            for grant, expected in (
                (f"GRANT SELECT ON article TO {reader}", True),
                (f"REVOKE ALL ON article FROM {reader}", False),
            ):
                execute(articles, grant)
                eventually(follows(articles, reader, expected), "the worker to follow", unless=done.done)
        finally:
            stop.set()


def test_a_worker_leaves_the_privileges_to_another_that_is_at_them_and_says_nothing(
    articles: sa.Engine, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(articles, f"GRANT SELECT ON article TO {reader}")
    at_them = "SELECT pg_advisory_lock(723628196, id) FROM semantic.semantic_index"
    with articles.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.execute(sa.text(at_them))
        with caplog.at_level(logging.WARNING, "pg_semantic"):
            assert sync(articles).rows == 5
        other.execute(sa.text("SELECT pg_advisory_unlock_all()"))
    assert "privileges could not be updated" not in caplog.text
    assert not may(articles, reader, CHUNKS)


SLOW_PRIVILEGES = """
CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF current_query() ~ 'apply_privileges' THEN
        PERFORM set_config('lock_timeout', '0', true), pg_advisory_xact_lock(1);
    END IF;
END
$body$;
CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('GRANT') EXECUTE FUNCTION slow()
"""
BEATS = "SELECT heartbeat_at FROM semantic.worker"
WAITING = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def test_a_worker_beats_while_privileges_take_long(articles: sa.Engine, reader: str) -> None:
    execute(articles, SLOW_PRIVILEGES)
    stop, at_work = threading.Event(), threading.Event()
    running = Worker(
        articles,
        Settings(lease_seconds=1),
        on_progress=lambda _: at_work.set(),
        intervals=Intervals(privileges=0.1),
    )
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(running.run, stop)
        try:
            assert at_work.wait(60)
            with articles.connect().execution_options(isolation_level="AUTOCOMMIT") as holding:
                holding.execute(sa.text("SELECT pg_advisory_lock(1)"))
                execute(articles, f"GRANT SELECT ON article TO {reader}")
                eventually(lambda: rows(articles, WAITING), "the worker to wait for the lock", unless=done.done)
                before = rows(articles, BEATS)
                eventually(lambda: rows(articles, BEATS) != before, "a heartbeat", unless=done.done)
                assert rows(articles, WAITING)
                holding.execute(sa.text("SELECT pg_advisory_unlock_all()"))
            eventually(lambda: may(articles, reader, CHUNKS), "the worker to follow", unless=done.done)
        finally:
            stop.set()
    assert not done.exception()


def test_a_table_in_use_is_closed_at_once_and_opened_to_the_right_rows_later(articles: sa.Engine, reader: str) -> None:
    execute(articles, f"GRANT SELECT ON article TO {reader}")
    sync(articles)
    execute(articles, "ALTER TABLE article ENABLE ROW LEVEL SECURITY; CREATE POLICY odd ON article USING (id % 2 = 1)")
    with articles.connect() as busy:
        busy.execute(sa.text(f"SELECT count(*) FROM {CHUNKS}"))
        [found] = privileges.follow(articles)
        assert "in use" in str(found.problem)
        assert not may(articles, reader, CHUNKS)
        assert not may(articles, reader, RECEIPTS)
    [found] = privileges.follow(articles)
    assert found.problem is None
    assert may(articles, reader, CHUNKS)
    with articles.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL ROLE {reader}"))
        assert set(connection.scalars(sa.text(f"SELECT id FROM {CHUNKS}"))) == {1, 3, 5}


def test_a_worker_opens_what_it_closed_soon_after_the_table_is_free(articles: sa.Engine, reader: str) -> None:
    execute(articles, f"GRANT SELECT ON article TO {reader}")
    sync(articles)
    execute(articles, "ALTER TABLE article ENABLE ROW LEVEL SECURITY; CREATE POLICY odd ON article USING (id % 2 = 1)")
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        try:
            with articles.connect() as busy:
                busy.execute(sa.text(f"SELECT count(*) FROM {CHUNKS}"))
                done = threads.submit(Worker(articles, Settings()).run, stop)
                eventually(lambda: not may(articles, reader, CHUNKS), "the table to be closed", unless=done.done)
            # Much less than the minute between two looks at all privileges.
            eventually(lambda: may(articles, reader, CHUNKS), "the table to be opened", unless=done.done, seconds=15)
        finally:
            stop.set()


@pytest.mark.parametrize("policy", ["odd", "carried"])
def test_new_names_of_table_schema_and_roles_leave_an_index_in_use_open(engine: sa.Engine, policy: str) -> None:
    role = "reader_" + str(engine.url.database)[-8:]
    by = "id" if policy == "carried" else None
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, body text NOT NULL); CREATE SCHEMA other")
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, "note", columns=("body",), encoder=EncoderSpec("hashed:32", 32), policy_column=by
        )
    create_index.create(engine, spec)
    execute(engine, f"CREATE ROLE {role}; GRANT SELECT ON note TO {role}; ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    execute(engine, f"CREATE POLICY odd ON note TO {role} USING (id % 2 = 1)")
    assert [one.problem for one in privileges.follow(engine)] == [None]
    for change in (
        "ALTER TABLE note RENAME TO page",
        f"ALTER ROLE {role} RENAME TO z{role}",
        "ALTER TABLE page SET SCHEMA other",
    ):
        execute(engine, change)
        assert due(engine) == [], change
    [(kind,)] = rows(engine, "SELECT semantic.row_visibility_v1(id) FROM semantic.generation")
    assert kind == ("local" if policy == "carried" else "source")
    execute(engine, f"CREATE ROLE {role}; ALTER POLICY odd ON other.page TO {role}")
    assert any("SELECT semantic.copy_policies_from_source_v1" in one for one in due(engine)) == (policy == "carried")
    execute(engine, f"DROP OWNED BY {role}, z{role} CASCADE; DROP ROLE {role}, z{role}")


def test_problem_with_one_index_leaves_others_alone(articles: sa.Engine, reader: str, dsn: str) -> None:
    execute(articles, "CREATE TABLE note (id integer PRIMARY KEY, body text)")
    shell.ok("index", "create", "note", "--columns", "body", "--encoder", "hashed:32", dsn=dsn)
    execute(articles, f"GRANT SELECT ON article, note TO {reader}; ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    with articles.connect() as busy:
        busy.execute(sa.text(f"SELECT count(*) FROM {CHUNKS}"))
        assert [one.problem is None for one in privileges.follow(articles)] == [False, True]
    assert may(articles, reader, "note_semantic")


def test_the_command_says_what_it_would_run_and_runs_it(articles: sa.Engine, reader: str, dsn: str) -> None:
    assert "same roles as public.article: only its owner. No row" in shell.ok("privileges", "--dry-run", dsn=dsn)
    execute(articles, f"GRANT SELECT ON article TO {reader}; GRANT SELECT ON semantic.job TO {reader}")
    done = shell.run("privileges", "--dry-run", dsn=dsn)
    assert done.returncode == 1
    assert f"GRANT SELECT ON TABLE public.article_semantic TO {reader};" in done.stdout
    assert "can be read by" not in done.stdout  # the sentence is true of privileges that are up to date
    assert not may(articles, reader, CHUNKS)
    assert f"the same roles as public.article: {reader}. No row is hidden." in shell.ok("privileges", dsn=dsn)
    assert may(articles, reader, CHUNKS)
    assert not may(articles, reader, "semantic.job")
    assert due(articles) == []
    assert [one["statements"] for one in shell.parsed("privileges", dsn=dsn)] == [[], []]


def test_a_role_that_may_not_grant_is_told_so(articles: sa.Engine, reader: str, dsn: str) -> None:
    execute(articles, f"GRANT SELECT ON article TO {reader}; ALTER ROLE {reader} LOGIN")
    limited = sa.make_url(dsn).set(username=reader).render_as_string(hide_password=False)
    done = shell.run("privileges", dsn=limited)
    assert done.returncode == 1
    assert "lacks privileges" in done.stdout


def test_the_owner_of_a_table_follows_although_a_superuser_created_the_index(engine: sa.Engine, dsn: str) -> None:
    owner, reader = (f"{kind}_{str(engine.url.database)[-8:]}" for kind in ("owner", "reader"))
    execute(engine, f"CREATE ROLE {owner} LOGIN; CREATE ROLE {reader}")
    Article.semantic.tables.source.create(engine)
    execute(engine, f"ALTER TABLE article OWNER TO {owner}")
    Base.metadata.create_all(engine)
    limited = sa.create_engine(engine.url.set(username=owner))
    execute(limited, f"GRANT SELECT ON article TO {reader}")
    assert [one.problem for one in privileges.follow(limited)] == [None]
    assert may(engine, reader, CHUNKS)
    execute(limited, f"REVOKE SELECT ON article FROM {reader}; ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    assert [one.problem for one in privileges.follow(limited)] == [None]
    for table in (CHUNKS, RECEIPTS, "semantic.chunks_1", "semantic.receipts_1"):
        assert not may(engine, reader, table)
    limited.dispose()
    execute(engine, f"DROP OWNED BY {owner}, {reader} CASCADE; DROP ROLE {owner}, {reader}")


@pytest.mark.parametrize(
    ("membership", "gets"), [(None, None), ("", "owner"), (" WITH INHERIT TRUE, SET FALSE", "creator")]
)
def test_a_creator_gives_an_index_to_the_owner_of_the_table_or_keeps_it_or_is_told_what_to_run(
    engine: sa.Engine, dsn: str, membership: str | None, gets: str | None
) -> None:
    owner, creator, reader = (f"{kind}_{str(engine.url.database)[-8:]}" for kind in ("owner", "creator", "reader"))
    execute(engine, f"CREATE ROLE {owner} LOGIN; CREATE ROLE {creator} LOGIN; CREATE ROLE {reader}")
    execute(engine, f"CREATE TABLE note (id integer PRIMARY KEY, body text); ALTER TABLE note OWNER TO {owner}")
    for schema in ("public", "semantic"):
        execute(engine, f"GRANT ALL ON SCHEMA {schema} TO {owner}, {creator}")
        for kind in ("TABLES", "SEQUENCES", "ROUTINES"):
            execute(engine, f"GRANT ALL ON ALL {kind} IN SCHEMA {schema} TO {creator}")
    execute(engine, f"GRANT SELECT ON note TO {reader}")
    if membership is not None:
        execute(engine, f"GRANT {owner} TO {creator}{membership}")
    limited = sa.make_url(dsn).set(username=creator).render_as_string(hide_password=False)
    done = shell.run("index", "create", "note", "--columns", "body", "--encoder", "hashed:32", dsn=limited)
    assert (done.returncode == 0) == (gets is not None), done.stderr
    if gets is None:
        assert f"GRANT {owner} TO {creator}" in done.stderr
    else:
        [(kept,)] = rows(engine, "SELECT CAST(relowner::regrole AS text) FROM pg_class WHERE relname = 'note_semantic'")
        assert kept.startswith(gets)
        assert may(engine, owner, "note_semantic", "DELETE")
        assert may(engine, reader, "note_semantic")
        as_owner = sa.create_engine(engine.url.set(username=owner))
        assert [one.problem for one in privileges.follow(as_owner)] == [None]
        as_owner.dispose()
    execute(engine, f"DROP OWNED BY {owner}, {creator}, {reader} CASCADE; DROP ROLE {owner}, {creator}, {reader}")


def test_a_restore_into_a_database_that_opens_everything_is_found_and_closed(
    articles: sa.Engine, reader: str, server: sa.URL, tmp_path: Path
) -> None:
    execute(articles, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    execute(articles, f"GRANT SELECT ON article TO {reader}; CREATE POLICY odd ON article USING (id % 2 = 1)")
    sync(articles)
    with copy_of(server, "template0") as made:
        there = database.connect(made)
        for kind in ("TABLES", "SEQUENCES", "ROUTINES", "SCHEMAS"):
            execute(there, f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {reader}")
        dump_and_restore(articles, there, tmp_path / "dump")
        with there.begin() as connection:  # policies are in a dump
            connection.execute(sa.text(f"SET LOCAL ROLE {reader}"))
            assert set(connection.scalars(sa.text(f"SELECT id FROM {CHUNKS}"))) == {1, 3, 5}
        assert may(there, reader, CHUNKS, "DELETE")
        assert not any("SELECT semantic.copy_policies_from_source_v1" in one for one in due(there))
        privileges.follow(there)
        privileges.close_schema(there)
        assert due(there) == []
        assert may(there, reader, CHUNKS)
        assert not may(there, reader, CHUNKS, "DELETE")
        execute(there, f"DROP OWNED BY {reader} CASCADE")
        there.dispose()


def test_who_can_read_an_index_is_said_when_it_is_created(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pg_semantic.privileges")
    said = "Semantic index article_semantic can be read by the same roles as public.article: only its owner"
    Base.metadata.create_all(engine)
    assert said in caplog.text
    Base.metadata.drop_all(engine)
    caplog.clear()
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateTable(Article.semantic.tables.source))
        migrating = Operations(MigrationContext.configure(connection))
        operations.run(migrating, operations.CreateSemanticIndexOp(Article.semantic.spec))
    assert said in caplog.text
