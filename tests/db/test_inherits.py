"""Tables with children by INHERITS: refused at creation; rows of children that come later are not taken for ours."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, errors, inspection
from pg_semantic.sync import status, verify
from tests.db.library import Article, Base, encoder, execute, generation_of, rows, sync

CHILD = "CREATE TABLE archived (reason text) INHERITS (article)"


@pytest.fixture
def synced(articles: sa.Engine) -> sa.Engine:
    """Two synced rows; a child with a row of its own and one by a key of the parent."""
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en'), (2, 'two', NULL, 'en')")
    sync(articles)
    execute(articles, CHILD)
    execute(articles, "INSERT INTO archived VALUES (1, 'old one', NULL, 'en', 'x'), (11, 'eleven', NULL, 'en', 'x')")
    return articles


def test_a_parent_is_refused_by_the_mapped_class(engine: sa.Engine) -> None:
    Article.__table__.create(engine)  # type: ignore[attr-defined]
    execute(engine, CHILD)
    with pytest.raises(sa.exc.DBAPIError, match=r"inherit from table public\.article"):
        Base.metadata.create_all(engine)


def test_a_parent_is_refused_by_the_command_line_and_a_child_is_not(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE page (id int PRIMARY KEY, body text)")
    execute(engine, "CREATE TABLE archived (PRIMARY KEY (id)) INHERITS (page)")
    execute(engine, "INSERT INTO archived VALUES (1, 'one')")
    specs = {}
    with engine.connect() as connection:
        for table in ("page", "archived"):
            specs[table] = inspection.describe(
                connection, table, columns=("body",), encoder=Article.semantic.spec.encoder
            )
    with pytest.raises(errors.DatabaseError, match="semantic index of each child table"):
        inspection.create(engine, specs["page"])
    inspection.create(engine, specs["archived"])
    sync(engine)
    assert rows(engine, "SELECT content FROM archived_semantic") == [("one",)]


def test_rows_of_a_child_that_came_later_stop_no_row_of_the_parent(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = 'again'")  # the child's rows too
    execute(synced, "INSERT INTO article VALUES (3, 'three', NULL, 'en')")
    assert sync(synced).rows_failed == 0
    assert rows(synced, "SELECT id, content FROM article_semantic ORDER BY id") == [
        (1, "one\n\nagain"),
        (2, "two\n\nagain"),
        (3, "three"),
    ]
    report = verify.verify(synced, generation_of(synced))
    assert (report.clean, report.rows) == (True, 3)


def test_a_reconcile_looks_at_the_parent_alone(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article ALTER COLUMN title TYPE text USING upper(title)")
    sync(synced)
    assert rows(synced, "SELECT id, content FROM article_semantic ORDER BY id") == [(1, "ONE"), (2, "TWO")]
    assert verify.verify(synced, generation_of(synced)).clean


def test_a_child_that_came_later_is_named_by_status(synced: sa.Engine) -> None:
    with synced.connect() as connection:
        [found] = status.read(connection).indexes
    assert found.capture_trouble == "rows of public.archived, which inherits from public.article, are not indexed"
    assert found.rows == 2


def test_plain_sql_finds_rows_of_the_parent_alone(synced: sa.Engine) -> None:
    found = rows(synced, "SELECT id FROM article_semantic_search('one', 10, 'lexical')")
    assert found == [(1,)]
    with Session(synced) as session:
        assert Searcher(encoder()).search(session, Article.semantic, "two", mode="lexical")
