"""Partitioned sources: every way in is captured, or caught by `verify` and mended by `repair`."""

import pytest
import sqlalchemy as sa

from pg_semantic.index import chunk_tables
from pg_semantic.operations import create_index, repair, verify
from pg_semantic.worker.catalog_watcher import CatalogWatcher
from tests.db.library import Article, execute, generation_of, jobs, rows, sync

NAME = "event_semantic"


@pytest.fixture
def events(engine: sa.Engine) -> sa.Engine:
    """A table in two partitions, the second of which is partitioned itself; six synced rows."""
    execute(
        engine, "CREATE TABLE event (id int, kind int, words text, PRIMARY KEY (kind, id)) PARTITION BY LIST (kind)"
    )
    execute(engine, "CREATE TABLE event_1 PARTITION OF event FOR VALUES IN (1)")
    execute(engine, "CREATE TABLE event_2 PARTITION OF event FOR VALUES IN (2, 3) PARTITION BY RANGE (id)")
    execute(engine, "CREATE TABLE event_2_low PARTITION OF event_2 FOR VALUES FROM (0) TO (100)")
    execute(engine, "CREATE TABLE event_2_high PARTITION OF event_2 FOR VALUES FROM (100) TO (200)")
    execute(engine, "INSERT INTO event SELECT i, 1 + i % 2, 'words ' || i FROM generate_series(1, 6) i")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "event", columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)
    sync(engine)
    assert chunks(engine) == texts(engine)
    return engine


def chunks(engine: sa.Engine) -> set[tuple[object, ...]]:
    return set(rows(engine, "SELECT kind, id, content FROM event_semantic"))


def texts(engine: sa.Engine) -> set[tuple[object, ...]]:
    return set(rows(engine, "SELECT kind, id, words FROM event"))


def tables(engine: sa.Engine) -> chunk_tables.Tables:
    return chunk_tables.build(generation_of(engine, NAME).spec)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO event VALUES (7, 1, 'seven')",
        "INSERT INTO event_1 VALUES (7, 1, 'seven')",
        "INSERT INTO event_2 VALUES (8, 2, 'eight')",
        "INSERT INTO event_2_high VALUES (108, 2, 'eight')",
        "UPDATE event SET words = 'new ' || id",
        "UPDATE event_2_low SET words = 'new ' || id",
        "UPDATE event_1 SET id = id + 50",
        "UPDATE event SET kind = 2 WHERE kind = 1 AND id = 2",
        "UPDATE event SET id = 150, words = 'moved' WHERE kind = 2 AND id = 3",
        "DELETE FROM event WHERE id < 4",
        "DELETE FROM event_2_low WHERE id < 4",
        "INSERT INTO event_1 VALUES (2, 1, 'upsert') ON CONFLICT (kind, id) DO UPDATE SET words = excluded.words",
        "TRUNCATE event CASCADE",
        "TRUNCATE event_1 CASCADE",
    ],
)
def test_what_is_written_to_the_parent_or_straight_to_a_partition_is_synced(events: sa.Engine, statement: str) -> None:
    execute(events, statement)
    sync(events)
    assert chunks(events) == texts(events)
    assert verify.verify(events, generation_of(events, NAME)).clean
    assert jobs(events) == set()


def test_an_update_of_other_columns_of_a_partition_makes_no_job(events: sa.Engine) -> None:
    execute(events, "UPDATE event_2_low SET words = words")
    assert jobs(events) == set()


def test_a_partition_that_is_attached_later_is_reported_by_verify_and_captured_by_repair(events: sa.Engine) -> None:
    execute(events, "CREATE TABLE event_4 (LIKE event INCLUDING ALL)")
    execute(events, "INSERT INTO event_4 VALUES (1, 4, 'came along')")
    execute(events, "ALTER TABLE event ATTACH PARTITION event_4 FOR VALUES IN (4)")
    execute(events, "INSERT INTO event VALUES (2, 4, 'through the parent')")
    execute(events, "INSERT INTO event_4 VALUES (3, 4, 'straight')")
    report = verify.verify(events, generation_of(events, NAME))
    assert report.uncaptured == ["public.event_4"]
    assert (report.missing, report.waiting) == (2, 1)
    assert rows(events, "SELECT uncaptured FROM semantic.index_status") == [(1,)]

    repair.repair(events, generation_of(events, NAME))
    execute(events, "UPDATE event_4 SET words = 'edited' WHERE id = 3")
    sync(events)
    assert chunks(events) == texts(events)
    assert verify.verify(events, generation_of(events, NAME)).clean


NEW = "CREATE TABLE event_4 PARTITION OF event FOR VALUES IN (4)"
NOT_CAPTURED = "public.event_4 was not captured before"


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ([NEW], None),
        ([f"{NEW} PARTITION BY RANGE (id)", "CREATE TABLE event_4_low PARTITION OF event_4 DEFAULT"], None),
        (
            [
                "SELECT semantic.release_partition('event_1')",
                "ALTER TABLE event DETACH PARTITION event_1",
                "DROP TABLE event_1",
            ],
            None,
        ),
        (["SELECT semantic.release_partition('event_2')", "ALTER TABLE event DETACH PARTITION event_2"], None),
        ([NEW, "INSERT INTO event_4 VALUES (1, 4, 'straight')"], NOT_CAPTURED),
        ([NEW, "INSERT INTO event_4 VALUES (1, 4, 'came and went')", "DELETE FROM event_4"], NOT_CAPTURED),
        (["DROP TABLE event_1 CASCADE"], "its foreign keys were dropped"),
    ],
)
def test_a_partition_that_comes_empty_or_goes_released_starts_no_reconcile(
    events: sa.Engine, statements: list[str], said: str | None
) -> None:
    for statement in statements:
        execute(events, statement)
    CatalogWatcher(events).look([generation_of(events, NAME)], at_once=True)
    assert rows(events, "SELECT stale_reason FROM semantic.generation") == [(said,)]
    assert rows(events, "SELECT changes FROM semantic.detect_changes_past_capture_v1()") == [(None,)]
    if statements[0].startswith(NEW):
        execute(events, "INSERT INTO event VALUES (5, 4, 'new')")
    sync(events)
    assert chunks(events) == texts(events)
    assert verify.verify(events, generation_of(events, NAME)).clean


def test_the_estimate_of_rows_is_over_all_partitions(events: sa.Engine) -> None:
    for table in ("event_1", "event_2_low", "event_2_high"):
        execute(events, f"ANALYZE {table}")
    assert rows(events, "SELECT rows_estimate FROM semantic.index_status") == [(6,)]


def test_a_change_of_a_partition_is_marked_once_after_all_its_triggers_were_enabled(events: sa.Engine) -> None:
    execute(events, "ALTER TABLE event_1 ENABLE TRIGGER ALL")
    execute(events, "UPDATE event_1 SET words = 'new' WHERE id = 2")
    assert len(rows(events, "SELECT key FROM semantic.mark")) == 1


def test_what_came_past_the_triggers_of_the_last_of_many_partitions_is_found(events: sa.Engine) -> None:
    execute(events, "INSERT INTO event VALUES (150, 2, 'high')")
    sync(events)
    trigger = "TRIGGER event_semantic_capture_update"
    for statement in (f"DISABLE {trigger}", None, f"ENABLE {trigger}"):
        execute(
            events, f"ALTER TABLE event_2_high {statement}" if statement else "UPDATE event_2_high SET words = 'new'"
        )
    sync(events)
    assert chunks(events) == texts(events)


def test_a_worker_that_owns_the_table_and_not_the_capture_function_captures_new_partitions(events: sa.Engine) -> None:
    role = "worker_" + str(events.url.database)[-8:]
    execute(events, f"CREATE ROLE {role} LOGIN BYPASSRLS")
    execute(events, f"GRANT USAGE, CREATE ON SCHEMA public, semantic TO {role}")
    execute(events, f"GRANT ALL ON ALL TABLES IN SCHEMA semantic TO {role}")
    for table in ("event", "event_1", "event_2", "event_2_low", "event_2_high"):
        execute(events, f"ALTER TABLE {table} OWNER TO {role}")
    execute(events, "SELECT semantic.apply_privileges_v1(id) FROM semantic.semantic_index")
    worker = sa.create_engine(events.url.set(username=role), connect_args={"prepare_threshold": None})
    try:
        execute(worker, "CREATE TABLE event_4 PARTITION OF event FOR VALUES IN (4)")
        execute(worker, "INSERT INTO event_4 VALUES (1, 4, 'not captured')")
        sync(worker)
        assert chunks(events) == texts(events)
        assert rows(events, "SELECT uncaptured FROM semantic.index_status") == [(0,)]
        execute(worker, "INSERT INTO event_4 VALUES (2, 4, 'straight')")
        assert len(jobs(events)) == 1
    finally:
        worker.dispose()
        execute(events, f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        execute(events, f"DROP OWNED BY {role} CASCADE")
        execute(events, f"DROP ROLE {role}")
