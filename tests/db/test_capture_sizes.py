"""Capture of statements of any size: plans that suit them all, no memory of its own, exact marks, priorities."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from tests.db.library import Article, execute, jobs, rows, sync

ROWS = 20_000
ENOUGH = "SET LOCAL statement_timeout = '15s'"  # a nested loop over that many rows takes minutes
MEGABYTE = 1 << 20
FILL = "INSERT INTO article SELECT i, 'title ' || i, 'body ' || i, 'en' FROM generate_series(1, :many) i"
FILL_ITEMS = "INSERT INTO item SELECT lpad(i::text, 2500, '0'), '' FROM generate_series(1, :many) i"
NEW_TEXT = {
    "UPDATE": "UPDATE article SET body = 'new ' || id WHERE id <= :many",
    "UPDATE of one in two": "UPDATE article SET body = body || CASE WHEN id % 2 = 0 THEN ' new' ELSE '' END "
    "WHERE id <= :many * 2",
    "ON CONFLICT": "INSERT INTO article SELECT i, '', 'new ' || i, 'en' FROM generate_series(1, :many) i "
    "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    "MERGE": "MERGE INTO article USING generate_series(1, :many) AS wanted (id) ON wanted.id = article.id "
    "WHEN MATCHED THEN UPDATE SET body = 'new ' || wanted.id",
}
MERGE = (
    "MERGE INTO article USING generate_series(1, :many) AS wanted (id) ON wanted.id = article.id "
    "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (wanted.id, 'new', NULL, 'en')"
)
OTHER_KEYS = {
    "uuid": "md5(i::text)::uuid",
    "text": "'key ' || i",
    "numeric": "i / 8.0",
    "timestamp": "'2024-01-01'::timestamp + i * interval '1 minute'",
}


@pytest.fixture
def filled(articles: sa.Engine) -> sa.Engine:
    """Twice `ROWS` rows without a mark."""
    execute(articles, FILL, many=2 * ROWS)
    execute(articles, "TRUNCATE semantic.mark")
    return articles


def index(engine: sa.Engine, table: str, *columns: str) -> None:
    """Makes a semantic index on a table that has no mapped class."""
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, table, columns=columns, encoder=EncoderSpec("hashed:32", 32), lexical=None
        )
    create_index.create(engine, spec)


def in_one_session(engine: sa.Engine, statement: str, *sizes: int) -> None:
    """Runs a statement for each size, in one session and a transaction each, in bounded time."""
    with engine.connect() as connection:
        for many in sizes:
            with connection.begin():
                connection.execute(sa.text(ENOUGH))
                connection.execute(sa.text(statement), {"many": many})


@pytest.mark.parametrize("first", [1, 10, 1000])
@pytest.mark.parametrize("kind", list(NEW_TEXT))
def test_a_large_statement_after_a_small_one_of_its_kind_takes_no_longer(
    filled: sa.Engine, kind: str, first: int
) -> None:
    in_one_session(filled, NEW_TEXT[kind], first, ROWS)
    assert len(jobs(filled)) == ROWS


def test_a_large_update_of_another_column_takes_no_longer_after_a_small_one(filled: sa.Engine) -> None:
    in_one_session(filled, "UPDATE article SET lang = 'de' WHERE id <= :many", 1, ROWS)
    assert jobs(filled) == set()


@pytest.mark.parametrize("key_type", list(OTHER_KEYS))
def test_keys_of_other_types_are_joined_in_bounded_time_too(engine: sa.Engine, key_type: str) -> None:
    execute(engine, f"CREATE TABLE note (k {key_type} PRIMARY KEY, n int, words text)")
    execute(engine, f"INSERT INTO note SELECT {OTHER_KEYS[key_type]}, i, '' FROM generate_series(1, {ROWS}) i")
    index(engine, "note", "words")
    in_one_session(engine, "UPDATE note SET words = 'new' WHERE n <= :many", 1, ROWS)
    assert len(jobs(engine)) == ROWS


def test_keys_of_several_columns_and_partitions_are_joined_in_bounded_time_too(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE event (kind text, id int, words text, PRIMARY KEY (kind, id)) PARTITION BY HASH (id)")
    for part in range(2):
        execute(engine, f"CREATE TABLE event_{part} PARTITION OF event FOR VALUES WITH (MODULUS 2, REMAINDER {part:d})")
    execute(engine, "INSERT INTO event SELECT 'k', i, '' FROM generate_series(1, :many) i", many=ROWS)
    index(engine, "event", "words")
    in_one_session(engine, "UPDATE event SET words = 'new' WHERE id <= :many", 1, ROWS)
    assert len(jobs(engine)) == ROWS


@pytest.mark.parametrize(
    "statement",
    [
        f"{FILL_ITEMS} ON CONFLICT (id) DO UPDATE SET words = 'new'",
        "UPDATE item SET words = 'new'",
        "UPDATE item SET words = 'new', id = id || '!'",
        "DELETE FROM item",
    ],
    ids=["ON CONFLICT", "UPDATE", "UPDATE of keys", "DELETE"],
)
def test_the_marks_of_a_statement_take_no_memory_for_their_number(engine: sa.Engine, statement: str) -> None:
    many = 40_000
    execute(engine, "CREATE TABLE item (id text PRIMARY KEY, words text)")
    index(engine, "item", "words")
    with engine.connect() as connection:
        assert grown(connection, FILL_ITEMS, many=many) < 40 * MEGABYTE
        connection.commit()
        execute(engine, "TRUNCATE semantic.mark")
        assert grown(connection, statement, many=many) < 40 * MEGABYTE
        assert connection.scalar(sa.text("SELECT sum(length(key)) FROM semantic.mark")) >= 100 * MEGABYTE * 0.9


def grown(connection: sa.Connection, statement: str, **binds: object) -> int:
    """Bytes of its own, not shared, by which the connection's server process grows at most in a statement."""
    status = Path(f"/proc/{connection.scalar(sa.text('SELECT pg_backend_pid()'))}/status")
    done, sizes = threading.Event(), [_private_bytes(status)]

    def watch() -> None:
        while not done.wait(0.002):
            sizes.append(_private_bytes(status))

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        connection.execute(sa.text(statement), binds)
        done.set()
        watching.result()
    return max(sizes) - sizes[0]


def _private_bytes(status: Path) -> int:
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


@pytest.mark.parametrize("kind", list(NEW_TEXT))
def test_exactly_the_rows_whose_text_changed_are_marked_also_in_a_large_statement(filled: sa.Engine, kind: str) -> None:
    texts = "SELECT id::text, concat_ws('/', title, body) FROM article"
    before = set(rows(filled, texts))
    execute(filled, NEW_TEXT[kind], many=ROWS)
    changed = sorted(key for key, _ in set(rows(filled, texts)) - before)
    assert sorted(key for (key,) in rows(filled, "SELECT key FROM semantic.mark")) == changed


def test_a_new_key_in_a_large_statement_marks_each_of_its_rows_once(filled: sa.Engine) -> None:
    execute(filled, "UPDATE article SET id = id + 100000 WHERE id = 7 OR id > :many", many=ROWS)
    marked = rows(filled, "SELECT count(*), count(DISTINCT key), min(key::int) FROM semantic.mark")
    assert marked == [(ROWS + 1, ROWS + 1, 100007)]


def test_one_new_key_marks_all_rows_of_a_large_statement(filled: sa.Engine) -> None:
    execute(filled, "UPDATE article SET id = CASE WHEN id = 7 THEN -7 ELSE id END WHERE id <= :many", many=ROWS)
    assert rows(filled, "SELECT count(*), count(DISTINCT key) FROM semantic.mark WHERE key <> '7'") == [(ROWS, ROWS)]


@pytest.mark.parametrize(
    "statement",
    [
        FILL,
        "UPDATE article SET body = 'new'",
        "UPDATE article SET id = -id",
        "DELETE FROM article",
        MERGE,
    ],
    ids=["INSERT", "UPDATE", "UPDATE of keys", "DELETE", "MERGE"],
)
def test_marks_beyond_the_first_thousand_of_a_statement_are_backfill(articles: sa.Engine, statement: str) -> None:
    if statement != FILL:
        execute(articles, FILL, many=1500)
        execute(articles, "TRUNCATE semantic.mark")
    execute(articles, statement, many=1500)
    assert rows(articles, "SELECT priority, count(*) FROM semantic.mark GROUP BY 1 ORDER BY 1") == [(0, 1000), (1, 500)]


def test_a_copy_beyond_a_thousand_rows_is_backfill(articles: sa.Engine) -> None:
    with articles.begin() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor().copy("COPY article FROM STDIN") as copy:
            for number in range(1001):
                copy.write_row((number, "title", None, "en"))
    assert rows(articles, "SELECT priority, count(*) FROM semantic.mark GROUP BY 1 ORDER BY 1") == [(0, 1000), (1, 1)]


def test_small_statements_are_edits_however_many_there_are(articles: sa.Engine) -> None:
    for start in (1, 601, 1201):
        execute(articles, FILL.replace("generate_series(1,", f"generate_series({start:d},"), many=start + 599)
    assert rows(articles, "SELECT DISTINCT priority FROM semantic.mark") == [(0,)]


def test_a_large_statement_is_synced_to_its_last_row(articles: sa.Engine) -> None:
    execute(articles, FILL, many=2500)
    assert sync(articles).rows == 2500
    assert jobs(articles) == set()


def test_capture_writes_in_no_subtransaction(articles: sa.Engine) -> None:
    with articles.begin() as connection:
        for statement in (
            "INSERT INTO article VALUES (1, 'one', NULL, 'en')",
            "UPDATE article SET title = 'two'",
            "UPDATE article SET id = 2",
            "DELETE FROM article",
            "ALTER TABLE article RENAME title TO heading",
            "INSERT INTO article VALUES (1, 'one', NULL, 'en')",
            "UPDATE article SET heading = 'two'",
        ):
            connection.execute(sa.text(statement))
        written_by = connection.execute(sa.text("SELECT xmin = pg_current_xact_id()::xid FROM semantic.mark")).all()
    assert [own for (own,) in written_by] == [True] * 6


def test_a_session_that_has_written_finds_a_column_missing_and_there_again(articles: sa.Engine) -> None:
    marked = "SELECT key FROM semantic.mark"
    with articles.connect() as connection:
        for statement in (
            FILL.replace(":many", "3"),
            "UPDATE article SET body = 'new'",
            "TRUNCATE semantic.mark",
            "ALTER TABLE article RENAME body TO words",
            "UPDATE article SET words = 'newer' WHERE id = 1",
            "ALTER TABLE article RENAME words TO body",
            "UPDATE article SET body = 'newest' WHERE id = 2",
        ):
            connection.execute(sa.text(statement))
            connection.commit()
    assert rows(articles, marked) == [(None,), ("2",)]


def test_a_plan_for_a_large_statement_is_not_compiled_for_each_small_one(articles: sa.Engine) -> None:
    configured = rows(articles, "SELECT proconfig FROM pg_proc WHERE proname = 'article_semantic_capture'")
    assert "jit=off" in configured[0][0]
    assert Article.semantic.spec.capture_name == "article_semantic_capture"
