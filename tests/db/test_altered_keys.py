"""Key columns that are altered after their semantic index was made: adapted to, with nothing encoded again."""

import dataclasses
import logging

import pytest
import sqlalchemy as sa

from pg_semantic import database, generations, inspection, registry, sql
from pg_semantic.generations import lifecycle
from pg_semantic.spec import EncoderSpec
from pg_semantic.sync import refresh, status, verify
from pg_semantic.sync.detection import Detection
from tests.db import test_cli as shell
from tests.db.library import ENCODER, execute, generation_of, rows, sync

ALTERED = [
    ("integer", "bigint", "7", "3000000000"),
    ("smallint", "integer", "7", "70000"),
    ("smallint", "bigint", "7", "3000000000"),
    ("varchar(8)", "varchar(40)", "'short'", "'a-much-longer-key'"),
    ("varchar(8)", "text", "'short'", "'a-much-longer-key'"),
    ("char(4)", "char(12)", "'abcd'", "'abcdefgh'"),
    ("numeric(4)", "numeric(12)", "7", "123456789"),
    ("numeric(4,1)", "numeric(8,3)", "1.5", "1.625"),
    ("integer", "numeric", "7", "30000000000"),
    ("date", "timestamp", "'2026-01-02'", "'2026-01-02 03:04:05'"),
    ("timestamp(0)", "timestamp", "'2026-01-02 03:04:05'", "'2026-01-02 03:04:05.678'"),
    ("text", 'text COLLATE "C"', "'short'", "'other'"),
]


def indexed(engine: sa.Engine, key: str) -> None:
    """A table with such a key, and a semantic index of it."""
    execute(engine, f"CREATE TABLE page (id {key} PRIMARY KEY, body text)")
    create(engine)


def create(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        spec = inspection.describe(connection, "page", columns=("body",), encoder=EncoderSpec(ENCODER, 32))
    inspection.create(engine, spec)


def key_types(engine: sa.Engine) -> set[tuple[object, ...]]:
    """Type and collation of the key in the source, the chunk table and the receipts."""
    return set(
        rows(
            engine,
            "SELECT format_type(atttypid, atttypmod), attcollation FROM pg_attribute WHERE attname = 'id' "
            "AND attrelid IN ('page'::regclass, 'page_semantic'::regclass, 'page_semantic_receipt'::regclass)",
        )
    )


@pytest.mark.parametrize(("old", "new", "small", "large"), ALTERED)
def test_a_worker_adapts_to_an_altered_key_and_encodes_nothing_again(
    engine: sa.Engine, old: str, new: str, small: str, large: str
) -> None:
    indexed(engine, old)
    execute(engine, f"INSERT INTO page VALUES ({small}, 'a harbour')".replace(":", "\\:"))
    sync(engine)
    execute(engine, f"ALTER TABLE page ALTER id TYPE {new}")
    execute(engine, f"INSERT INTO page VALUES ({large}, 'a lantern')".replace(":", "\\:"))
    done = sync(engine)
    assert (done.chunks_encoded, done.rows_failed) == (1, 0)
    assert len(key_types(engine)) == 1
    execute(engine, "UPDATE page SET body = body || ' again'")
    assert sync(engine).chunks_encoded == 2
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean
    assert rows(engine, "SELECT count(*) FROM page_semantic JOIN page USING (id)") == [(2,)]
    execute(engine, f"DELETE FROM page WHERE id = {large}".replace(":", "\\:"))
    assert rows(engine, "SELECT count(*) FROM page_semantic") == [(1,)]


def test_a_key_of_several_columns_is_adapted_to(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE page (shop integer, id varchar(8), body text, PRIMARY KEY (shop, id))")
    create(engine)
    execute(engine, "INSERT INTO page VALUES (1, 'a', 'a harbour')")
    sync(engine)
    execute(engine, "ALTER TABLE page ALTER shop TYPE bigint, ALTER id TYPE text")
    execute(engine, "INSERT INTO page VALUES (3000000000, 'longer-than-eight', 'a lantern')")
    assert sync(engine).chunks_encoded == 1
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


def test_all_copies_of_an_index_are_adapted(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(engine, "integer")
    execute(engine, "INSERT INTO page VALUES (7, 'a harbour')")
    sync(engine)
    live = generation_of(engine, "page_semantic")
    generations.begin(engine, live, dataclasses.replace(live.spec, encoder=EncoderSpec("hashed:48", 48)))
    execute(engine, "ALTER TABLE page ALTER id TYPE bigint")
    execute(engine, "INSERT INTO page VALUES (3000000000, 'a lantern')")
    sync(engine)
    with engine.connect() as connection:
        copies = registry.copies(connection, "page_semantic")
    assert len(copies) == 2
    assert all(verify.verify(engine, one).clean and one.spec.key[0].type == "bigint" for one in copies)
    monkeypatch.setattr(lifecycle, "_GRACE_SECONDS", 0.0)
    generations.switch(engine, "page_semantic")
    execute(engine, "INSERT INTO page VALUES (3000000001, 'an anchor')")
    sync(engine)
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


@pytest.fixture
def large(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """A table whose key became wider, with too many chunks for a worker to write them again by itself."""
    indexed(engine, "integer")
    execute(engine, "INSERT INTO page SELECT i, 'a harbour ' || i FROM generate_series(1, 40) i")
    sync(engine)
    execute(engine, "ALTER TABLE page ALTER id TYPE bigint")
    monkeypatch.setattr(refresh, "_SMALL_BYTES", 0)
    return engine


def test_rows_that_do_not_fit_are_parked_and_the_operator_is_told_what_to_run(
    large: sa.Engine, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(large, "INSERT INTO page VALUES (3000000000, 'a lantern'), (100, 'an anchor')")
    with caplog.at_level(logging.WARNING, "pg_semantic"):
        done = sync(large)
    assert (done.rows, done.rows_failed) == (1, 1)
    told = "id is bigint there and integer in the index"
    assert told in caplog.text
    with large.connect() as connection:
        [index] = status.read(connection).indexes
    [trouble] = index.troubles
    assert trouble.kind == "key"
    assert told in trouble.reason
    assert "pg-semantic index refresh page_semantic" in trouble.reason
    assert verify.verify(large, generation_of(large, "page_semantic")).failed == 1
    assert "has the key of its table now" in shell.ok("index", "refresh", "page_semantic", dsn=dsn)
    assert "already" in shell.ok("index", "refresh", "page_semantic", dsn=dsn)
    assert sync(large).chunks_encoded == 1
    assert verify.verify(large, generation_of(large, "page_semantic")).clean


@pytest.mark.parametrize(
    ("key", "row", "other"), [("varchar(8)", "'abcdefgh'", "'abcdefgh-other'"), ("numeric(4,1)", "1.5", "1.52")]
)
def test_no_row_is_taken_for_another_whose_key_begins_alike(engine: sa.Engine, key: str, row: str, other: str) -> None:
    """A cast to a length or precision cuts without a word."""
    indexed(engine, key)
    execute(engine, f"INSERT INTO page VALUES ({row}, 'a harbour')")
    sync(engine)
    with engine.begin() as connection:
        statement = "INSERT INTO semantic.job (generation_id, key) SELECT id, :key FROM semantic.generation"
        connection.execute(sa.text(statement), {"key": other.strip("'")})
    execute(engine, f"UPDATE page SET body = 'not read' WHERE id = {row}")
    execute(engine, "DELETE FROM semantic.mark")
    assert sync(engine).chunks_encoded == 0


def test_a_key_that_something_of_the_users_depends_on_is_refused_in_words(engine: sa.Engine) -> None:
    indexed(engine, "integer")
    execute(engine, "INSERT INTO page VALUES (7, 'a harbour')")
    sync(engine)
    execute(engine, "CREATE VIEW mine AS SELECT id, content FROM page_semantic")
    execute(engine, "ALTER TABLE page ALTER id TYPE bigint")
    execute(engine, "INSERT INTO page VALUES (8, 'a lantern'), (3000000000, 'an anchor')")
    done = sync(engine)
    assert (done.rows, done.rows_failed) == (1, 1)
    execute(engine, "DROP VIEW mine")
    assert sync(engine).chunks_encoded == 1
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


def test_policies_and_search_go_on_after_a_key_was_adapted_to(engine: sa.Engine) -> None:
    indexed(engine, "integer")
    execute(engine, "ALTER TABLE page ENABLE ROW LEVEL SECURITY")
    execute(engine, "CREATE POLICY few ON page USING (id < 100)")
    execute(engine, "INSERT INTO page VALUES (7, 'a harbour'), (200, 'a lantern')")
    role = "reader_" + str(engine.url.database)[-8:]
    execute(engine, f"CREATE ROLE {role}")
    execute(engine, f"GRANT SELECT ON page TO {role}")
    sync(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT semantic.follow_rights_v1(id) FROM semantic.semantic_index"))
    execute(engine, "ALTER TABLE page ALTER body TYPE varchar(100)")
    before = rows(engine, "SELECT count(*) FROM pg_policy")
    try:
        for table, policy in (("page", "few"), ("page_semantic", "as_source"), ("page_semantic_receipt", "as_source")):
            execute(engine, f"DROP POLICY {policy} ON {table}")
        execute(engine, "ALTER TABLE page ALTER id TYPE bigint")
        execute(engine, "CREATE POLICY few ON page USING (id < 100)")
        sync(engine)
        assert len(key_types(engine)) == 1
        assert rows(engine, "SELECT count(*) FROM pg_policy") == before
        with engine.connect() as connection:
            connection.execute(sa.text(f"SET ROLE {role}"))
            assert connection.scalar(sa.text("SELECT array_agg(id) FROM page_semantic")) == [7]
            found = "SELECT array_agg(id) FROM page_semantic_search('harbour lantern', 10, 'lexical')"
            assert connection.scalar(sa.text(found)) == [7]
    finally:
        execute(engine, f"DROP OWNED BY {role}")
        execute(engine, f"DROP ROLE {role}")


def test_a_semantic_index_cannot_be_refreshed_under_a_name_that_is_unknown(engine: sa.Engine, dsn: str) -> None:
    done = shell.run("index", "refresh", "nothing", dsn=dsn)
    assert (done.returncode, "No semantic index 'nothing'" in done.stderr) == (1, True)


_LINKS = """
    SELECT CAST(CAST(conrelid AS regclass) AS text), convalidated FROM pg_constraint
    WHERE contype = 'f' AND confrelid = 'page'::regclass ORDER BY 1
"""
_LINKED = [("page_semantic", True), ("page_semantic_receipt", True)]


def step(connection: sa.Connection, name: str, generation: registry.Generation, **binds: str) -> None:
    connection.execute(sql.statement("registry", name), {"generation": generation.id} | binds)


def test_writers_go_on_while_the_tables_of_an_index_are_written_again(engine: sa.Engine) -> None:
    indexed(engine, "integer")
    execute(engine, "INSERT INTO page SELECT n, 'harbour ' || n FROM generate_series(1, 9) AS n")
    sync(engine)
    execute(engine, "ALTER TABLE page ALTER COLUMN id TYPE bigint")
    generation = generation_of(engine, "page_semantic")
    with engine.begin() as connection:
        step(connection, "unlink_key", generation)
    with engine.begin() as connection:
        step(connection, "refresh_key", generation, key='[{"name": "id", "type": "bigint"}]')
        execute(engine, "SET LOCAL lock_timeout = '1s'; DELETE FROM page WHERE id = 1")
        execute(engine, "SET LOCAL lock_timeout = '1s'; UPDATE page SET id = 20 WHERE id = 2")
        execute(engine, "SET LOCAL lock_timeout = '1s'; INSERT INTO page VALUES (1, 'a lantern')")
    for name in ("link_key", "validate_key"):
        with engine.begin() as connection:
            step(connection, name, generation)
    sync(engine)
    assert rows(engine, _LINKS) == _LINKED
    with engine.connect() as connection:
        assert verify.verify(engine, registry.find(connection, "page_semantic")).clean
    assert rows(engine, "SELECT content FROM page_semantic WHERE id = 1") == [("a lantern",)]


def test_a_worker_leaves_foreign_keys_that_a_refresh_has_dropped_to_it_and_compares_no_rows(
    engine: sa.Engine, dsn: str
) -> None:
    indexed(engine, "integer")
    execute(engine, "INSERT INTO page VALUES (1, 'a harbour')")
    sync(engine)
    execute(engine, "ALTER TABLE page ALTER COLUMN id TYPE bigint")
    generation = generation_of(engine, "page_semantic")
    worker = database.connect(dsn)
    looks: list[list[tuple[object, ...]]] = []

    def look(_: sa.Connection, __: object, statement: str, *___: object) -> None:
        if "refresh_key_v1" in statement:
            Detection(worker).look([generation], at_once=True)
            looks.append(rows(worker, _LINKS))

    sa.event.listen(engine, "before_cursor_execute", look)
    try:
        assert refresh.refresh(engine, generation)
    finally:
        sa.event.remove(engine, "before_cursor_execute", look)
        worker.dispose()
    assert looks == [[]]
    assert rows(engine, _LINKS) == _LINKED
    assert rows(engine, "SELECT stale_reason FROM semantic.generation WHERE stale_reason LIKE '%foreign keys%'") == []


def test_foreign_keys_are_back_whether_or_not_the_tables_could_be_adapted(engine: sa.Engine) -> None:
    indexed(engine, "integer")
    execute(engine, "INSERT INTO page VALUES (1, 'a harbour')")
    sync(engine)
    execute(engine, "ALTER TABLE page ALTER COLUMN id TYPE bigint; CREATE VIEW mine AS SELECT id FROM page_semantic")
    with pytest.raises(sa.exc.DBAPIError):
        refresh.refresh(engine, generation_of(engine, "page_semantic"))
    assert rows(engine, _LINKS) == _LINKED
    execute(engine, "DROP VIEW mine")
    assert refresh.refresh(engine, generation_of(engine, "page_semantic"))
    assert rows(engine, _LINKS) == _LINKED
