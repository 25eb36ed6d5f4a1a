"""Publications, subscriptions and other clusters: what is replicated stops no worker, and is never worked on twice."""

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
import tenacity

from pg_semantic import database, errors
from pg_semantic.database import embedded, migrate
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, verify
from tests.conftest import VERSION, copy_of
from tests.db.library import CLEAN, Base, execute, generation_of, jobs, rows, sync, truth

PUBLICATIONS = (
    "CREATE PUBLICATION everything FOR ALL TABLES",
    "CREATE PUBLICATION schemas FOR TABLES IN SCHEMA public, semantic",
    "CREATE PUBLICATION a_few FOR TABLE semantic.mark, semantic.job, article, article_semantic",
)


@pytest.mark.parametrize("publication", PUBLICATIONS)
def test_a_publication_stops_no_sync(articles: sa.Engine, publication: str) -> None:
    execute(articles, publication)
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en'), (2, 'two', NULL, 'en')")
    sync(articles)
    execute(articles, "UPDATE article SET title = 'new' WHERE id = 1")
    execute(articles, "DELETE FROM article WHERE id = 2")
    execute(articles, "UPDATE article SET id = 3 WHERE id = 1")
    sync(articles)
    assert truth(articles) == CLEAN
    assert jobs(articles) == set()
    Base.metadata.drop_all(articles)


def test_every_table_of_ours_can_be_published(articles: sa.Engine) -> None:
    without = """
        SELECT oid::regclass::text FROM pg_class
        WHERE relkind = 'r' AND relpersistence = 'p' AND relreplident <> 'f'
          AND (relnamespace = 'semantic'::regnamespace OR relname LIKE 'article%')
          AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisprimary)
    """
    assert rows(articles, without) == []


def test_marks_are_logged(articles: sa.Engine) -> None:
    assert rows(articles, "SELECT relpersistence::text FROM pg_class WHERE oid = 'semantic.mark'::regclass") == [("p",)]


# A database that was made in another cluster.


@pytest.fixture
def moved(articles: sa.Engine) -> sa.Engine:
    """Two synced rows, one claimed job, and an edit that came past the triggers; then the cluster is another."""
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en'), (2, 'two', NULL, 'en')")
    sync(articles)
    execute(articles, "ALTER TABLE article DISABLE TRIGGER ALL")
    execute(articles, "UPDATE article SET title = 'unseen' WHERE id = 2")
    execute(articles, "ALTER TABLE article ENABLE TRIGGER ALL")
    execute(
        articles,
        "INSERT INTO semantic.job (generation_id, key, state, claim, lease_until) "
        "SELECT id, '1', 'processing', gen_random_uuid(), now() + interval '1 day' FROM semantic.generation",
    )
    execute(articles, "UPDATE semantic.cluster SET system_identifier = 1")
    return articles


def test_a_database_from_another_cluster_is_recognised_and_compared_once(
    moved: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pg_semantic"):
        sync(moved)
    assert "came from another cluster" in caplog.text
    assert truth(moved) == CLEAN
    assert jobs(moved) == set()  # the claim of a worker there was ended
    here = "SELECT system_identifier = semantic.system_identifier_v1() FROM semantic.cluster"
    assert rows(moved, here) == [(True,)]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "pg_semantic"):
        sync(moved)
    assert caplog.text == ""


def test_rows_of_two_clusters_are_those_of_another(moved: sa.Engine) -> None:
    execute(moved, "INSERT INTO semantic.cluster VALUES (semantic.system_identifier_v1())")
    sync(moved)
    assert rows(moved, "SELECT count(*) FROM semantic.cluster") == [(1,)]
    assert truth(moved) == CLEAN


def test_a_role_that_may_not_know_the_cluster_works_all_the_same(moved: sa.Engine) -> None:
    role = "worker_" + str(moved.url.database)[-8:]
    execute(moved, f"CREATE ROLE {role} LOGIN BYPASSRLS")
    execute(moved, f"GRANT ALL ON ALL TABLES IN SCHEMA semantic TO {role}")
    execute(moved, "REVOKE EXECUTE ON FUNCTION pg_control_system FROM PUBLIC")
    worker = sa.create_engine(moved.url.set(username=role))
    try:
        assert rows(worker, "SELECT semantic.adopt_cluster_v1()") == [(False,)]
    finally:
        worker.dispose()
        execute(moved, f"DROP OWNED BY {role} CASCADE")
        execute(moved, f"DROP ROLE {role}")


# Real logical replication, from one database of a server to another.


@dataclass(frozen=True)
class Pair:
    """Two databases: what is written to one is applied in the other."""

    publisher: sa.Engine
    subscriber: sa.Engine

    def subscribe(self, tables: str) -> None:
        """Replicates these tables; both have them already."""
        execute(self.publisher, f"CREATE PUBLICATION pages FOR TABLE {tables}")
        slot = f"slot_{self.publisher.url.database}"
        execute(self.publisher, "SELECT pg_create_logical_replication_slot(:slot, 'pgoutput')", slot=slot)
        to = f"host={self.publisher.url.query['host']} dbname={self.publisher.url.database} user=postgres"
        with self._autocommit() as connection:
            connection.exec_driver_sql(
                f"CREATE SUBSCRIPTION pages CONNECTION '{to}' PUBLICATION pages "
                f"WITH (create_slot = false, slot_name = '{slot}', copy_data = false)"
            )

    def unsubscribe(self) -> None:
        """Ends the replication."""
        if rows(
            self.subscriber,
            "SELECT FROM pg_subscription JOIN pg_database ON subdbid = pg_database.oid "
            "WHERE datname = current_database()",
        ):
            with self._autocommit() as connection:
                connection.exec_driver_sql("DROP SUBSCRIPTION pages")

    def apply(self, *statements: str) -> None:
        """Writes to the publisher and waits until all of it has arrived."""
        for statement in statements:
            execute(self.publisher, statement)
        [(end,)] = rows(self.publisher, "SELECT pg_current_wal_lsn()::text")
        for attempt in tenacity.Retrying(wait=tenacity.wait_fixed(0.02), stop=tenacity.stop_after_delay(30)):
            with attempt:
                arrived = "SELECT confirmed_flush_lsn >= :end FROM pg_replication_slots WHERE database = :name"
                assert rows(self.publisher, arrived, end=end, name=self.publisher.url.database) == [(True,)]

    def _autocommit(self) -> sa.Connection:
        return self.subscriber.connect().execution_options(isolation_level="AUTOCOMMIT")


@pytest.fixture(scope="module")
def logical_server() -> Iterator[sa.URL]:
    """A server of its own, whose log has what logical replication reads."""
    with tempfile.TemporaryDirectory(prefix="pg_semantic-") as folder:
        data = Path(folder) / "data"
        embedded.start(data, version=VERSION)
        embedded.stop(data)
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write("wal_level = 'logical'\nfsync = 'off'\n")
        yield sa.make_url(embedded.start(data, version=VERSION)).set(drivername="postgresql+psycopg")
        embedded.stop(data)


@pytest.fixture
def pair(logical_server: sa.URL) -> Iterator[Pair]:
    """Both databases have a table of pages with a row; that of the subscriber has a semantic index, synced."""
    with copy_of(logical_server, "template0") as here, copy_of(logical_server, "template0") as there:
        both = Pair(database.connect(here), database.connect(there))
        for engine in (both.publisher, both.subscriber):
            execute(engine, "CREATE TABLE page (id int PRIMARY KEY, body text)")
            execute(engine, "INSERT INTO page VALUES (1, 'one'), (2, 'two')")
        migrate.upgrade(both.subscriber)
        _index(both.subscriber)
        try:
            yield both
        finally:
            both.unsubscribe()
            both.publisher.dispose()
            both.subscriber.dispose()


def _index(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        spec = create_index.describe(connection, "page", columns=("body",), encoder=EncoderSpec("hashed:32", 32))
    create_index.create(engine, spec)
    sync(engine)


def test_what_another_server_replicates_is_captured_and_becomes_true(pair: Pair) -> None:
    pair.subscribe("page")
    pair.apply(
        "INSERT INTO page VALUES (3, 'three'), (4, 'four')",
        "UPDATE page SET body = 'edited' WHERE id = 1",
        "UPDATE page SET id = 20 WHERE id = 2",
        "DELETE FROM page WHERE id = 3",
    )
    assert jobs(pair.subscriber) == {"1", "2", "3", "4", "20"}
    sync(pair.subscriber)
    assert rows(pair.subscriber, "SELECT id, content FROM page_semantic ORDER BY id") == [
        (1, "edited"),
        (4, "four"),
        (20, "two"),
    ]
    assert rows(pair.subscriber, "SELECT id FROM page_semantic_receipt ORDER BY id") == [(1,), (4,), (20,)]
    assert verify.verify(pair.subscriber, generation_of(pair.subscriber, "page_semantic")).clean


def test_what_is_replicated_while_triggers_are_dropped_is_found(pair: Pair) -> None:
    pair.subscribe("page")
    execute(pair.subscriber, "DROP TRIGGER page_semantic_capture_replica ON page")
    pair.apply("DELETE FROM page WHERE id = 1", "UPDATE page SET body = 'unseen' WHERE id = 2")
    assert jobs(pair.subscriber) == set()
    sync(pair.subscriber)
    assert rows(pair.subscriber, "SELECT id, content FROM page_semantic") == [(2, "unseen")]
    assert verify.verify(pair.subscriber, generation_of(pair.subscriber, "page_semantic")).clean


@pytest.mark.parametrize("tables", ["semantic.mark", "semantic.job", "page_semantic"])
def test_a_worker_refuses_rows_of_ours_that_come_from_another_cluster(pair: Pair, tables: str) -> None:
    migrate.upgrade(pair.publisher)
    _index(pair.publisher)
    pair.subscribe(tables)
    with pytest.raises(errors.DatabaseError, match=r"'pages' writes to tables.*come from another cluster"):
        sync(pair.subscriber)
    pair.unsubscribe()
    sync(pair.subscriber)
