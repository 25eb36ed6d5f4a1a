"""Key columns that are altered after their semantic index was made: adapted to, with nothing encoded again."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pg_semantic import database, errors, generations, registry, sql
from pg_semantic.database import transaction
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, doctor, status, verify
from pg_semantic.worker import key_changes, problems
from pg_semantic.worker.catalog_watcher import CatalogWatcher
from pg_semantic.worker.key_changes import KeyAdapter
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


def indexed(engine: sa.Engine, key: str, *, partitions: int = 1) -> None:
    """A table with such a key, and a semantic index of it."""
    execute(engine, f"CREATE TABLE page (id {key} PRIMARY KEY, body text)")
    create(engine, partitions=partitions)


def create(engine: sa.Engine, *, partitions: int = 1) -> None:
    encoder = EncoderSpec(ENCODER, 32)
    with engine.connect() as connection:
        spec = create_index.describe(connection, "page", columns=("body",), encoder=encoder, partitions=partitions)
    create_index.create(engine, spec)


def key_types(engine: sa.Engine) -> set[tuple[object, ...]]:
    """Type and collation of the key in the source, the chunk table and the receipts."""
    return set(
        rows(
            engine,
            "SELECT format_type(atttypid, atttypmod), attcollation FROM pg_attribute WHERE attname = 'id' "
            "AND attrelid IN ('page'::regclass, 'page_semantic'::regclass, 'page_semantic_receipt'::regclass)",
        )
    )


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize(("old", "new", "small", "large"), ALTERED)
def test_a_worker_adapts_to_an_altered_key_and_encodes_nothing_again(
    engine: sa.Engine, old: str, new: str, small: str, large: str, partitions: int
) -> None:
    indexed(engine, old, partitions=partitions)
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


def test_all_copies_of_an_index_are_adapted(engine: sa.Engine) -> None:
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
    monkeypatch.setattr(key_changes, "_SMALL_BYTES", 0)
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
    [problem] = index.problems
    assert problem.kind == "key"
    assert told in problem.reason
    assert "pg-semantic index refresh page_semantic" in problem.reason
    assert verify.verify(large, generation_of(large, "page_semantic")).failed == 1
    assert "now matches the key of its table" in shell.ok("index", "refresh", "page_semantic", dsn=dsn)
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


UNCASTABLE = """
ALTER TABLE page_semantic DROP CONSTRAINT page_semantic_id_fkey;
ALTER TABLE page_semantic_receipt DROP CONSTRAINT page_semantic_receipt_id_fkey;
ALTER TABLE page DROP COLUMN id, ADD COLUMN id uuid PRIMARY KEY DEFAULT gen_random_uuid()
"""


def test_a_key_to_which_no_old_one_can_be_cast_is_said_to_need_another_index(
    engine: sa.Engine, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    indexed(engine, "integer")
    execute(engine, "INSERT INTO page VALUES (7, 'a harbour')")
    sync(engine)
    for statement in UNCASTABLE.split(";"):
        execute(engine, statement)
    advised = "`pg-semantic index drop page_semantic`, then create the index again"
    with caplog.at_level(logging.WARNING, "pg_semantic"), contextlib.suppress(errors.PgSemanticError):
        sync(engine)
    assert advised in caplog.text
    assert advised in shell.error("index", "refresh", "page_semantic", dsn=dsn)
    [finding] = [one for one in doctor.examine(engine) if one.check == "key_types"]
    assert "pg-semantic index drop page_semantic" in finding.repair
    shell.ok("index", "drop", "page_semantic", "--yes", dsn=dsn)
    create(engine)
    sync(engine)
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


def test_a_key_of_text_that_became_a_uuid_is_adapted_to(engine: sa.Engine) -> None:
    indexed(engine, "text")
    execute(engine, "INSERT INTO page VALUES (gen_random_uuid(), 'a harbour')")
    sync(engine)
    for statement in UNCASTABLE.split(";")[:2]:
        execute(engine, statement)
    execute(engine, "ALTER TABLE page ALTER id TYPE uuid USING CAST(id AS uuid)")
    assert sync(engine).chunks_encoded == 0
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


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
        connection.execute(sa.text("SELECT semantic.apply_privileges_v1(id) FROM semantic.semantic_index"))
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
        if "refresh_key_2_alter_types_v1" in statement:
            CatalogWatcher(worker).look([generation], at_once=True)
            looks.append(rows(worker, _LINKS))

    sa.event.listen(engine, "before_cursor_execute", look)
    try:
        assert key_changes.refresh(engine, generation)
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
        key_changes.refresh(engine, generation_of(engine, "page_semantic"))
    assert rows(engine, _LINKS) == _LINKED
    execute(engine, "DROP VIEW mine")
    assert key_changes.refresh(engine, generation_of(engine, "page_semantic"))
    assert rows(engine, _LINKS) == _LINKED


@pytest.fixture
def altered(engine: sa.Engine) -> sa.Engine:
    """A small table whose key became wider."""
    indexed(engine, "integer")
    execute(engine, "INSERT INTO page VALUES (1, 'a harbour')")
    sync(engine)
    execute(engine, "ALTER TABLE page ALTER COLUMN id TYPE bigint")
    return engine


@pytest.fixture
def looking(altered: sa.Engine) -> KeyAdapter:
    """What looks at it each time that it is asked, and tries again at once."""
    return KeyAdapter(altered, look_seconds=0.0)


def key_problem(engine: sa.Engine) -> problems.Problem:
    """What a person who asks for the status is told, with the timeouts that the command has."""
    with transaction.begin(engine) as connection:
        [index] = status.read(connection).indexes
    [found] = index.problems
    assert found.kind == "key"
    return found


@pytest.fixture
def exclusive(altered: sa.Engine) -> Iterator[sa.Connection]:
    """Another session that writes the tables of the index again, and is not done."""
    with altered.connect() as connection:
        connection.execute(sa.text("LOCK TABLE page_semantic, page_semantic_receipt IN ACCESS EXCLUSIVE MODE"))
        yield connection


@pytest.mark.usefixtures("exclusive")
def test_a_worker_and_the_status_go_on_while_another_adapts_an_index(altered: sa.Engine, looking: KeyAdapter) -> None:
    assert not looking.look()
    found = key_problem(altered)
    assert "are in use by other transactions" in found.reason
    assert found.failures == 1


def test_a_worker_adapts_once_the_other_is_done(
    altered: sa.Engine, looking: KeyAdapter, exclusive: sa.Connection
) -> None:
    assert not looking.look()
    exclusive.rollback()
    assert looking.look()
    with altered.connect() as connection:
        [index] = status.read(connection).indexes
    assert index.problems == []


def test_a_worker_waits_for_no_transaction_that_has_the_source(altered: sa.Engine, looking: KeyAdapter) -> None:
    with altered.connect() as idle:
        idle.execute(sa.text("SELECT FROM page"))
        began = time.monotonic()
        assert not looking.look()
        assert time.monotonic() - began < 10  # by default 30 seconds are waited
    assert "are in use by other transactions" in key_problem(altered).reason


def test_an_attempt_that_failed_is_put_off_for_twice_as_long_each_time(altered: sa.Engine) -> None:
    execute(altered, "CREATE VIEW mine AS SELECT id FROM semantic.chunks_1")  # our own view cannot be dropped
    waits = []
    for _ in range(3):
        KeyAdapter(altered, again_seconds=100.0).look()
        KeyAdapter(altered, again_seconds=100.0).look()  # too early
        waits.append(round(key_problem(altered).next_seconds, -1))
        execute(altered, "UPDATE semantic.problem SET next_at = now()")
    assert waits == [100, 200, 400]
    assert key_problem(altered).failures == 3
    assert rows(altered, _LINKS) == _LINKED


@pytest.mark.parametrize(
    "dependent",
    [
        "CREATE VIEW mine AS SELECT id FROM page_semantic",
        "CREATE POLICY mine ON page_semantic USING (id > 0)",
        "CREATE TRIGGER mine BEFORE UPDATE OF id ON page_semantic EXECUTE FUNCTION tsvector_update_trigger()",
        "CREATE FUNCTION mine() RETURNS bigint BEGIN ATOMIC SELECT max(id) FROM page_semantic_receipt; END",
    ],
)
def test_foreign_keys_stay_where_the_server_would_refuse_to_alter_the_tables(
    altered: sa.Engine, looking: KeyAdapter, dependent: str
) -> None:
    execute(altered, dependent)
    with pytest.raises(sa.exc.DBAPIError):
        key_changes.refresh(altered, generation_of(altered, "page_semantic"))
    before = rows(altered, "SELECT oid FROM pg_constraint WHERE contype = 'f' ORDER BY oid")
    assert not looking.look()
    assert rows(altered, "SELECT oid FROM pg_constraint WHERE contype = 'f' ORDER BY oid") == before
    assert "mine" in key_problem(altered).reason


def test_the_problem_with_a_key_is_forgotten_when_the_source_has_the_old_key_again(
    altered: sa.Engine, looking: KeyAdapter
) -> None:
    with altered.connect() as idle:
        idle.execute(sa.text("SELECT FROM page"))
        assert not looking.look()
    execute(altered, "ALTER TABLE page ALTER COLUMN id TYPE integer")
    assert not looking.look()
    assert rows(altered, "SELECT kind FROM semantic.problem") == []


def test_a_worker_leaves_a_large_table_to_the_operator_whatever_its_key(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed(engine, "varchar(8)")
    execute(engine, "INSERT INTO page VALUES ('short', 'a harbour')")
    sync(engine)
    execute(engine, "ALTER TABLE page ALTER id TYPE text")
    monkeypatch.setattr(key_changes, "_SMALL_BYTES", 0)
    assert not KeyAdapter(engine).look()
    assert "pg-semantic index refresh page_semantic" in key_problem(engine).reason


def test_toast_and_indexes_count_for_the_size_of_a_table(altered: sa.Engine) -> None:
    size = "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 't', 'i') AND ({})"
    own = "oid = 'page_semantic'::regclass"
    all_of_it = (
        f"{own} OR oid IN (SELECT reltoastrelid FROM pg_class WHERE {own}) OR oid IN (SELECT indexrelid FROM pg_index "
        f"WHERE indrelid = 'page_semantic'::regclass OR indrelid IN (SELECT reltoastrelid FROM pg_class WHERE {own}))"
    )
    long = "SELECT string_agg(md5(CAST(i AS text)), '') FROM generate_series(1, 9999) AS i"
    execute(altered, f"UPDATE page_semantic SET content = ({long})")
    with altered.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("VACUUM ANALYZE page_semantic"))
        [[whole]], [[heap]] = rows(altered, size.format(all_of_it)), rows(altered, size.format(own))
        small = [
            connection.execute(sql.statement("registry", "altered_keys"), {"small": limit}).one().small
            for limit in (int(whole) // 2, int(whole) * 2)
        ]
    assert heap < whole // 2
    assert small == [False, True]
