"""Our own schema through its revisions: up, down, at once and step by step, with semantic indexes in place."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database, errors
from pg_semantic.database import migrate, revisions, schema_check
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests.db.library import Article, Base, encoder, execute, rows, sync
from tests.db.test_cli import error, ok, parsed, run

NEWEST = revisions.known()[-1]


@pytest.fixture
def bare(bare_dsn: str) -> Iterator[sa.Engine]:
    """An engine of an empty database."""
    engine = database.connect(bare_dsn)
    yield engine
    engine.dispose()


_NEXT = """
from alembic import op

revision, down_revision = "{next}", "{newest}"


def upgrade() -> None:
    op.execute("CREATE FUNCTION semantic.next_v1() RETURNS integer LANGUAGE sql RETURN 1")


def downgrade() -> None:
    op.execute("DROP FUNCTION semantic.next_v1")
"""


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The next revision, in a version of the package that has one more than this; its number."""
    number = f"{int(NEWEST) + 1:04}"
    folder = shutil.copytree(revisions.folder(), tmp_path / "migrations")
    (folder / "versions" / f"{number}_next.py").write_text(_NEXT.format(next=number, newest=NEWEST))
    monkeypatch.setattr(revisions, "folder", lambda: folder)
    revisions.known.cache_clear()
    yield number
    monkeypatch.undo()
    revisions.known.cache_clear()


def snapshot(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return schema_check.snapshot(connection)


def catalog(engine: sa.Engine) -> set[str]:
    """All that is not the server's own or an extension's."""
    return {
        str(name)
        for (name,) in rows(
            engine,
            "SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_' "
            "UNION ALL SELECT 'relation ' || relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname !~ '^(pg_|information_schema)' "
            "UNION ALL SELECT 'function ' || proname FROM pg_proc AS p JOIN pg_namespace n ON n.oid = pronamespace "
            "WHERE nspname !~ '^(pg_|information_schema)' "
            "AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')",
        )
    }


def test_step_by_step_makes_what_is_made_at_once(bare: sa.Engine, engine: sa.Engine) -> None:
    for revision in revisions.known():
        assert migrate.upgrade(bare, to=revision) == revision
    assert snapshot(bare) == snapshot(engine)
    assert len(snapshot(bare)) > 50


_SHADOWS = (
    "CREATE FUNCTION public.concat(text, text) RETURNS text LANGUAGE sql AS $$SELECT 'not ours'$$",
    "CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS $$SELECT 'not ours'$$",
    "CREATE FUNCTION public.joined(text, text) RETURNS text LANGUAGE sql AS $$SELECT 'not ours'$$",
    "CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = public.joined)",
)
_THEIRS = """
SELECT pg_describe_object(classid, objid, 0)
FROM pg_depend
LEFT JOIN pg_proc ON refclassid = 'pg_proc'::regclass AND pg_proc.oid = refobjid AND proname IN ('concat', 'unnest')
LEFT JOIN pg_operator ON refclassid = 'pg_operator'::regclass AND pg_operator.oid = refobjid AND oprname = '||'
WHERE 'public'::regnamespace IN (pronamespace, oprnamespace)
"""


@pytest.mark.parametrize("path", ['"$user", public', "public, pg_catalog"])
def test_our_functions_are_bound_to_no_function_that_another_role_put_on_the_search_path(
    bare_dsn: str, path: str
) -> None:
    setup = database.connect(bare_dsn)
    for statement in ("CREATE EXTENSION vector", *_SHADOWS):
        execute(setup, statement)
    execute(setup, f'ALTER DATABASE "{setup.url.database}" SET search_path = {path}')
    setup.dispose()
    bare = database.connect(bare_dsn)
    migrate.upgrade(bare)
    assert rows(bare, "SHOW search_path") == [(path,)]
    assert rows(bare, _THEIRS) == []
    assert schema_check.check(bare).ok
    bare.dispose()


def test_taking_back_all_leaves_nothing_of_ours(bare: sa.Engine) -> None:
    execute(bare, "CREATE EXTENSION vector")
    before = catalog(bare)
    migrate.upgrade(bare)
    assert "relation history" in catalog(bare)
    assert migrate.downgrade(bare, to=migrate.BASE) is None
    assert catalog(bare) == before
    assert migrate.current(bare) is None
    assert migrate.upgrade(bare) == NEWEST


def test_a_schema_with_something_of_somebody_elses_is_not_removed(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE semantic.notes_of_the_operator (note text)")
    with pytest.raises(errors.DatabaseError, match="other objects depend on it"):
        migrate.downgrade(engine, to=migrate.BASE)
    assert migrate.current(engine) == NEWEST


def test_a_worker_and_the_commands_refuse_another_revision_and_name_the_way_out(engine: sa.Engine, dsn: str) -> None:
    execute(engine, "UPDATE semantic.history SET version_num = '9999'")
    way_out = "install the version that upgraded it"
    with pytest.raises(errors.NotInstalled, match=way_out):
        sync(engine)
    assert rows(engine, "SELECT count(*) FROM semantic.worker") == [(0,)]
    with pytest.raises(errors.NotInstalled, match=way_out):
        Base.metadata.create_all(engine)
    for command in ("worker --once", "status", "verify", "index list", "search article_semantic apple"):
        assert way_out in error(*command.split(), dsn=dsn, code=3)


def test_a_database_of_an_earlier_revision_is_refused_until_it_is_upgraded(
    articles: sa.Engine, dsn: str, next_version: str
) -> None:
    way_out = (
        f"at revision {NEWEST}, but this version of pg_semantic needs {next_version}: run `pg-semantic db upgrade`"
    )
    with pytest.raises(errors.NotInstalled, match=way_out):
        sync(articles)
    for command in ("status", "verify", "index list", "search article_semantic apple"):
        assert way_out in error(*command.split(), dsn=dsn, code=3)
    assert (found := schema_check.check(articles)).state == "older"
    assert found.differences == ()
    assert way_out in run("db", "check", dsn=dsn).stdout
    assert next_version in ok("db", "upgrade", dsn=dsn)
    assert schema_check.check(articles).state == "current"
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    assert sync(articles).rows == 1


def test_an_upgrade_is_taken_back_to_the_last_object_and_leaves_the_indexes(
    articles: sa.Engine, next_version: str
) -> None:
    before = snapshot(articles)
    assert migrate.upgrade(articles) == next_version
    assert snapshot(articles).keys() - before.keys() == {"function next_v1()"}
    assert migrate.downgrade(articles, to=NEWEST) == NEWEST
    assert snapshot(articles) == before


def test_an_upgrade_is_not_taken_back_from_under_triggers_that_need_it(articles: sa.Engine, next_version: str) -> None:
    migrate.upgrade(articles)
    [(body,)] = rows(articles, "SELECT pg_get_functiondef('article_semantic_capture'::regproc)")
    execute(articles, body.replace("BEGIN", "BEGIN PERFORM semantic.next_v1();", 1))
    with pytest.raises(errors.DatabaseError, match=r"\(article_semantic\) call functions that revision 0001 does not"):
        migrate.downgrade(articles, to=NEWEST)
    assert migrate.current(articles) == next_version


def test_a_worker_that_is_at_work_stops_when_the_schema_is_upgraded_under_it(articles: sa.Engine) -> None:
    at_work, stop = threading.Event(), threading.Event()
    worker = Worker(articles, Settings(lease_seconds=1), on_progress=lambda _: at_work.set())
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(worker.run, stop)
        assert at_work.wait(60)
        execute(articles, "UPDATE semantic.history SET version_num = '9999'")
        try:
            with pytest.raises(errors.NotInstalled, match="install the version that upgraded it"):
                running.result(timeout=60)
        finally:
            stop.set()


def test_a_newer_revision_is_neither_upgraded_nor_taken_back(engine: sa.Engine) -> None:
    execute(engine, "UPDATE semantic.history SET version_num = '9999'")
    for change in (migrate.upgrade, lambda one: migrate.downgrade(one, to=revisions.known()[0])):
        with pytest.raises(errors.NotInstalled, match="install the version that upgraded it"):
            change(engine)


def test_a_role_without_any_privileges_may_know_the_revision(engine: sa.Engine) -> None:
    role = "nobody_" + str(engine.url.database)[-8:]
    execute(engine, f"CREATE ROLE {role}")
    limited = sa.create_engine(engine.url, connect_args={"options": f"-c role={role}"})
    try:
        with limited.connect() as connection:
            database.require_installed(connection)
        assert migrate.current(limited) == NEWEST
        with pytest.raises(errors.DatabaseError, match="must be owner of schema semantic"):
            schema_check.check(limited)
    finally:
        limited.dispose()
        execute(engine, f"DROP ROLE {role}")


def test_a_search_that_needs_a_function_of_a_newer_revision_says_what_to_run(articles: sa.Engine) -> None:
    execute(articles, "DROP FUNCTION semantic.bm25_query_weights_v1")
    with Session(articles) as session, pytest.raises(errors.NotInstalled, match=r"is older.*pg-semantic db upgrade"):
        Searcher(encoder()).search(session, Article.semantic, "pear", limit=1, mode="lexical")


def test_the_schema_is_not_removed_from_under_a_semantic_index(articles: sa.Engine) -> None:
    before = snapshot(articles)
    with pytest.raises(errors.DatabaseError, match=r"public\.article_semantic.*drop them first.*Nothing was changed"):
        migrate.downgrade(articles, to=migrate.BASE)
    assert snapshot(articles) == before
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    assert sync(articles).rows == 1


@pytest.mark.parametrize(
    ("to", "message"),
    [("0042", "Unknown revision '0042': use one of base, 0001"), (NEWEST, "is not earlier")],
)
def test_only_an_earlier_revision_can_be_gone_back_to(engine: sa.Engine, to: str, message: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=message):
        migrate.downgrade(engine, to=to)


def test_a_database_without_our_schema_has_nothing_to_take_back(bare: sa.Engine) -> None:
    with pytest.raises(errors.ConfigurationError, match="nothing to downgrade"):
        migrate.downgrade(bare, to=migrate.BASE)


@pytest.mark.parametrize(
    ("statement", "difference"),
    [
        ("DROP FUNCTION semantic.lexeme_position_v1 CASCADE", ("missing", "function lexeme_position_v1(lexeme text)")),
        ("CREATE INDEX job_mine_idx ON semantic.job (error)", ("additional", "index semantic.job_mine_idx")),
        ("ALTER TABLE semantic.job ALTER COLUMN error SET NOT NULL", ("altered", "column job.error")),
        ("REVOKE USAGE ON SCHEMA semantic FROM PUBLIC", ("missing", "privileges of PUBLIC on the schema")),
        ("REVOKE SELECT ON semantic.encoder FROM PUBLIC", ("missing", "privileges of PUBLIC on encoder")),
    ],
)
def test_what_was_altered_by_hand_is_found_and_left_as_it_is(
    engine: sa.Engine, statement: str, difference: tuple[str, str]
) -> None:
    execute(engine, statement)
    before = snapshot(engine)
    found = schema_check.check(engine)
    assert not found.ok
    assert difference in {(one.kind, one.object) for one in found.differences}
    assert snapshot(engine) == before


def test_checking_disturbs_neither_rows_nor_those_who_use_them(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    with contextlib.closing(articles.connect()) as busy:
        busy.execute(sa.text("INSERT INTO article VALUES (2, 'two', NULL, 'en')"))
        assert schema_check.check(articles).ok
        busy.commit()
    assert sync(articles).rows == 2


def test_the_schema_is_checked_from_the_shell(bare_dsn: str, bare: sa.Engine) -> None:
    def checked() -> tuple[int, str]:
        done = run("db", "check", dsn=bare_dsn)
        return done.returncode, " ".join(done.stdout.split())

    assert checked() == (1, "The schema `semantic` is not in this database: run `pg-semantic db upgrade`.")
    migrate.upgrade(bare)
    assert "up to date and unaltered" in checked()[1]
    assert parsed("db", "check", dsn=bare_dsn)["ok"] is True
    execute(bare, "ALTER TABLE semantic.job ADD COLUMN mine text")
    code, said = checked()
    assert (code, "additional: column job.mine" in said) == (1, True)
    execute(bare, "UPDATE semantic.history SET version_num = '9999'")
    code, said = checked()
    assert (code, "install the version that upgraded it" in said) == (1, True)


def test_going_back_asks_first(dsn: str, engine: sa.Engine) -> None:
    assert run("db", "downgrade", "base", dsn=dsn).returncode == 1
    assert migrate.current(engine) == NEWEST
    assert "is removed" in ok("db", "downgrade", "base", "--yes", dsn=dsn)
    assert migrate.current(engine) is None
