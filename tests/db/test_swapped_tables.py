"""A table that took the place of another: found, refused in words by every search, and adopted."""

import dataclasses

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session

from pg_semantic import Searcher, errors, generations, registry, search
from pg_semantic.operations import create_index, doctor, verify
from pg_semantic.search.request import Mode
from pg_semantic.worker import privileges
from tests.db.library import CLEAN, Article, Base, encoder, execute, generation_of, jobs, rows, sync, truth
from tests.db.test_cli import error, ok, run

ADOPT = "pg-semantic index adopt article_semantic"
VECTOR = encoder().encode_queries(["title 1"])[0]
STATEMENTS = {
    "knn": lambda: search.knn(Article.semantic, VECTOR, limit=2),
    "exact": lambda: search.exact(Article.semantic, VECTOR, limit=2),
    "lexical": lambda: search.lexical(Article.semantic, "title", limit=2),
}
# How a table takes the place of another.
SWAPS = {
    "renamed": (
        "CREATE TABLE article_new (LIKE article INCLUDING ALL)",
        "INSERT INTO article_new SELECT i, 'title ' || i, 'new ' || i, 'en' FROM generate_series(2, 7) i",
        "ALTER TABLE article RENAME TO article_old",
        "ALTER TABLE article_new RENAME TO article",
    ),
    "dropped": (
        "DROP TABLE article CASCADE",
        "CREATE TABLE article (id int PRIMARY KEY, title text, body text, lang text)",
        "INSERT INTO article SELECT i, 'title ' || i, 'new ' || i, 'en' FROM generate_series(2, 7) i",
    ),
    "moved to another schema": (
        "CREATE SCHEMA attic",
        "ALTER TABLE article SET SCHEMA attic",
        "CREATE TABLE article (LIKE attic.article INCLUDING ALL)",
        "INSERT INTO article SELECT i, 'title ' || i, 'new ' || i, 'en' FROM generate_series(2, 7) i",
    ),
    "partitioned": (
        "ALTER TABLE article RENAME TO article_old",
        "CREATE TABLE article (id int PRIMARY KEY, title text, body text, lang text) PARTITION BY RANGE (id)",
        "CREATE TABLE article_low PARTITION OF article FOR VALUES FROM (0) TO (4)",
        "CREATE TABLE article_high PARTITION OF article FOR VALUES FROM (4) TO (100)",
        "INSERT INTO article SELECT i, 'title ' || i, 'new ' || i, 'en' FROM generate_series(2, 7) i",
    ),
}


def fill(engine: sa.Engine) -> None:
    """Five synced rows."""
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, 'body ' || i, 'en' FROM generate_series(1, 5) i")
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


def swap(engine: sa.Engine, how: str) -> None:
    with engine.begin() as connection:
        for statement in SWAPS[how]:
            connection.execute(sa.text(statement))


@pytest.mark.parametrize("how", SWAPS)
def test_a_table_in_the_place_of_another_is_refused_until_it_is_adopted_and_then_true(
    synced: sa.Engine, dsn: str, how: str
) -> None:
    swap(synced, how)
    for mode in ("dense", "lexical", "hybrid"):
        _refuses(synced, mode)
    assert "index adopt" in _one_line(ok("status", dsn=dsn))
    assert "index adopt" in _one_line(run("verify", dsn=dsn).stdout)
    assert not verify.verify(synced, generation_of(synced)).clean
    with pytest.raises(errors.DeclarationError, match=ADOPT):
        Base.metadata.create_all(synced)
    ok("index", "adopt", "article_semantic", "--yes", dsn=dsn)
    Base.metadata.create_all(synced)
    execute(synced, "UPDATE article SET body = 'edited' WHERE id = 3")
    assert "3" in jobs(synced)
    sync(synced)
    assert truth(synced) == CLEAN
    report = verify.verify(synced, generation_of(synced))
    assert report.clean, report
    assert report.rows == 6
    with Session(synced) as session:
        [hit, *_] = Searcher(encoder()).search(session, Article.semantic, "edited", limit=2, mode="lexical")
        assert hit.entity.id == 3
    execute(synced, "DELETE FROM article WHERE id = 3")
    assert rows(synced, "SELECT count(*) FROM article_semantic WHERE id = 3") == [(0,)]


def _refuses(engine: sa.Engine, mode: Mode) -> None:
    with Session(engine) as session, pytest.raises(errors.PgSemanticError, match=ADOPT):
        Searcher(encoder()).search(session, Article.semantic, "title 1", mode=mode)


def _one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("kind", STATEMENTS)
@pytest.mark.parametrize("how", ["renamed", "dropped"])
def test_no_statement_joins_the_rows_of_another_table(synced: sa.Engine, kind: str, how: str) -> None:
    with Session(synced) as session:
        assert len(session.execute(STATEMENTS[kind]()).all()) == 2
    swap(synced, how)
    with Session(synced) as session, pytest.raises(exc.DBAPIError, match="index adopt article_semantic"):
        session.execute(STATEMENTS[kind]())


def test_adopt_gives_an_index_the_privileges_and_policies_of_its_new_table_at_once(synced: sa.Engine, dsn: str) -> None:
    privileges.follow(synced)
    swap(synced, "renamed")
    execute(synced, "ALTER TABLE article ENABLE ROW LEVEL SECURITY; GRANT SELECT ON article TO pg_monitor")
    ok("index", "adopt", "article_semantic", "--yes", dsn=dsn)
    assert not any(one.statements for one in privileges.due(synced))
    [(secured, reads)] = rows(
        synced,
        "SELECT relrowsecurity, has_table_privilege('pg_monitor', oid, 'SELECT') FROM pg_class "
        "WHERE oid = 'article_semantic'::regclass",
    )
    assert (secured, reads) == (True, True)


def test_a_searcher_that_searched_before_the_swap_refuses_after_it(synced: sa.Engine) -> None:
    searcher = Searcher(encoder())
    with Session(synced) as session:
        assert searcher.search(session, Article.semantic, "title 1", limit=1)
    swap(synced, "renamed")
    with Session(synced) as session, pytest.raises(errors.DatabaseError, match=ADOPT):
        searcher.search(session, Article.semantic, "title 1", limit=1)


def test_the_function_for_plain_sql_refuses_too(synced: sa.Engine) -> None:
    swap(synced, "renamed")
    with pytest.raises(exc.DBAPIError, match="index adopt article_semantic"):
        rows(synced, "SELECT * FROM article_semantic_search('title', 3, 'lexical')")


def test_a_worker_never_takes_the_rows_of_one_table_for_those_of_another(synced: sa.Engine) -> None:
    known = generation_of(synced)
    execute(synced, "UPDATE article SET body = 'edited' WHERE id = 1")
    swap(synced, "renamed")
    with synced.connect() as connection, pytest.raises(exc.DBAPIError, match="was renamed a moment ago"):
        registry.require_named(connection, known.tables)
    sync(synced)  # goes on with the old table, which it knows by its new name
    assert rows(synced, "SELECT content FROM article_semantic WHERE id = 1") == [("title 1\n\nedited",)]
    assert rows(synced, "SELECT count(*) FROM article_semantic") == [(5,)]


def test_a_table_that_is_renamed_alone_is_followed(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article RENAME TO paper")
    execute(synced, "UPDATE paper SET body = 'edited' WHERE id = 1")
    sync(synced)
    assert rows(synced, "SELECT content FROM article_semantic WHERE id = 1") == [("title 1\n\nedited",)]
    assert verify.verify(synced, generation_of(synced)).clean


def test_an_index_keeps_its_renamed_table_when_it_is_told_to(synced: sa.Engine, dsn: str) -> None:
    execute(synced, "ALTER TABLE article RENAME TO paper")
    execute(synced, "CREATE TABLE article (id int)")
    assert generation_of(synced).problem is not None
    ok("index", "adopt", "article_semantic", "paper", "--yes", dsn=dsn)
    assert generation_of(synced).problem is None
    sync(synced)
    assert verify.verify(synced, generation_of(synced)).clean


UNFIT = {
    "CREATE TABLE other (id int, title text, body text)": "its primary key is not the key of the index",
    "CREATE TABLE other (id int UNIQUE NOT NULL, title text, body text)": "its primary key is not the key of the index",
    "CREATE TABLE other (id text PRIMARY KEY, title text, body text)": "other columns or types",
    "CREATE TABLE other (key int PRIMARY KEY, title text, body text)": "other columns or types",
    "CREATE TABLE other (id int PRIMARY KEY, title text)": "has no column body",
    "CREATE VIEW other AS SELECT * FROM article": "is not a table",
    "CREATE TABLE other (id int PRIMARY KEY, title text, body text); CREATE TABLE child () INHERITS (other)": "inherit",
}


@pytest.mark.parametrize("statement", UNFIT)
def test_a_table_that_does_not_fit_is_not_adopted_and_nothing_is_changed(
    synced: sa.Engine, dsn: str, statement: str
) -> None:
    for part in statement.split("; "):
        execute(synced, part)
    assert UNFIT[statement] in error("index", "adopt", "article_semantic", "other", "--yes", dsn=dsn, code=3)
    execute(synced, "UPDATE article SET body = 'edited' WHERE id = 1")
    sync(synced)
    assert truth(synced) == CLEAN
    assert verify.verify(synced, generation_of(synced)).clean


def test_a_table_that_is_not_there_is_not_adopted(synced: sa.Engine) -> None:
    with pytest.raises(errors.DeclarationError, match="No table 'nowhere'"):
        create_index.adopt(synced, generation_of(synced), "nowhere")


def test_every_copy_of_an_index_is_moved(synced: sa.Engine) -> None:
    live = generation_of(synced)
    generations.begin(synced, live, dataclasses.replace(live.spec, columns=("body",)))
    sync(synced)
    swap(synced, "renamed")
    create_index.adopt(synced, generation_of(synced))
    sync(synced)
    with synced.connect() as connection:
        known = registry.generations(connection)
    assert len(known) == 2
    assert all(verify.verify(synced, one).clean for one in known)
    old = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'article_old'::regclass"
    assert rows(synced, old) == [(0,)]


def _index_on_another_table(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (id int PRIMARY KEY, words text)")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)


def test_an_index_that_waits_to_be_adopted_survives_the_creation_of_another(synced: sa.Engine) -> None:
    live = generation_of(synced)
    generations.begin(synced, live, dataclasses.replace(live.spec, columns=("body",)))
    sync(synced)
    swap(synced, "dropped")
    _index_on_another_table(synced)
    assert rows(synced, "SELECT count(*) FROM article_semantic") == [(5,)]
    create_index.adopt(synced, generation_of(synced))
    sync(synced)
    assert truth(synced) == CLEAN
    with synced.connect() as connection:
        known = registry.copies(connection, "article_semantic")
    assert [one.role for one in known] == ["live", "next"]
    assert all(verify.verify(synced, one).clean for one in known)


def test_an_index_whose_tables_are_all_gone_is_forgotten_when_another_is_created(synced: sa.Engine) -> None:
    execute(synced, "DROP TABLE article, article_semantic, article_semantic_receipt CASCADE")
    _index_on_another_table(synced)
    assert rows(synced, "SELECT name FROM semantic.semantic_index") == [("note_semantic",)]


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_under_the_old_name_of_a_renamed_table_stops_nothing(synced: sa.Engine, dsn: str, kind: str) -> None:
    execute(synced, "ALTER TABLE article RENAME TO paper")
    execute(synced, f"CREATE {kind} article AS SELECT * FROM paper")
    assert generation_of(synced).problem is None
    assert "adopt" not in ok("status", dsn=dsn)
    assert [one for one in doctor.examine(synced) if one.check == "swapped_tables"] == []
    assert len(rows(synced, "SELECT * FROM article_semantic_search('title', 3, 'lexical')")) == 3
    for name in ("knn", "exact", "lexical"):
        with Session(synced) as session:
            assert len(session.execute(STATEMENTS[name]()).all()) == 2
    with Session(synced) as session:
        assert Searcher(encoder()).search(session, Article.semantic, "title 1", limit=1)
    Base.metadata.create_all(synced)
    execute(synced, "UPDATE paper SET body = 'edited' WHERE id = 1")
    sync(synced)
    assert rows(synced, "SELECT content FROM article_semantic WHERE id = 1") == [("title 1\n\nedited",)]
    assert verify.verify(synced, generation_of(synced)).clean


def test_a_view_is_never_taken_for_a_table_that_was_dropped(synced: sa.Engine) -> None:
    execute(synced, "CREATE TABLE paper AS SELECT * FROM article")
    execute(synced, "DROP TABLE article CASCADE")
    execute(synced, "CREATE VIEW article AS SELECT * FROM paper")
    assert (
        generation_of(synced).problem == "its table public.article was dropped: pg-semantic index drop article_semantic"
    )
    for name in ("knn", "exact", "lexical"):
        with Session(synced) as session, pytest.raises(exc.DBAPIError):
            session.execute(STATEMENTS[name]())
    with pytest.raises(errors.DeclarationError, match="index drop article_semantic"):
        Base.metadata.create_all(synced)
