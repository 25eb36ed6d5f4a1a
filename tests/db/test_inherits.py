"""Tables with children by INHERITS: refused at creation; rows of children that come later are not taken for ours."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, errors
from pg_semantic.operations import create_index, status, verify
from tests.db.library import Article, Base, encoder, execute, generation_of, jobs, rows, sync

CHILD = "CREATE TABLE archived (reason text) INHERITS (article)"


def fill(engine: sa.Engine) -> None:
    """Two synced rows; a child with a row of its own and one by a key of the parent."""
    execute(engine, "INSERT INTO article VALUES (1, 'one', NULL, 'en'), (2, 'two', NULL, 'en')")
    sync(engine)
    execute(engine, CHILD)
    execute(engine, "INSERT INTO archived VALUES (1, 'old one', NULL, 'en', 'x'), (11, 'eleven', NULL, 'en', 'x')")


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


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
            specs[table] = create_index.describe(
                connection, table, columns=("body",), encoder=Article.semantic.spec.encoder
            )
    with pytest.raises(errors.DatabaseError, match="semantic index on each child table"):
        create_index.create(engine, specs["page"])
    create_index.create(engine, specs["archived"])
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
    assert found.capture_problem == "rows of public.archived, which inherits from public.article, are not indexed"
    assert found.rows == 2


def test_plain_sql_finds_rows_of_the_parent_alone(synced: sa.Engine) -> None:
    found = rows(synced, "SELECT id FROM article_semantic_search('one', 10, 'lexical')")
    assert found == [(1,)]
    with Session(synced) as session:
        assert Searcher(encoder()).search(session, Article.semantic, "two", mode="lexical")


# An index of a table that has a parent: a statement that names the parent fires no statement trigger of its children.

BELOW = {
    "a child": (
        "CREATE TABLE page (id int PRIMARY KEY, body text, kind int)",
        "CREATE TABLE below (PRIMARY KEY (id)) INHERITS (page)",
    ),
    "a grandchild": (
        "CREATE TABLE page (id int PRIMARY KEY, body text, kind int)",
        "CREATE TABLE middle () INHERITS (page)",
        "CREATE TABLE below (PRIMARY KEY (id)) INHERITS (middle)",
    ),
    "a partition": (
        "CREATE TABLE page (id int PRIMARY KEY, body text, kind int) PARTITION BY RANGE (id)",
        "CREATE TABLE below PARTITION OF page FOR VALUES FROM (0) TO (100)",
    ),
    "a partition with partitions": (
        "CREATE TABLE page (id int PRIMARY KEY, body text, kind int) PARTITION BY RANGE (id)",
        "CREATE TABLE below PARTITION OF page FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF below FOR VALUES FROM (0) TO (50)",
        "CREATE TABLE high PARTITION OF below FOR VALUES FROM (50) TO (100)",
    ),
}
FILL = "INSERT INTO below (id, body) VALUES (1, 'one'), (2, 'two'), (3, 'three')"


def index_below(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        spec = create_index.describe(connection, "below", columns=("body",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)
    sync(engine)


@pytest.mark.parametrize("kind", BELOW)
def test_statements_that_name_the_parent_are_captured(engine: sa.Engine, kind: str) -> None:
    for statement in (*BELOW[kind], FILL):
        execute(engine, statement)
    index_below(engine)
    execute(engine, "UPDATE page SET kind = 7")
    assert jobs(engine) == set()
    for statement, marked in (
        ("UPDATE page SET body = 'new' WHERE id = 1", {"1"}),
        ("DELETE FROM page WHERE id = 2", {"2"}),
        ("UPDATE page SET id = 30, body = 'moved' WHERE id = 3", {"3", "30"}),
        ("UPDATE below SET body = 'newer' WHERE id = 1", {"1"}),
    ):
        execute(engine, statement)
        assert jobs(engine) == marked
        sync(engine)
    assert rows(engine, "SELECT id, content FROM below_semantic ORDER BY id") == [(1, "newer"), (30, "moved")]
    assert verify.verify(engine, generation_of(engine, "below_semantic")).clean


@pytest.mark.parametrize(
    ("page", "joined"),
    [
        ("CREATE TABLE page (id int NOT NULL, body text)", "ALTER TABLE below INHERIT page"),
        (
            "CREATE TABLE page (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
            "ALTER TABLE page ATTACH PARTITION below FOR VALUES FROM (0) TO (100)",
        ),
    ],
)
def test_a_table_that_gets_a_parent_later_is_captured_once_a_worker_runs(
    engine: sa.Engine, page: str, joined: str
) -> None:
    for statement in ("CREATE TABLE below (id int PRIMARY KEY, body text)", FILL, page):
        execute(engine, statement)
    index_below(engine)
    for statement in (joined, "UPDATE page SET body = 'unseen' WHERE id = 1"):
        execute(engine, statement)
    with engine.connect() as connection:
        [found] = status.read(connection).indexes
    assert found.capture_problem == "triggers of public.below are missing: pg-semantic repair"
    sync(engine)
    execute(engine, "UPDATE page SET body = 'seen' WHERE id = 2")
    assert jobs(engine) == {"2"}
    sync(engine)
    found_rows = rows(engine, "SELECT id, content FROM below_semantic ORDER BY id")
    assert found_rows == [(1, "unseen"), (2, "seen"), (3, "three")]
