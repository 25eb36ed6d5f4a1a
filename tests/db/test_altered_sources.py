"""What is done to the source after its semantic index was made: writers never notice, and nothing is lost."""

import logging
import re

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import errors, search
from pg_semantic.operations import doctor, verify
from pg_semantic.search import Searcher
from tests.db import test_cli as shell
from tests.db.library import CLEAN, Article, encoder, execute, generation_of, jobs, rows, sync, truth


def fill(engine: sa.Engine) -> None:
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, 'body ' || i, 'en' FROM generate_series(1, 5) i")
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


def test_a_renamed_column_fails_no_writer_and_all_is_synced_once_it_is_named_back(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article RENAME COLUMN body TO main")
    execute(synced, "UPDATE article SET main = 'new' WHERE id = 1")
    execute(synced, "INSERT INTO article (id, main, lang) VALUES (6, 'six', 'en')")
    execute(synced, "DELETE FROM article WHERE id = 2")
    with pytest.raises(errors.DatabaseError, match=r"body does not exist.*Rename the column back"):
        sync(synced)
    execute(synced, "ALTER TABLE article RENAME COLUMN main TO body")
    assert sync(synced).chunks_encoded == 2
    assert truth(synced) == CLEAN
    assert verify.verify(synced, generation_of(synced)).clean


def test_a_dropped_column_fails_no_writer(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article DROP COLUMN body")
    execute(synced, "UPDATE article SET title = 'new' WHERE id = 1")
    execute(synced, "TRUNCATE article CASCADE")
    assert rows(synced, "SELECT count(*) FROM article_semantic") == [(0,)]


def test_a_column_of_a_wider_type_goes_on_being_synced(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article ALTER COLUMN title TYPE varchar(100), ALTER COLUMN id TYPE bigint")
    execute(synced, "UPDATE article SET title = 'new' WHERE id = 1")
    assert sync(synced).chunks_encoded == 1


def test_a_column_that_is_added_changes_nothing(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article ADD COLUMN more text")
    execute(synced, "UPDATE article SET more = 'x'")
    assert jobs(synced) == set()
    execute(synced, "UPDATE article SET title = 'new' WHERE id = 1")
    assert sync(synced).rows == 1


def test_a_renamed_column_is_not_logged_with_a_rows_text(synced: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    execute(synced, "UPDATE article SET body = 'confidential' WHERE id = 1")
    execute(synced, "ALTER TABLE article RENAME COLUMN body TO main")
    with caplog.at_level(logging.DEBUG, "pg_semantic"), pytest.raises(errors.DatabaseError):
        sync(synced)
    assert "is not kept in sync" in caplog.text
    assert "confidential" not in caplog.text


@pytest.fixture
def secured(synced: sa.Engine) -> sa.Engine:
    """The table under row-level security that binds its owner too, which is a role without superuser privileges."""
    role = "owner_" + str(synced.url.database)[-8:]
    execute(synced, f"CREATE ROLE {role} LOGIN")
    execute(synced, f"GRANT ALL ON ALL TABLES IN SCHEMA semantic TO {role}")
    execute(synced, f"GRANT CREATE ON SCHEMA public TO {role}")
    for table in ("article", "article_semantic", "article_semantic_receipt"):
        execute(synced, f"ALTER TABLE {table} OWNER TO {role}")
    execute(synced, f"ALTER FUNCTION article_semantic_capture OWNER TO {role}")
    execute(synced, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    execute(synced, "ALTER TABLE article FORCE ROW LEVEL SECURITY")
    execute(synced, "CREATE POLICY english ON article USING (lang = 'en')")
    return sa.create_engine(synced.url.set(username=role), connect_args={"prepare_threshold": None})


def test_a_worker_that_may_not_see_all_rows_says_so_and_takes_none_for_deleted(
    synced: sa.Engine, secured: sa.Engine
) -> None:
    execute(synced, "UPDATE article SET lang = 'de', body = 'neu' WHERE id = 1")
    try:
        with pytest.raises(errors.DatabaseError, match=r"row-level security.*BYPASSRLS"):
            sync(secured)
        assert jobs(synced) == {"1"}
        assert rows(synced, "SELECT count(*) FROM article_semantic") == [(5,)]
        execute(synced, f"ALTER ROLE {secured.url.username} BYPASSRLS")
        assert sync(secured).rows == 1
        assert truth(synced) == CLEAN
    finally:
        drop(synced, secured)


def test_writers_under_row_level_security_make_jobs_for_what_they_write(synced: sa.Engine, secured: sa.Engine) -> None:
    try:
        execute(secured, "UPDATE article SET body = 'new' WHERE id = 1")
        assert jobs(synced) == {"1"}
    finally:
        drop(synced, secured)


def drop(engine: sa.Engine, secured: sa.Engine) -> None:
    secured.dispose()
    execute(engine, f"DROP OWNED BY {secured.url.username} CASCADE")
    execute(engine, f"DROP ROLE {secured.url.username}")


def test_an_index_whose_key_is_not_unique_any_more_is_neither_synced_nor_searched_until_it_is(
    synced: sa.Engine, dsn: str
) -> None:
    execute(synced, "ALTER TABLE article DROP CONSTRAINT article_pkey CASCADE, ADD PRIMARY KEY (lang, id)")
    execute(synced, "INSERT INTO article VALUES (1, 'another row', NULL, 'de')")
    said = r"several rows of (public\.)?article can have the same id"
    with pytest.raises(errors.DeclarationError, match=said):
        sync(synced)
    assert rows(synced, "SELECT count(*) FROM article_semantic WHERE content = 'another row'") == [(0,)]
    report = verify.verify(synced, generation_of(synced))
    assert re.search(said, str(report.problem))
    assert re.search(said, shell.ok("status", dsn=dsn))
    [finding] = doctor.examine(synced, ignore=["worker", "backlog", "problems"])
    assert (finding.check, finding.subject) == ("key_types", "article_semantic")
    index = Article.semantic
    vector = [1.0] * 32
    with orm.Session(synced) as session:
        for statement in (search.knn(index, vector), search.lexical(index, "title"), search.exact(index, vector)):
            with pytest.raises(sa.exc.DBAPIError, match=said):
                session.execute(statement)
            session.rollback()
        with pytest.raises(errors.IndexNotFound, match=said):
            Searcher(encoder()).search(session, index, "title")
    with synced.connect() as connection, pytest.raises(sa.exc.DBAPIError, match=said):
        connection.execute(sa.text("SELECT * FROM article_semantic_search('title', 3, 'lexical')"))
    execute(synced, "DELETE FROM article WHERE lang = 'de'")
    execute(synced, "ALTER TABLE article ADD UNIQUE (id)")
    execute(synced, "UPDATE article SET title = 'new' WHERE id = 1")
    sync(synced)
    assert truth(synced) == CLEAN
    assert verify.verify(synced, generation_of(synced)).clean
