"""Settings of the database and of roles reach every connection; none of them changes what a semantic index does."""

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database
from pg_semantic.database import migrate, transaction
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, repair, status, verify
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, ENCODER, Article, Base, encoder, execute, generation_of, jobs, rows, sync, truth
from tests.waiting import eventually

ROWS = 300
# What an application chose for its own sessions, and could not search with.
ITS_OWN = ("statement_timeout", "transaction_timeout", "idle", "client_encoding")
SETTINGS = [
    "statement_timeout = '100ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '100ms'",
    "idle_session_timeout = '50ms'",
    "transaction_timeout = '100ms'",
    "default_transaction_read_only = on",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_isolation = 'repeatable read'",
    "default_transaction_deferrable = on",
    "search_path = ''",
    "search_path = public, hostile, pg_catalog",
    "row_security = off",
    "datestyle = 'German'",
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "timezone = 'Pacific/Chatham'",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
    "standard_conforming_strings = off",
    "client_encoding = 'LATIN1'",
    "default_text_search_config = 'german'",
    "quote_all_identifiers = on",
    "enable_indexscan = off",
    "jit_above_cost = 0",
]
_HOSTILE = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.concat_ws(text, text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'hostile' $$;
CREATE FUNCTION hostile.sha256(text) RETURNS bytea LANGUAGE sql AS $$ SELECT CAST('hostile' AS bytea) $$;
CREATE FUNCTION hostile.jsonb_build_array(text, text) RETURNS jsonb LANGUAGE sql AS $$ SELECT '["hostile"]'::jsonb $$
"""


@pytest.fixture(params=SETTINGS)
def tuned(articles: sa.Engine, dsn: str, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """A database with such a setting, and rows that wait; the engine is one that its users have."""
    setting = request.param
    if setting.startswith("transaction_timeout") and rows(articles, "SHOW server_version_num")[0][0] < "170000":
        pytest.skip("this server has no transaction_timeout")
    execute(articles, _HOSTILE)
    execute(
        articles,
        f"INSERT INTO article SELECT i, md5(i::text), 'naïve 日本 \\\\' || i, 'en' FROM generate_series(1, {ROWS}) i",
    )
    execute(articles, f"ALTER DATABASE {articles.url.database} SET {setting}")
    articles.dispose()
    made = database.connect(dsn)
    yield made
    made.dispose()
    articles.dispose()
    plain = sa.create_engine(articles.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with plain.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {articles.url.database} RESET ALL"))
    plain.dispose()


def reset(engine: sa.Engine) -> None:
    """Takes the setting back, so that the test itself can look at what was made."""
    plain = sa.create_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with plain.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {engine.url.database} RESET ALL"))
    plain.dispose()


def test_rows_are_synced_built_verified_repaired_and_found(tuned: sa.Engine, articles: sa.Engine) -> None:
    assert sync(tuned).rows_failed == 0
    generation = generation_of(tuned)
    report = verify.verify(tuned, generation)
    assert (report.clean, report.rows) == (True, ROWS)
    with transaction.begin(tuned, statement_timeout="30min") as connection:  # as `pg-semantic status` does
        [index] = status.read(connection).indexes
    assert (index.vector_index, index.lexical_index, index.problems) == ("ready", "ready", [])
    reset(tuned)
    articles.dispose()
    assert truth(articles) == CLEAN
    assert jobs(articles) == set()
    execute(articles, "UPDATE article_semantic SET content = 'damaged' WHERE id = 5")
    execute(articles, "UPDATE article SET body = 'behind our back' WHERE id = 6")
    execute(articles, "DELETE FROM semantic.mark")
    report = repair.repair(tuned, generation)
    assert (report.damaged, report.stale) == (1, 1)
    sync(tuned)
    assert verify.verify(tuned, generation).clean
    assert truth(articles) == CLEAN


def test_an_application_with_the_setting_searches_as_without(
    tuned: sa.Engine, articles: sa.Engine, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["tuned"].startswith(ITS_OWN):
        pytest.skip("an application's own limit")
    sync(tuned)
    application = sa.create_engine(tuned.url)
    words = "naïve \\ 日本"
    with Session(application) as session:
        if "search_path = ''" in rows_of_setting(session):
            session.execute(sa.text("SET search_path = public"))
        found = [
            [hit.entity.id for hit in Searcher(encoder()).search(session, Article.semantic, words, limit=10, mode=mode)]
            for mode in ("dense", "lexical", "hybrid")
        ]
        by_sql = session.scalars(
            sa.text("SELECT id FROM public.article_semantic_search(:words, 10, 'lexical')"), {"words": words}
        ).all()
    application.dispose()
    reset(tuned)
    articles.dispose()
    with Session(articles) as session:
        expected = [
            [hit.entity.id for hit in Searcher(encoder()).search(session, Article.semantic, words, limit=10, mode=mode)]
            for mode in ("dense", "lexical", "hybrid")
        ]
        lexical = session.scalars(
            sa.text("SELECT id FROM public.article_semantic_search(:words, 10, 'lexical')"), {"words": words}
        ).all()
    assert found == expected
    assert by_sql == lexical
    assert all(len(hits) == 10 for hits in found)


def rows_of_setting(session: Session) -> str:
    """The search path as the setting is written."""
    return f"search_path = '{session.scalar(sa.text('SHOW search_path'))}'".replace('""', "")


@pytest.mark.parametrize(
    "setting",
    ["standard_conforming_strings = off", "search_path = public, hostile, pg_catalog", "datestyle = 'German'"],
)
def test_our_schema_and_an_index_can_be_made_with_the_setting(bare_dsn: str, setting: str) -> None:
    plain = database.connect(bare_dsn)
    execute(plain, _HOSTILE)
    execute(plain, f"ALTER DATABASE {plain.url.database} SET {setting}")
    plain.dispose()
    engine = database.connect(bare_dsn)
    migrate.upgrade(engine)
    application = sa.create_engine(engine.url)
    Base.metadata.create_all(application)
    execute(application, "INSERT INTO article VALUES (1, 'a harbour', NULL, 'en')")
    sync(engine)
    found = "SELECT id FROM public.article_semantic_search('harbour', 10, 'lexical')"
    assert rows(application, found) == [(1,)]
    application.dispose()
    engine.dispose()


@pytest.mark.parametrize("setting", ["default_transaction_read_only = on", "idle_session_timeout = '50ms'"])
def test_a_worker_that_goes_on_answers_plain_sql_with_the_setting(articles: sa.Engine, dsn: str, setting: str) -> None:
    execute(articles, f"ALTER DATABASE {articles.url.database} SET {setting}")
    articles.dispose()
    engine = database.connect(dsn)
    stop = threading.Event()
    worker = threading.Thread(target=Worker(engine, Settings(poll_seconds=0.01)).run, args=(stop,))
    worker.start()
    application = sa.create_engine(engine.url, isolation_level="AUTOCOMMIT")
    try:
        with application.connect() as connection:
            signed_in = sa.text("SELECT count(*) FROM semantic.worker")
            eventually(
                lambda: connection.scalar(signed_in), "the worker to sign in", unless=lambda: not worker.is_alive()
            )
            connection.execute(sa.text("SET semantic.wait_seconds = 20"))
            connection.execute(sa.text("CALL semantic.embed_query('article_semantic', 'a harbour')"))
    finally:
        stop.set()
        worker.join(20)
    application.dispose()
    engine.dispose()
    reset(articles)


@pytest.mark.parametrize("collation", ['"C"', '"en-x-icu"', "case_insensitive", '"POSIX"'])
def test_text_keys_of_any_collation_are_synced_built_verified_repaired_and_found(
    engine: sa.Engine, collation: str
) -> None:
    if "C" not in collation and "POSIX" not in collation:
        made = "CREATE COLLATION case_insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        try:
            execute(engine, made)
        except sa.exc.NotSupportedError:
            pytest.skip("this server is built without ICU")
    execute(engine, f"CREATE TABLE page (id text COLLATE {collation} PRIMARY KEY, body text)")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "page", columns=("body",), encoder=EncoderSpec(ENCODER, 32))
    create_index.create(engine, spec)
    execute(engine, "INSERT INTO page SELECT 'Key ' || i, 'a harbour ' || i FROM generate_series(1, 2500) i")
    execute(
        engine, "INSERT INTO page VALUES ('ß', 'a lantern'), ('', 'an anchor'), ('a-b', 'c'), ('ab', 'd'), ('Z', 'e')"
    )
    assert sync(engine).rows == 2505
    execute(engine, "UPDATE page SET body = 'marble' WHERE id IN ('Key 7', 'ß', '')")
    execute(engine, "UPDATE page SET id = 'KEY 8' WHERE id = 'Key 8'")
    sync(engine)
    generation = generation_of(engine, "page_semantic")
    report = verify.verify(engine, generation)
    assert (report.clean, report.rows) == (True, 2505)
    execute(engine, "DELETE FROM page_semantic WHERE id = 'ß'")
    assert repair.repair(engine, generation).damaged == 1
    sync(engine)
    assert verify.verify(engine, generation).clean
    found = "SELECT id FROM page_semantic_search('marble', 10, 'lexical') ORDER BY id COLLATE \"C\""
    assert rows(engine, found) == [("",), ("Key 7",), ("ß",)]
