"""What is created and dropped with a semantic index, and what is refused."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, database, errors
from pg_semantic.database import migrate
from pg_semantic.index import chunk_tables
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, status
from pg_semantic.settings import Settings
from pg_semantic.worker import create_index_concurrently
from pg_semantic.worker.worker import Worker
from tests.db.copies import pid
from tests.db.library import Article, Base, execute, generation_of, rows, sync, wait_for_locks
from tests.waiting import eventually

TABLES = Article.semantic.tables
HASHED = EncoderSpec.resolve("hashed:32", None)


def objects(engine: sa.Engine) -> set[str]:
    """Tables, functions and triggers of the public schema."""
    return {
        str(name)
        for (name,) in rows(
            engine,
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') "
            "UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
            "AND proname LIKE '%semantic%' UNION SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
        )
    }


def test_dropping_the_index_leaves_nothing_of_it(engine: sa.Engine) -> None:
    Article.__table__.create(engine)  # type: ignore[attr-defined]
    execute(engine, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    before = objects(engine)
    Base.metadata.create_all(engine)
    sync(engine)
    execute(engine, "UPDATE article SET title = 'two'")
    Base.metadata.drop_all(engine, [TABLES.chunks, TABLES.receipts])
    assert objects(engine) == before
    assert rows(engine, "SELECT count(*) FROM semantic.semantic_index") == [(0,)]
    assert rows(engine, "SELECT count(*) FROM semantic.job") == [(0,)]
    assert rows(engine, "SELECT count(*) FROM semantic.encoder") == [(0,)]
    execute(engine, "UPDATE article SET title = 'three'")


def test_a_table_dropped_without_a_word_does_not_stand_in_the_way_of_its_successor(articles: sa.Engine) -> None:
    sync(articles)
    execute(articles, "DROP TABLE article, article_semantic, article_semantic_receipt CASCADE")
    execute(articles, "DROP FUNCTION article_semantic_capture")
    assert sync(articles).rows == 0
    Base.metadata.create_all(articles)
    assert rows(articles, "SELECT count(*) FROM semantic.generation") == [(1,)]


def test_create_all_twice_changes_nothing(articles: sa.Engine) -> None:
    before = objects(articles)
    Base.metadata.create_all(articles)
    assert objects(articles) == before
    assert rows(articles, "SELECT count(*) FROM semantic.generation") == [(1,)]


def test_an_index_can_be_created_in_a_transaction_that_is_rolled_back(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        Base.metadata.create_all(connection)
        connection.rollback()
    assert rows(engine, "SELECT count(*) FROM semantic.semantic_index") == [(0,)]


def test_create_all_on_a_database_that_is_not_set_up_says_what_to_run(bare_dsn: str) -> None:
    engine = database.connect(bare_dsn)
    with pytest.raises(errors.NotInstalled, match="CREATE EXTENSION vector"):
        Base.metadata.create_all(engine)
    execute(engine, "CREATE EXTENSION vector")
    with pytest.raises(errors.NotInstalled, match="pg-semantic db upgrade"):
        Base.metadata.create_all(engine)
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    engine.dispose()


def test_upgrading_twice_changes_nothing_and_the_revision_is_known(bare_dsn: str) -> None:
    engine = database.connect(bare_dsn)
    assert migrate.current(engine) is None
    revision = migrate.upgrade(engine)
    assert migrate.upgrade(engine) == revision == migrate.current(engine)
    engine.dispose()


def test_an_old_pgvector_is_refused() -> None:
    with pytest.raises(errors.NotInstalled, match=r"0\.7\.4 is too old"):
        database.require_pgvector("0.7.4")
    database.require_pgvector("0.8.0")
    database.require_pgvector("0.10.1")


class OtherBase(DeclarativeBase): ...


class OtherArticle(OtherBase):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]

    semantic = SemanticIndex("title", encoder="hashed:64")


def test_another_encoder_than_the_stored_one_is_refused_with_both_names(articles: sa.Engine) -> None:
    with pytest.raises(errors.EncoderMismatch, match=r"hashed:64.*hashed:32"):
        OtherBase.metadata.create_all(articles)


def test_a_table_of_the_users_own_is_not_taken_for_a_chunk_table(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE article_semantic (id integer)")
    with pytest.raises(errors.DeclarationError, match="doesn't belong to a semantic index"):
        Base.metadata.create_all(engine)


def test_a_table_without_a_mapped_class_gets_the_same_objects(articles: sa.Engine) -> None:
    mapped = objects(articles)
    Base.metadata.drop_all(articles, [TABLES.chunks, TABLES.receipts])
    with articles.connect() as connection:
        spec = create_index.describe(connection, "article", columns=("title", "body"), encoder=HASHED)
    create_index.create(articles, spec)
    assert objects(articles) == mapped
    assert spec == dataclasses.replace(Article.semantic.spec, schema="public")


@pytest.mark.parametrize(
    ("table", "column", "message"),
    [
        ("nothing", "title", "No table 'nothing'.*Its tables: article"),
        ("article", "nope", "no column 'nope'.*id, title, body"),
        ("article", "id", "'id' of 'article' is not text but integer: .*GENERATED ALWAYS AS"),
    ],
)
def test_a_table_or_column_that_will_not_do_is_refused(
    articles: sa.Engine, table: str, column: str, message: str
) -> None:
    with articles.connect() as connection, pytest.raises(errors.DeclarationError, match=message):
        create_index.describe(connection, table, columns=(column,), encoder=HASHED)


def test_a_table_without_a_primary_key_is_refused(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (words text)")
    with engine.connect() as connection, pytest.raises(errors.DeclarationError, match="no primary key"):
        create_index.describe(connection, "note", columns=("words",), encoder=HASHED)


def test_a_second_index_of_the_same_name_is_refused(articles: sa.Engine) -> None:
    with pytest.raises(errors.DeclarationError, match="already"):
        create_index.create(articles, Article.semantic.spec)


def test_a_role_without_privileges_is_told_so_and_nothing_is_left(engine: sa.Engine) -> None:
    role = "reader_" + str(engine.url.database)[-8:]
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    execute(engine, f"CREATE ROLE {role}")
    execute(engine, f"GRANT CREATE ON SCHEMA public TO {role}; GRANT SELECT, REFERENCES ON note TO {role}")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=HASHED)
    before = objects(engine)
    limited = sa.create_engine(engine.url, connect_args={"options": f"-c role={role}"})
    try:
        with pytest.raises(errors.DatabaseError, match="lacks privileges"):
            create_index.create(limited, spec)
        told = pytest.raises(errors.DatabaseError, match="needs the privileges of a worker")
        with told, database.translated(), limited.connect() as connection:
            status.read(connection)
        assert objects(engine) == before
    finally:
        limited.dispose()
        execute(engine, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_vector_index_is_built_once_and_is_as_declared(articles: sa.Engine) -> None:
    assert vector_index(articles) == "missing"
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    sync(articles)
    assert vector_index(articles) == "ready"
    [(definition,)] = rows(articles, "SELECT indexdef FROM pg_indexes WHERE indexname = 'article_semantic_vector_idx'")
    assert "USING hnsw (vector halfvec_cosine_ops) WITH (m='16', ef_construction='64')" in definition
    sync(articles)


def test_a_vector_index_whose_build_was_cut_short_is_built_anew(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    sync(articles)
    execute(
        articles,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'article_semantic_vector_idx'::regclass",
    )
    assert vector_index(articles) == "broken"
    sync(articles)
    assert vector_index(articles) == "ready"


@pytest.mark.parametrize("role", [None, "pg_monitor", "stranger"])
def test_a_build_that_has_just_begun_is_not_taken_for_one_that_was_cut_short(
    articles: sa.Engine, role: str | None
) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    sync(articles)
    if role == "stranger":
        execute(articles, "CREATE ROLE stranger")
    invalid = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'article_semantic_vector_idx'::regclass"
    other = sa.text("CREATE INDEX CONCURRENTLY other ON article_semantic (ordinal)")
    waits = "SELECT count(*) FROM pg_stat_progress_create_index"
    autocommit = articles.execution_options(isolation_level="AUTOCOMMIT")
    with (
        ThreadPoolExecutor(1) as thread,
        articles.connect() as writer,
        articles.connect() as asking,
        autocommit.connect() as builder,
    ):
        builder.execute(sa.text("SET lock_timeout = 0"))
        execute(articles, invalid)
        assert vector_index(articles) == "broken"
        writer.execute(sa.text("LOCK TABLE article_semantic IN ROW EXCLUSIVE MODE"))  # the build waits for it
        building = thread.submit(builder.execute, other)
        eventually(lambda: rows(articles, waits) != [(0,)], "the build to begin", unless=building.done)
        if role:
            asking.execute(sa.text(f"SET ROLE {role}"))
        index = chunk_tables.build(generation_of(articles).spec).vector_index
        assert create_index_concurrently.state(asking, index) == "building"
        asking.rollback()
        writer.rollback()
        building.result()
    if role == "stranger":
        execute(articles, "DROP ROLE stranger")
    sync(articles)
    assert vector_index(articles) == "ready"


def test_while_one_worker_drops_a_broken_index_no_other_touches_it(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    sync(articles)
    execute(
        articles,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'article_semantic_vector_idx'::regclass",
    )
    index = chunk_tables.build(generation_of(articles).spec).vector_index
    autocommit = articles.execution_options(isolation_level="AUTOCOMMIT")
    with ThreadPoolExecutor(1) as thread, articles.connect() as reader, autocommit.connect() as first:
        reader.execute(sa.text("SELECT count(*) FROM article_semantic"))  # the drop waits for it
        dropping = thread.submit(create_index_concurrently.ensure, first, index)
        eventually(lambda: vector_index(articles) != "broken", "the drop to begin", unless=dropping.done)
        assert vector_index(articles) == "building"
        with autocommit.connect() as second:
            create_index_concurrently.ensure(second, index)  # returns at once
        reader.rollback()
        dropping.result()
    assert vector_index(articles) == "ready"


def vector_index(engine: sa.Engine) -> create_index_concurrently.State:
    with engine.connect() as connection:
        return create_index_concurrently.state(connection, chunk_tables.build(generation_of(engine).spec).vector_index)


def test_while_many_jobs_wait_the_vector_index_is_not_there(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 300) i")
    seen: list[create_index_concurrently.State] = []

    settings = Settings(batch_rows=100, vector_index_backlog=0)
    worker = Worker(articles, settings, on_progress=lambda _: seen.append(vector_index(articles)))
    worker.run(threading.Event(), once=True)
    assert seen[0] == "missing"
    assert vector_index(articles) == "ready"


def test_a_declaration_that_differs_from_what_was_created_is_refused(articles: sa.Engine) -> None:
    class Changed(DeclarativeBase): ...

    class ChangedArticle(Changed):
        __tablename__ = "article"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

        semantic = SemanticIndex("title", encoder="hashed:32")

    with pytest.raises(errors.DeclarationError, match=r"columns=\('title',\).*created with \('title', 'body'\)"):
        Changed.metadata.create_all(articles)


def test_tables_left_over_from_a_dropped_table_are_said_to_be_so(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    execute(articles, "DROP TABLE article CASCADE")
    with pytest.raises(errors.DeclarationError, match=r"left over from a table .* drop them too"):
        Base.metadata.create_all(articles)


def test_a_table_that_is_not_in_the_first_schema_on_the_path_keeps_its_index_beside_it(articles: sa.Engine) -> None:
    execute(articles, "CREATE SCHEMA first")
    execute(articles, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    engine = sa.create_engine(articles.url, connect_args={"options": "-c search_path=first,public"})
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=HASHED)
    assert spec.schema == "public"
    create_index.create(engine, spec)
    assert rows(articles, "SELECT count(*) FROM note_semantic") == [(0,)]
    with pytest.raises(errors.DatabaseError, match="different schemas"):
        create_index.create(engine, dataclasses.replace(spec, schema=None, name="other"))
    engine.dispose()


def test_names_can_not_end_the_function_that_they_stand_in(engine: sa.Engine) -> None:
    execute(engine, """CREATE TABLE note (id integer PRIMARY KEY, "a$body$'; DROP TABLE note; --" text)""")
    column = "a$body$'; DROP TABLE note; --"
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=(column,), encoder=HASHED)
    create_index.create(engine, spec)
    execute(engine, "INSERT INTO note VALUES (1, 'words')")
    assert sync(engine).rows == 1


def test_creating_an_index_does_not_keep_writers_waiting_behind_a_long_transaction(articles: sa.Engine) -> None:
    spec = dataclasses.replace(Article.semantic.spec, name="other")
    wait_for_locks(articles, seconds=0.5)
    with articles.connect() as connection:
        connection.execute(sa.text("INSERT INTO article VALUES (1, 'one', NULL, 'en')"))
        with pytest.raises(errors.DatabaseError, match=rf"article\) are in use .*pid: {pid(connection)}\)\. Try again"):
            create_index.create(articles, spec)
