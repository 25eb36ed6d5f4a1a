"""What Alembic is kept from writing: what no migration can do, and what an environment leaves out."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, database, errors, generations, registry
from pg_semantic.worker import key_changes
from tests.db import migrations
from tests.db.library import execute, sync
from tests.db.migrations import Application
from tests.db.releases import article, in_a_schema, of_both, only_body, operations, parts, with_headline, without_title


@pytest.fixture
def application(engine: sa.Engine, tmp_path: Path) -> Application:
    """An application that has no tables and no migrations yet."""
    return migrations.begin(engine, tmp_path / "alembic")


def all_but(left_out: str, by: str) -> Callable[..., bool]:
    """A filter of an environment."""
    if by == "include_name":
        return lambda name, *_: name != left_out
    return lambda _, name, *__: name != left_out


def test_a_renamed_index_is_refused_with_the_name_to_declare(application: Application) -> None:
    application.metadata = article("title", "body")
    application.migrate()
    execute(application.engine, "ALTER TABLE article RENAME TO post")
    application.metadata = article("title", "body", table="post")
    with pytest.raises(errors.DeclarationError, match="declare it with name='article_semantic'"):
        application.autogenerate()


def test_a_rename_of_the_table_is_a_migration_of_its_own(application: Application) -> None:
    application.metadata = article("title", "body")
    application.migrate()
    application.metadata = article("title", "body", table="post", name="article_semantic")
    with pytest.raises(errors.DeclarationError, match=r"op\.rename_table into a migration of its own"):
        application.autogenerate()


def test_a_column_that_goes_or_is_renamed_is_refused_while_the_live_copy_reads_it(application: Application) -> None:
    application.metadata = of_both()
    application.migrate()
    application.metadata = with_headline()
    with pytest.raises(
        errors.DeclarationError, match=r"'title' of table 'article' is dropped or renamed.*`pg-semantic"
    ):
        application.autogenerate()


def test_an_index_that_is_not_declared_and_left_out_keeps_its_columns_too(application: Application) -> None:
    application.metadata = of_both()
    application.migrate()
    application.metadata = without_title()
    application.options["include_name"] = all_but("article_semantic", "include_name")
    with pytest.raises(errors.DeclarationError, match="'title' of table 'article' is dropped"):
        application.autogenerate()
    application.options.clear()
    assert operations(parts(application.migrate())[0]) == [
        ("drop_semantic_index", "article_semantic"),
        ("drop_column", "article"),
    ]
    application.downgrade()


def test_a_column_that_only_the_copy_before_reads_is_refused_until_that_is_dropped(application: Application) -> None:
    application.metadata = of_both()
    application.migrate()
    application.metadata = article("body")
    application.migrate()
    sync(application.engine)
    generations.switch(application.engine, "article_semantic")
    application.metadata = only_body()
    with pytest.raises(errors.DeclarationError, match=r"'title'.*a copy `previous`.*drop article_semantic previous`"):
        application.autogenerate()
    generations.drop(application.engine, "article_semantic", "previous", grace_seconds=0)
    assert operations(parts(application.migrate())[0]) == [("drop_column", "article")]
    execute(application.engine, "INSERT INTO article VALUES (1, 'harbour')")
    assert sync(application.engine).rows == 1


def test_a_column_that_only_the_copy_to_come_reads_is_refused_while_that_is_there(application: Application) -> None:
    application.metadata = article("body")
    application.migrate()
    application.metadata = of_both()
    application.migrate()
    application.metadata = only_body()
    with pytest.raises(errors.DeclarationError, match=r"'title'.*a copy `next`.*drop article_semantic next`"):
        application.autogenerate()


def test_a_column_that_was_renamed_by_hand_is_a_changed_column(application: Application) -> None:
    application.metadata = of_both()
    application.migrate()
    execute(application.engine, "ALTER TABLE article RENAME title TO headline")
    application.metadata = with_headline()
    upgrade, _ = parts(application.autogenerate())
    assert operations(upgrade) == [("alter_semantic_index", "article_semantic")]
    assert "was={'columns': ['title', 'body']}" in upgrade


def test_a_column_that_becomes_another_type_is_refused_while_the_live_copy_reads_it(application: Application) -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[int | None]
        body: Mapped[str | None]
        semantic = SemanticIndex("body", encoder="hashed:32")

    application.metadata = article("title", "body")
    application.migrate()
    application.metadata = Base.metadata
    with pytest.raises(errors.DeclarationError, match=r"'title' of table 'article' becomes Integer\(\)"):
        application.autogenerate()


def test_another_key_is_refused(application: Application) -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
        body: Mapped[str | None]
        semantic = SemanticIndex("body", encoder="hashed:32")

    application.metadata = article("body")
    application.migrate()
    application.metadata = Base.metadata
    said = r"is id integer .* but id bigint in the declaration.*ALTER COLUMN id TYPE bigint.*index refresh"
    with pytest.raises(errors.DeclarationError, match=said):
        application.autogenerate()
    with pytest.raises(errors.DeclarationError, match=said):
        Base.metadata.create_all(application.engine)
    execute(application.engine, "ALTER TABLE article ALTER COLUMN id TYPE bigint")
    with application.engine.connect() as connection:
        [generation] = registry.generations(connection)
    assert key_changes.refresh(application.engine, generation)
    Base.metadata.create_all(application.engine)
    application.autogenerate()


def test_a_key_of_other_columns_is_refused(application: Application) -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        number: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str | None]
        semantic = SemanticIndex("body", encoder="hashed:32")

    application.metadata = article("body")
    application.migrate()
    application.metadata = Base.metadata
    with pytest.raises(errors.DeclarationError, match=r"but number integer in the declaration.*cannot change its key"):
        application.autogenerate()
    with pytest.raises(errors.DeclarationError, match=r"but number integer in the declaration.*drop"):
        Base.metadata.create_all(application.engine)


def test_a_database_without_our_schema_says_what_to_run(application: Application, bare_dsn: str) -> None:
    application.metadata = article("title", "body")
    application.autogenerate()
    bare = database.connect(bare_dsn)
    execute(bare, "CREATE EXTENSION vector")
    application.engine = bare
    with pytest.raises(errors.NotInstalled, match="pg-semantic db upgrade"):
        application.upgrade()
    bare.dispose()


def test_comparing_with_a_bare_database_says_what_to_run_and_what_a_superuser_can(
    application: Application, bare_dsn: str
) -> None:
    application.engine = database.connect(bare_dsn)
    application.metadata = article("title", "body")
    with pytest.raises(errors.NotInstalled, match=r"run `pg-semantic db upgrade`.*or ask a superuser to run CREATE"):
        application.autogenerate()
    application.engine.dispose()


def test_comparing_with_a_database_without_our_schema_says_what_to_run(application: Application, bare_dsn: str) -> None:
    application.engine = database.connect(bare_dsn)
    execute(application.engine, "CREATE EXTENSION vector")
    assert operations(parts(application.migrate())[0]) == []
    application.metadata = article("title", "body")
    with pytest.raises(errors.NotInstalled, match="pg-semantic db upgrade"):
        application.autogenerate()
    application.engine.dispose()


def test_an_index_of_a_schema_that_is_not_looked_at_is_left_alone(application: Application) -> None:
    execute(application.engine, "CREATE SCHEMA shop")
    application.options["include_schemas"] = True
    application.metadata = in_a_schema()
    application.migrate()
    application.metadata = sa.MetaData()
    application.options["include_schemas"] = False
    application.check()
    application.options["include_schemas"] = True
    assert operations(parts(application.autogenerate())[0]) == [
        ("drop_semantic_index", "article_semantic"),
        ("drop_table", "article"),
    ]


@pytest.mark.parametrize("left_out", ["article", "article_semantic"])
@pytest.mark.parametrize("by", ["include_name", "include_object"])
def test_an_index_that_the_environment_leaves_out_is_left_alone(
    application: Application, left_out: str, by: str
) -> None:
    application.metadata = article("title", "body")
    application.migrate()
    application.metadata = article() if left_out == "article_semantic" else sa.MetaData()
    application.options[by] = all_but(left_out, by)
    application.check()


def test_a_declared_index_that_the_environment_leaves_out_is_not_made(application: Application) -> None:
    application.metadata = article("title", "body")
    application.options["include_object"] = all_but("article_semantic", "include_object")
    assert operations(parts(application.migrate())[0]) == [("create_table", "article")]
    application.check()
