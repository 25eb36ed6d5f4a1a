"""pgvector in a schema that is not on the search path, or not in the database: said as such, with what to run."""

import dataclasses
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import exc
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database, errors, generations
from pg_semantic.alembic_plugin import operations
from pg_semantic.database import migrate
from pg_semantic.operations import create_index
from tests.db.copies import OTHER
from tests.db.library import CLEAN, Article, Base, encoder, execute, generation_of, rows, sync, truth
from tests.db.test_cli import error

PATH = 'SET search_path = "$user", public, extensions'


@pytest.fixture
def apart(bare_dsn: str) -> Iterator[sa.Engine]:
    """A database with pgvector in the schema `extensions`, which is on the path; `lose_path` takes it away."""
    engine = database.connect(bare_dsn)
    execute(engine, "CREATE SCHEMA extensions")
    execute(engine, "CREATE EXTENSION vector WITH SCHEMA extensions")
    set_path(engine, "public, extensions")
    migrate.upgrade(engine)
    execute(engine, "CREATE TABLE article (id integer PRIMARY KEY, title text, body text, lang text)")
    yield engine
    engine.dispose()


def set_path(engine: sa.Engine, path: str) -> None:
    with engine.begin() as connection:
        name = connection.scalar(sa.select(sa.func.current_database()))
        connection.execute(sa.text(f'ALTER DATABASE "{name}" SET search_path = {path}'))
    engine.dispose()


def test_what_creates_tables_names_the_schema_of_pgvector(apart: sa.Engine, bare_dsn: str) -> None:
    Base.metadata.create_all(apart)
    live = generation_of(apart)
    set_path(apart, "public")
    other = dataclasses.replace(live.spec, name="other")
    with pytest.raises(errors.NotInstalled, match=r"pgvector is in schema extensions, .* public, extensions"):
        create_index.create(apart, other)
    generations.begin(apart, live, dataclasses.replace(live.spec, encoder=OTHER))  # finds it by itself
    arguments = ("article", "--columns", "title", "--encoder", "hashed:8", "--name", "third")
    assert PATH in error("index", "create", *arguments, dsn=bare_dsn, code=3)


def test_pgvector_may_move_to_another_schema(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'harbour ' || i, NULL, 'en' FROM generate_series(1, 3) i")
    sync(articles)
    execute(articles, "CREATE SCHEMA extensions")
    execute(articles, "ALTER EXTENSION vector SET SCHEMA extensions")
    articles.dispose()
    execute(articles, "UPDATE article SET title = 'marble' WHERE id = 1")
    sync(articles)
    assert truth(articles) == CLEAN
    assert rows(articles, "SELECT id FROM article_semantic_search('marble', 3, 'lexical')") == [(1,)]
    path = "SELECT semantic.search_template_values_v1(id, 3, false) ->> 'distance' FROM semantic.generation"
    assert rows(articles, path) == [("OPERATOR(extensions.<=>)",)]
    set_path(articles, "public, extensions")
    with Session(articles) as session:
        hits = Searcher(encoder()).search(session, Article.semantic, "marble", limit=1, mode="hybrid")
    assert [hit.entity.id for hit in hits] == [1]


def test_create_all_names_the_schema_of_pgvector(apart: sa.Engine) -> None:
    set_path(apart, "public")
    with pytest.raises(errors.NotInstalled, match=r"pgvector is in schema extensions"):
        Base.metadata.create_all(apart)


def test_a_path_that_the_application_sets_itself_is_named_as_the_place_to_mend(engine: sa.Engine) -> None:
    execute(engine, "CREATE SCHEMA tenant")
    with engine.connect() as connection:
        connection.execute(sa.text("SET search_path = tenant"))
        with pytest.raises(errors.NotInstalled, match="where the application sets its search_path") as refused:
            Base.metadata.create_all(connection)
    assert 'SET search_path = "$user", public; then' in str(refused.value)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (v vector(3))",
        "CREATE TABLE t (v halfvec(3))",
        "SELECT CAST('{}/3' AS sparsevec)",
        "CREATE INDEX ON article USING hnsw (title)",
        "CREATE INDEX ON article USING gin (title halfvec_cosine_ops)",
        "SELECT '[1]' <=> '[1]'",
        "SELECT CAST(1 AS integer) <-> 2",
    ],
)
def test_what_pgvector_brings_is_known_by_its_names(bare_dsn: str, statement: str) -> None:
    engine = database.connect(bare_dsn)
    execute(engine, "CREATE TABLE article (id integer PRIMARY KEY, title text)")
    with pytest.raises(errors.NotInstalled, match=r"cannot find pgvector: .*search_path"), database.translated():
        execute(engine, statement)
    engine.dispose()


@pytest.mark.parametrize(
    "statement", ["SELECT 'nope'::regconfig", "DROP ROLE nobody_of_that_name", "SHOW semantic.nothing"]
)
def test_other_unknown_names_are_not_taken_for_pgvector(articles: sa.Engine, statement: str) -> None:
    with pytest.raises(errors.DatabaseError, match=r"42704|Check the name") as refused, database.translated():
        execute(articles, statement)
    assert not isinstance(refused.value, errors.NotInstalled)


def test_an_operator_between_other_types_is_the_servers_to_say(articles: sa.Engine) -> None:
    with pytest.raises(errors.DatabaseError, match=r"operator does not exist") as refused, database.translated():
        execute(articles, "SELECT 1 + true")
    assert isinstance(refused.value.__cause__, exc.DBAPIError)
    assert not isinstance(refused.value, errors.NotInstalled)


def test_a_migration_names_the_schema_of_pgvector(apart: sa.Engine) -> None:
    set_path(apart, "public")
    with apart.connect() as connection:
        migration = Operations(MigrationContext.configure(connection))
        with pytest.raises(errors.NotInstalled, match="pgvector is in schema extensions"):
            operations.run(migration, operations.CreateSemanticIndexOp(Article.semantic.spec))
