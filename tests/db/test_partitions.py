"""Partitioned sources: every way in is captured, or caught by `verify` and mended by `repair`."""

import pytest
import sqlalchemy as sa

from pg_semantic import inspection, schema
from pg_semantic.sync import repair, verify
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
        spec = inspection.describe(connection, "event", columns=("words",), encoder=Article.semantic.spec.encoder)
    inspection.create(engine, spec)
    sync(engine)
    assert chunks(engine) == texts(engine)
    return engine


def chunks(engine: sa.Engine) -> set[tuple[object, ...]]:
    return set(rows(engine, "SELECT kind, id, content FROM event_semantic"))


def texts(engine: sa.Engine) -> set[tuple[object, ...]]:
    return set(rows(engine, "SELECT kind, id, words FROM event"))


def tables(engine: sa.Engine) -> schema.Tables:
    return schema.build(generation_of(engine, NAME).spec)


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
    assert report.uncaptured == ["event_4"]
    assert (report.missing, report.waiting) == (2, 1)
    assert rows(events, "SELECT uncaptured FROM semantic.index_status") == [(1,)]

    repair.repair(events, generation_of(events, NAME))
    execute(events, "UPDATE event_4 SET words = 'edited' WHERE id = 3")
    sync(events)
    assert chunks(events) == texts(events)
    assert verify.verify(events, generation_of(events, NAME)).clean


def test_the_estimate_of_rows_is_over_all_partitions(events: sa.Engine) -> None:
    for table in ("event_1", "event_2_low", "event_2_high"):
        execute(events, f"ANALYZE {table}")
    assert rows(events, "SELECT rows_estimate FROM semantic.index_status") == [(6,)]
