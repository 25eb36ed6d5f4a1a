"""Semantic indexes whose chunk table is partitioned by the hash of the key: their builds, rebuilds and repairs."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from pg_semantic import database, errors, generations
from pg_semantic.index.spec import IndexSpec
from pg_semantic.operations import create_index, doctor, reindex, repair, verify
from pg_semantic.operations import status as statuses
from pg_semantic.operations.status import BuiltIndex
from pg_semantic.worker import (
    build_forecast,
    create_index_concurrently,
    partition_statistics,
    privileges,
)
from pg_semantic.worker.catalog_watcher import CatalogWatcher
from tests.conftest import copy_of
from tests.db import leaves, test_dump
from tests.db import test_cli as shell
from tests.db.leaves import INDEX, NAME, PARTITIONS, Leaf, files, is_valid
from tests.db.library import CLEAN, Article, execute, generation_of, rows, sync, truth
from tests.waiting import eventually

fill = leaves.fill  # for the fixture filled
quiet_environment = shell.quiet_environment  # a fixture of that module for this one too


@pytest.fixture(scope="module")
def articles_template(server: sa.URL, template: str) -> str:
    """The table of this module is not that of the others."""
    return template


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


def built(engine: sa.Engine) -> BuiltIndex:
    with engine.connect() as connection:
        [index] = statuses.read(connection).indexes
    assert index.built is not None
    return index.built


def build(engine: sa.Engine) -> create_index_concurrently.Built | None:
    return create_index_concurrently.build(engine, generation_of(engine, NAME).stored.vector_index, title=NAME)


def test_each_partition_has_its_part_of_the_index(synced: sa.Engine) -> None:
    assert truth(synced, Leaf.semantic.tables) == CLEAN
    assert len(files(synced)) == PARTITIONS
    assert is_valid(synced)
    assert len(rows(synced, f"SELECT tableoid FROM {NAME} GROUP BY 1")) == PARTITIONS
    assert doctor.examine(synced, ignore=["search_path"]) == []


def test_every_change_of_a_row_reaches_its_partition(synced: sa.Engine) -> None:
    execute(synced, "UPDATE leaf SET text = 'new ' || id WHERE id % 3 = 0")
    execute(synced, "UPDATE leaf SET id = id + 1000 WHERE id % 5 = 0")  # most of them move to another partition
    execute(synced, "DELETE FROM leaf WHERE id % 7 = 0")
    execute(synced, "INSERT INTO leaf VALUES (5000, 'late', 'en')")
    sync(synced)
    assert truth(synced, Leaf.semantic.tables) == CLEAN
    execute(synced, "TRUNCATE leaf CASCADE")
    assert truth(synced, Leaf.semantic.tables) == CLEAN


def test_an_interrupted_build_goes_on_where_it_was_interrupted(synced: sa.Engine) -> None:
    execute(synced, f"DROP INDEX {INDEX}")
    with synced.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for number in (0, 1):
            name = f"{NAME}_p{number}"
            text = f"CREATE INDEX {name}_vector_idx ON {name} USING hnsw (vector halfvec_cosine_ops)"
            connection.execute(sa.text(text))
    execute(synced, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{NAME}_p1_vector_idx'::regclass")
    [kept] = files(synced).items()
    assert build(synced) is not None
    assert is_valid(synced)
    assert len(files(synced)) == PARTITIONS
    assert kept in files(synced).items()
    assert build(synced) is None


def test_a_build_waits_for_no_writer_to_make_the_index_of_the_whole(synced: sa.Engine) -> None:
    execute(synced, f"DROP INDEX {INDEX}")
    with synced.connect() as writer, writer.begin():
        writer.execute(sa.text(f"LOCK TABLE {NAME} IN ROW EXCLUSIVE MODE"))
        with pytest.raises(sa.exc.DBAPIError) as caught:
            create_index_concurrently._create_on_only.__wrapped__(
                writer, generation_of(synced, NAME).stored.vector_index
            )
    assert database.is_busy_or_slow(caught.value)


def test_a_rebuild_renews_each_partition_and_drops_what_another_left(synced: sa.Engine) -> None:
    before = files(synced)
    left = f"{NAME}_p2_vector_idx_ccnew"
    execute(synced, f"CREATE INDEX {left} ON {NAME}_p2 USING hnsw (vector halfvec_cosine_ops)")
    execute(synced, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{left}'::regclass")
    assert [one.check for one in doctor.examine(synced, ignore=["search_path"])] == ["late_indexes"]
    done = reindex.reindex(synced, generation_of(synced, NAME))
    assert done.dropped == (left,)
    assert min(done.bytes_before, done.bytes_after) > PARTITIONS * 8192
    assert files(synced).keys() == before.keys()
    assert not files(synced).items() & before.items()
    assert is_valid(synced)


def test_status_knows_the_size_the_age_and_the_drift_of_all_partitions(engine: sa.Engine) -> None:
    leaves.fill(engine)  # the counters of a server are not copied with a database
    synced = engine
    [(size,)] = rows(
        synced,
        "SELECT sum(pg_relation_size(indexrelid)) FROM pg_index WHERE indexrelid::regclass::text ~ :name",
        name=f"^{NAME}_p[0-9]+_vector_idx$",
    )
    assert built(synced).bytes == size
    assert built(synced).age_seconds is not None
    eventually(lambda: built(synced).drift == 0, "the statistics of the build")
    execute(synced, "UPDATE leaf SET text = 'new ' || id WHERE id <= 100")
    sync(synced)
    eventually(lambda: built(synced).drift == pytest.approx(0.5), "the statistics of the worker")


def test_the_age_is_unknown_if_someone_else_built_a_partition_again(synced: sa.Engine) -> None:
    execute(synced, f"REINDEX INDEX {NAME}_p1_vector_idx")
    assert built(synced).age_seconds is None


def test_a_forecast_asks_for_the_memory_of_one_partition(synced: sa.Engine) -> None:
    generation = generation_of(synced, NAME)
    whole = dataclasses.replace(generation.spec, partitions=1)
    count = build_forecast.ChunkCount(1_000_000, "counted", 1_000_000_000)
    with synced.connect() as connection:
        assert build_forecast.count_chunks(connection, generation).chunks == 200
        parts, one = (build_forecast.of_spec(connection, spec, count) for spec in (generation.spec, whole))
    assert parts.memory_bytes / one.memory_bytes == pytest.approx(1 / PARTITIONS, rel=0.1)
    assert parts.index_bytes == pytest.approx(one.index_bytes, rel=0.01)
    assert f"in {PARTITIONS} partitions" in build_forecast.summary(parts)


def test_a_worker_analyzes_the_whole_table_once_it_has_changed(synced: sa.Engine) -> None:
    assert partition_statistics.follow(synced) == []
    execute(synced, "INSERT INTO leaf SELECT i, 'more ' || i, 'en' FROM generate_series(1001, 1300) AS i")
    sync(synced)
    for number in range(PARTITIONS):
        execute(synced, f"ANALYZE {NAME}_p{number}")  # as autovacuum would
    assert partition_statistics.follow(synced) == [f"public.{NAME}"]
    assert rows(synced, f"SELECT reltuples FROM pg_class WHERE oid = '{NAME}'::regclass") == [(500.0,)]
    assert partition_statistics.follow(synced) == []


def test_foreign_keys_that_were_dropped_are_restored_and_orphans_deleted(synced: sa.Engine) -> None:
    [(name,)] = rows(
        synced,
        "SELECT conname FROM pg_constraint WHERE conrelid = :name::regclass AND contype = 'f' "
        "AND conparentid = 0".replace(":name", f"'{NAME}'"),
    )
    execute(synced, f"ALTER TABLE {NAME} DROP CONSTRAINT {name}")
    execute(synced, "SET session_replication_role = replica; DELETE FROM leaf WHERE id <= 10")
    CatalogWatcher(synced).look([generation_of(synced, NAME)], at_once=True)
    sync(synced)
    CatalogWatcher(synced).look([generation_of(synced, NAME)], at_once=True)
    assert truth(synced, Leaf.semantic.tables) == CLEAN
    found = rows(
        synced, f"SELECT convalidated FROM pg_constraint WHERE conrelid = '{NAME}'::regclass AND contype = 'f'"
    )
    assert found == [(True,)]


def test_damaged_and_stale_rows_are_found_and_repaired(synced: sa.Engine) -> None:
    execute(synced, f"UPDATE {NAME} SET content = 'damaged' WHERE id = 3")
    execute(synced, f"DELETE FROM {NAME} WHERE id = 4")
    generation = generation_of(synced, NAME)
    assert verify.verify(synced, generation).damaged + verify.verify(synced, generation).missing > 0
    repair.repair(synced, generation)
    sync(synced)
    assert verify.verify(synced, generation).clean
    assert truth(synced, Leaf.semantic.tables) == CLEAN


@pytest.fixture
def reader(synced: sa.Engine) -> Iterator[str]:
    """A role of the test's own."""
    role = "reader_" + str(synced.url.database)[-8:]
    execute(synced, f"CREATE ROLE {role}")
    yield role
    execute(synced, f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_a_reader_of_the_source_reads_the_whole_but_no_partition(synced: sa.Engine, reader: str) -> None:
    execute(synced, f"GRANT SELECT ON leaf TO {reader}; GRANT SELECT ON {NAME}_p0 TO {reader}")
    privileges.follow(synced)
    with synced.connect() as connection:
        connection.execute(sa.text(f"SET ROLE {reader}"))
        assert connection.scalar(sa.text(f"SELECT count(*) FROM {NAME}")) == 200
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            connection.execute(sa.text(f"SELECT count(*) FROM {NAME}_p0"))


def test_partitions_belong_to_the_owner_of_the_source(synced: sa.Engine, reader: str) -> None:
    execute(synced, f"ALTER TABLE leaf OWNER TO {reader}")
    privileges.follow(synced)
    owners = rows(synced, f"SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname ~ '^{NAME}(_p[0-9])?$'")
    assert owners == [(reader,)]


def test_policies_of_the_source_hide_chunks_by_a_column_of_their_own(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (id uuid PRIMARY KEY, tenant int NOT NULL, text text, UNIQUE (id, tenant))")
    execute(engine, "INSERT INTO note SELECT gen_random_uuid(), i % 2, 'words ' || i FROM generate_series(1, 50) AS i")
    execute(engine, "ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    execute(engine, "CREATE POLICY mine ON note USING (tenant = CAST(current_setting('app.tenant') AS int))")
    create(engine, "note", policy_column="tenant")
    sync(engine)
    assert rows(engine, "SELECT tenant, count(*) FROM note_semantic GROUP BY 1 ORDER BY 1") == [(0, 25), (1, 25)]
    execute(engine, "UPDATE note SET tenant = 1")
    assert rows(engine, "SELECT tenant, count(*) FROM note_semantic GROUP BY 1 ORDER BY 1") == [(1, 50)]
    assert verify.verify(engine, generation_of(engine, "note_semantic")).clean


def create(engine: sa.Engine, table: str, **declared: object) -> IndexSpec:
    """Creates an index in three partitions on the column text of a table."""
    with engine.connect() as connection:
        encoder = Article.semantic.spec.encoder
        spec = create_index.describe(connection, table, columns=("text",), encoder=encoder)
    spec = dataclasses.replace(spec, partitions=3, **declared)  # type: ignore[arg-type]
    create_index.create(engine, spec)
    return spec


@pytest.mark.parametrize(
    "columns",
    [
        "id uuid PRIMARY KEY DEFAULT gen_random_uuid()",
        "id text PRIMARY KEY DEFAULT md5(random()::text)",
        'a bigint DEFAULT 1, "B" date DEFAULT now(), id serial, PRIMARY KEY (a, "B", id)',
        "id numeric(12, 2) PRIMARY KEY DEFAULT random() * 1000000000",
    ],
)
def test_keys_of_any_type_that_can_be_hashed_are_partitioned(engine: sa.Engine, columns: str) -> None:
    execute(engine, f"CREATE TABLE thing ({columns}, text text)")
    execute(engine, "INSERT INTO thing (text) SELECT 'words ' || i FROM generate_series(1, 60) AS i")
    create(engine, "thing")
    sync(engine)
    generation = generation_of(engine, "thing_semantic")
    assert verify.verify(engine, generation).clean
    assert len(rows(engine, "SELECT tableoid FROM thing_semantic GROUP BY 1")) == 3
    execute(engine, "UPDATE thing SET text = text || ' and more'")
    sync(engine)
    assert verify.verify(engine, generation).clean


def test_a_key_that_cannot_be_hashed_is_refused_and_leaves_nothing(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE thing (id bit(8) PRIMARY KEY, text text)")
    with pytest.raises(errors.PgSemanticError, match="hash"):
        create(engine, "thing")
    assert rows(engine, "SELECT relname FROM pg_class WHERE relname LIKE 'thing\\_s%'") == []


def test_a_partitioned_source_has_a_partitioned_index(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE event (id int, kind int, text text, PRIMARY KEY (kind, id)) PARTITION BY LIST (kind)")
    execute(engine, "CREATE TABLE event_1 PARTITION OF event FOR VALUES IN (1)")
    execute(engine, "CREATE TABLE event_2 PARTITION OF event FOR VALUES IN (2)")
    execute(engine, "INSERT INTO event SELECT i, 1 + i % 2, 'words ' || i FROM generate_series(1, 60) i")
    create(engine, "event")
    sync(engine)
    execute(engine, "UPDATE event SET kind = 2 WHERE id < 10")
    execute(engine, "DELETE FROM event_2 WHERE id > 50")
    sync(engine)
    generation = generation_of(engine, "event_semantic")
    assert verify.verify(engine, generation).clean
    execute(engine, "SELECT semantic.release_partition('event_1')")
    execute(engine, "ALTER TABLE event DETACH PARTITION event_1")
    assert verify.verify(engine, generation).clean


def test_an_index_follows_its_table_to_another_schema(synced: sa.Engine) -> None:
    execute(synced, "CREATE SCHEMA shop; ALTER TABLE leaf SET SCHEMA shop")
    [(moves,)] = rows(synced, "SELECT semantic.move_to_source_schema_sql_v1(id) FROM semantic.semantic_index")
    for statement in moves.split("; "):
        execute(synced, statement)
    found = rows(
        synced, "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class WHERE relname ~ 'leaf_sem.*p[0-9]'"
    )
    assert found == [("shop",)]
    assert is_valid_in(synced, "shop")


def is_valid_in(engine: sa.Engine, schema: str) -> bool:
    return rows(engine, f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{schema}.{INDEX}'::regclass") == [(True,)]


def test_copies_with_other_numbers_of_partitions_are_switched_back_and_forth(synced: sa.Engine) -> None:
    before = names(synced)
    live = generation_of(synced, NAME)
    generations.begin(synced, live, dataclasses.replace(live.spec, partitions=1))
    sync(synced)
    generations.switch(synced, NAME)
    assert generation_of(synced, NAME).spec.partitions == 1
    assert not {f"{NAME}_p0", f"{NAME}_p0_vector_idx"} & names(synced)
    generations.rollback(synced, NAME)
    assert generation_of(synced, NAME).spec.partitions == PARTITIONS
    assert {name for name in names(synced) if "__next" not in name} == before
    generations.drop(synced, NAME, "next")
    assert names(synced) == before
    sync(synced)
    assert truth(synced, Leaf.semantic.tables) == CLEAN


def test_the_commands_take_the_number_of_partitions_and_the_column_that_decides(engine: sa.Engine, dsn: str) -> None:
    execute(engine, "CREATE TABLE thing (tenant int, id int, text text, PRIMARY KEY (tenant, id))")
    execute(engine, "INSERT INTO thing SELECT i % 3, i, 'words ' || i FROM generate_series(1, 30) AS i")
    made = ("index", "create", "thing", "--columns", "text", "--encoder", "hashed:32")
    shell.ok(*made, "--partitions", "3", "--partition-by", "tenant", dsn=dsn)
    spec = generation_of(engine, "thing_semantic").spec
    assert (spec.partitions, spec.partition_by) == (3, "tenant")
    assert "in 3 partitions, built one after the other" in shell.ok("index", "forecast", "thing_semantic", dsn=dsn)
    sync(engine)
    per_tenant = rows(engine, "SELECT tenant, count(DISTINCT tableoid) FROM thing_semantic GROUP BY 1 ORDER BY 1")
    assert per_tenant == [(0, 1), (1, 1), (2, 1)]
    begun = ("generation", "begin", "thing_semantic", "--partitions", "2", "--partition-by", "none", "--yes")
    shell.ok(*begun, dsn=dsn)
    target = generations.find(engine, "thing_semantic", "next").spec
    assert (target.partitions, target.partition_by) == (2, None)


def names(engine: sa.Engine) -> set[str]:
    return {name for (name,) in rows(engine, "SELECT relname FROM pg_class WHERE relname LIKE 'leaf\\_semantic%'")}


def test_an_index_is_dropped_with_its_partitions(synced: sa.Engine) -> None:
    create_index.drop(synced, generation_of(synced, NAME).spec)
    assert names(synced) == set()


def test_a_dump_is_restored_with_its_partitions_and_indexes(server: sa.URL, synced: sa.Engine, tmp_path: Path) -> None:
    test_dump.dump(synced, tmp_path / "dump")
    with copy_of(server, "template0") as made:
        there = database.connect(made)
        test_dump.restore(there, tmp_path / "dump")
        assert is_valid(there)
        assert files(there).keys() == files(synced).keys()
        sync(there)
        assert truth(there, Leaf.semantic.tables) == CLEAN
        there.dispose()


def test_a_spec_of_an_earlier_version_has_one_partition(synced: sa.Engine) -> None:
    del synced
    data = json.loads(json.dumps(Article.semantic.spec.to_json()))
    del data["partitions"]
    assert IndexSpec.from_json(data) == Article.semantic.spec
