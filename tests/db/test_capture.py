"""Which statements of an application make jobs."""

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic.index import chunk_tables
from pg_semantic.index.spec import EncoderSpec, IndexSpec, KeyColumn
from pg_semantic.operations import create_index, verify
from tests.db.library import CLEAN, Article, execute, fold, generation_of, jobs, rows, sync, truth


def fill(engine: sa.Engine) -> None:
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, 'body ' || i, 'en' FROM generate_series(1, 5) i")
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


def test_inserts_through_the_orm_and_through_sql_and_by_copy_make_jobs(articles: sa.Engine) -> None:
    with Session(articles) as session:
        session.add(Article(id=1, title="one"))
        session.commit()
    execute(articles, "INSERT INTO article VALUES (2, 'two', NULL, 'en')")
    with articles.begin() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor().copy("COPY article FROM STDIN") as copy:
            copy.write_row((3, "three", "", "en"))
    assert jobs(articles) == {"1", "2", "3"}


def test_an_update_that_changes_text_makes_a_job_for_that_row_only(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = CASE WHEN id = 2 THEN 'new' ELSE body END")
    assert jobs(synced) == {"2"}


def test_an_update_of_other_columns_makes_no_job(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET lang = 'de', title = title")
    assert jobs(synced) == set()


def test_text_that_comes_from_or_becomes_null_makes_a_job(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = NULL WHERE id = 1")
    assert jobs(synced) == {"1"}


def test_an_upsert_makes_jobs_for_what_it_inserts_and_what_it_changes(synced: sa.Engine) -> None:
    execute(
        synced,
        "INSERT INTO article SELECT i, 'title ' || i, CASE WHEN i = 5 THEN 'new' ELSE 'body ' || i END, 'en' "
        "FROM generate_series(4, 6) i ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    )
    assert jobs(synced) == {"5", "6"}


def test_a_row_with_a_new_key_keeps_its_vectors_and_is_not_encoded_again(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET id = 100 WHERE id = 1")
    assert jobs(synced) == {"100"}
    assert sync(synced).chunks_encoded == 0
    assert truth(synced) == CLEAN


def test_keys_that_move_along_over_equal_text_leave_no_row_unsynced(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'same', NULL, 'en')")
    sync(articles)
    execute(articles, "INSERT INTO article VALUES (2, 'same', NULL, 'en')")
    execute(articles, "UPDATE article SET id = id - 1")
    sync(articles)
    assert truth(articles) == CLEAN


def test_an_edit_that_waits_while_its_row_gets_a_new_key_is_not_lost(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = 'new' WHERE id = 1")
    execute(synced, "UPDATE article SET id = 100 WHERE id = 1")
    sync(synced)
    assert truth(synced) == CLEAN
    assert jobs(synced) == set()


def test_two_rows_that_swap_their_keys_end_with_the_right_vectors(synced: sa.Engine) -> None:
    with synced.begin() as connection:
        for old, new in ((1, -1), (2, 1), (-1, 2)):
            connection.execute(sa.text("UPDATE article SET id = :new WHERE id = :old"), {"new": new, "old": old})
    sync(synced)
    assert truth(synced) == CLEAN


def test_deleted_rows_lose_chunks_receipts_and_jobs(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = 'new'")
    execute(synced, "DELETE FROM article WHERE id < 5")
    sync(synced)
    assert jobs(synced) == set()
    assert rows(synced, "SELECT DISTINCT id FROM article_semantic") == [(5,)]
    assert rows(synced, "SELECT id FROM article_semantic_receipt") == [(5,)]


def test_truncate_cascade_leaves_nothing(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET body = 'new'")
    execute(synced, "TRUNCATE article CASCADE")
    assert sync(synced).chunks_encoded == 0
    assert jobs(synced) == set()
    assert rows(synced, "SELECT count(*) FROM article_semantic") == [(0,)]


def test_a_rolled_back_write_leaves_no_job(articles: sa.Engine) -> None:
    with articles.connect() as connection:
        connection.execute(sa.text("INSERT INTO article VALUES (1, 'one', NULL, 'en')"))
        connection.rollback()
    assert jobs(articles) == set()


def test_edits_of_one_row_coalesce_into_one_job_with_a_later_version(synced: sa.Engine) -> None:
    for number in range(3):
        execute(synced, "UPDATE article SET body = :body WHERE id = 1", body=f"edit {number}")
        execute(synced, "UPDATE article SET body = :body WHERE id = 1", body=f"and {number}")
        fold(synced)
    assert rows(synced, "SELECT key, version, state FROM semantic.job") == [("1", 3, "pending")]


def test_a_writer_needs_no_privileges_on_our_tables(articles: sa.Engine) -> None:
    role = "writer_" + articles.url.database[-8:]  # type: ignore[index]
    execute(articles, f"CREATE ROLE {role}")
    execute(articles, f"GRANT INSERT, UPDATE, DELETE, SELECT ON article TO {role}")
    try:
        with articles.begin() as connection:
            connection.execute(sa.text(f"SET ROLE {role}"))
            connection.execute(sa.text("INSERT INTO article VALUES (1, 'one', NULL, 'en'), (2, 'two', NULL, 'en')"))
            connection.execute(sa.text("UPDATE article SET title = 'uno' WHERE id = 1"))
            connection.execute(sa.text("DELETE FROM article WHERE id = 2"))
            connection.execute(sa.text("RESET ROLE"))
        assert jobs(articles) == {"1", "2"}
    finally:
        execute(articles, f"DROP OWNED BY {role}")
        execute(articles, f"DROP ROLE {role}")


def test_names_that_need_quotes_and_keys_of_several_columns_work_throughout(engine: sa.Engine) -> None:
    execute(engine, 'CREATE SCHEMA "Odd ""Schema"""')
    table = '"Odd ""Schema"""."Order ""%s"" select"'
    execute(engine, f'CREATE TABLE {table} ("User" text, "no" bigint, "a % title" text, PRIMARY KEY ("User", "no"))')
    spec = IndexSpec(
        name='Odd "Index" %',
        schema='Odd "Schema"',
        table='Order "%s" select',
        key=(KeyColumn("User", "text"), KeyColumn("no", "bigint")),
        columns=("a % title",),
        encoder=EncoderSpec.resolve("hashed:32", None),
    )
    tables = chunk_tables.build(spec)
    tables.source.metadata.create_all(engine, [tables.chunks, tables.receipts])
    execute(engine, f"""INSERT INTO {table} SELECT '[", {{' || i, i, 'text ' || i FROM generate_series(1, 3) i""")
    assert sync(engine).rows == 3
    execute(engine, f"""UPDATE {table} SET "a % title" = 'new' WHERE "no" = 2""")
    execute(engine, f"""DELETE FROM {table} WHERE "no" = 3""")
    assert sync(engine).chunks_encoded == 1
    chunks = '"Odd ""Schema"""."Odd ""Index"" %"'
    assert rows(engine, f'SELECT "no", content FROM {chunks} ORDER BY 1') == [(1, "text 1"), (2, "new")]


@pytest.mark.parametrize(
    ("key_type", "first", "second"),
    [
        ("uuid", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"),
        ("text", "''", "'ein Schlüssel, \"quoted\"'"),
        ("varchar(20)", "'a'", "'b'"),
        ("date", "'2024-02-29'", "'0099-01-01'"),
        ("date", "'infinity'", "'0044-03-15 BC'"),
        ("timestamp", "'-infinity'", "'0044-03-15 12:00 BC'"),
        ("numeric", "1.50", "-1e40"),
        ("timestamptz", "'2024-03-31 02:30+01'", "'2024-12-31 23:59:59.123456+00'"),
        ("timestamp", "'2024-03-31 02:30'", "'2024-12-31 23:59:59.5'"),
        ("numeric(12,3)", "1.500", "-7"),
        ("bytea", r"'\x00ff'", "''"),
        ("smallint", "-1", "2"),
        ("char(5)", "'ab'", "'abcde'"),
    ],
)
def test_keys_of_every_supported_type_find_their_rows(
    engine: sa.Engine, key_type: str, first: str, second: str
) -> None:
    execute(engine, f"CREATE TABLE note (k {key_type} PRIMARY KEY, words text)")
    name = {"timestamptz": "timestamp with time zone"}.get(key_type, key_type)
    spec = IndexSpec(
        name="note_semantic",
        table="note",
        key=(KeyColumn("k", name),),
        columns=("words",),
        encoder=EncoderSpec.resolve("hashed:32", None),
    )
    tables = chunk_tables.build(spec)
    tables.source.metadata.create_all(engine, [tables.chunks, tables.receipts])
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL datestyle = 'German'"))
        connection.execute(sa.text("SET LOCAL timezone = 'Asia/Kathmandu'"))
        connection.execute(sa.text("SET LOCAL bytea_output = 'escape'"))
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        driver.execute(f"INSERT INTO note VALUES ({first}, 'first'), ({second}, 'second')".encode())
    assert sync(engine).rows == 2
    assert rows(engine, "SELECT words FROM note JOIN note_semantic USING (k) WHERE content = words ORDER BY 1") == [
        ("first",),
        ("second",),
    ]


def test_keys_that_are_equal_though_their_texts_differ_lose_no_edit(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (k numeric PRIMARY KEY, words text)")
    execute(engine, "INSERT INTO note VALUES (1.0, 'first')")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)
    sync(engine)
    execute(engine, "UPDATE note SET words = 'second'")
    execute(engine, "UPDATE note SET k = 1.00")
    sync(engine)
    assert rows(engine, "SELECT content FROM note_semantic") == [("second",)]
    execute(engine, "UPDATE note SET k = 1.0, words = 'third'")
    execute(engine, "UPDATE note SET k = 1.00, words = 'fourth'")
    assert jobs(engine) == {"1.0", "1.00"}
    sync(engine)
    assert rows(engine, "SELECT content FROM note_semantic") == [("fourth",)]
    assert jobs(engine) == set()
    assert verify.verify(engine, generation_of(engine, "note_semantic")).clean
