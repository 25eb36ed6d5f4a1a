"""DDL between edits, in any order: one run of a worker makes every row true, or status says why it is not."""

import contextlib
from typing import ClassVar

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import exc

from pg_semantic import database, errors, registry
from pg_semantic.operations import create_index, status, verify
from pg_semantic.registry import Generation
from pg_semantic.worker.catalog_watcher import CatalogWatcher
from tests.conftest import copy_of
from tests.db.library import Article, execute, rows, sync

pytestmark = pytest.mark.slow

KEYS = st.integers(0, 39)
WORDS = st.sampled_from(["a harbour", "a lantern", "two words", "marble", ""])
EVENTS = st.sampled_from(["insert", "update", "delete", "truncate", "replica"])
# Rows that are referred to or are there twice, and tables, partitions and triggers that are not there, or are already.
REFUSED = ("23", "2BP01", "42P01", "42P07", "42P16", "42P17", "42704", "0A000", "55000", "42809")

# Why rows may be untrue after a worker has run: an operator disabled triggers, or a swapped table was not adopted yet.
REASONS = ("are disabled", "pg-semantic index adopt")


def made(engine: sa.Engine) -> None:
    """Both tables with their indexes, empty."""
    execute(engine, "CREATE TABLE plain (id int PRIMARY KEY, body varchar(100))")
    execute(engine, "CREATE TABLE parted (id int PRIMARY KEY, body varchar(100)) PARTITION BY RANGE (id)")
    for number in range(4):
        partition = f"CREATE TABLE parted_{number} PARTITION OF parted FOR VALUES FROM ({number}0) TO ({number + 1}0)"
        execute(engine, partition)
    for table in ("plain", "parted"):
        with engine.connect() as connection:
            encoder = Article.semantic.spec.encoder
            spec = create_index.describe(connection, table, columns=("body",), encoder=encoder, lexical=None)
        create_index.create(engine, spec)


class Machine(RuleBasedStateMachine):
    """Edits and DDL; what Postgres refuses, as a partition that has chunks is not detached, is left undone."""

    server: ClassVar[sa.URL]
    template: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.life = contextlib.ExitStack()
        self.engine = database.connect(self.life.enter_context(copy_of(self.server, self.template)))
        self.life.callback(self.engine.dispose)
        made(self.engine)

    def does(self, *statements: str) -> bool:
        """Runs statements in one transaction; whether Postgres let them through."""
        try:
            with self.engine.begin() as connection:
                for statement in statements:
                    connection.execute(sa.text(statement))
        except exc.DBAPIError as error:
            if not (database.sqlstate(error) or "").startswith(REFUSED):
                raise
            return False
        return True

    def named(self, stem: str) -> str:
        """A name that no table has."""
        self.count += 1
        return f"{stem}_{self.count}"

    # Edits: of a table, or straight of a partition.

    @rule(table=st.sampled_from(["plain", "parted", "parted_0", "parted_1"]), key=KEYS, words=WORDS)
    def write(self, table: str, key: int, words: str) -> None:
        upsert = f"INSERT INTO {table} VALUES ({key}, '{words}') ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        self.does(upsert)

    @rule(table=st.sampled_from(["plain", "parted", "parted_0"]), key=KEYS)
    def delete(self, table: str, key: int) -> None:
        self.does(f"DELETE FROM {table} WHERE id % 10 = {key % 10}")

    @rule(table=st.sampled_from(["plain", "parted"]), key=KEYS, to=KEYS)
    def move(self, table: str, key: int, to: int) -> None:
        self.does(f"UPDATE {table} SET id = {to}, body = body || '!' WHERE id = {key}")

    @rule(table=st.sampled_from(["plain", "parted"]), words=WORDS)
    def fill(self, table: str, words: str) -> None:
        self.does(f"INSERT INTO {table} SELECT i, '{words} ' || i FROM generate_series(0, 39) i ON CONFLICT DO NOTHING")

    @rule(
        table=st.sampled_from(["plain", "parted", "parted_1"]),
        change=st.sampled_from(["SET body = 'unseen'", "SET id = id + 1", "DELETE"]),
        key=KEYS,
    )
    def write_as_a_replica(self, table: str, change: str, key: int) -> None:
        what = f"DELETE FROM {table}" if change == "DELETE" else f"UPDATE {table} {change}"
        self.does("SET LOCAL session_replication_role = replica", f"{what} WHERE id = {key}")

    # DDL.

    @rule(table=st.sampled_from(["plain", "parted", "parted_0"]))
    def truncate(self, table: str) -> None:
        self.does(f"TRUNCATE {table} CASCADE")

    @rule(table=st.sampled_from(["plain", "parted"]))
    def rename(self, table: str) -> None:
        """And back, with an edit between: what is renamed alone is followed."""
        other = self.named("renamed")
        if self.does(f"ALTER TABLE {table} RENAME TO {other}"):
            self.does(f"UPDATE {other} SET body = body || '?' WHERE id % 7 = 0")
            self.does(f"ALTER TABLE {other} RENAME TO {table}")

    @rule(table=st.sampled_from(["plain", "parted"]), dropped=st.booleans(), run=st.booleans())
    def swap(self, table: str, dropped: bool, run: bool) -> None:
        """Another table takes the name, and a person adopts it, sooner or later."""
        old = self.named("old")
        new = f"CREATE TABLE {table} (id int PRIMARY KEY, body varchar(100))"
        away = f"DROP TABLE {table} CASCADE" if dropped else f"ALTER TABLE {table} RENAME TO {old}"
        fill = f"INSERT INTO {table} SELECT i, 'swapped ' || i FROM generate_series(0, 30, 3) i"
        if table == "parted" or not self.does(away, new, fill):
            return
        if run:
            self.work()
            self.is_true_or_named()
        create_index.adopt(self.engine, self.index(table))

    @rule(number=st.integers(0, 3), how=st.sampled_from(["DROP", "CASCADE", "released", "DETACH"]))
    def take_a_partition_away(self, number: int, how: str) -> None:
        name = f"parted_{number}"
        if how == "released":
            self.does(
                f"SELECT semantic.release_partition('{name}')",
                f"ALTER TABLE parted DETACH PARTITION {name}",
                f"DROP TABLE {name}",
            )
        elif how == "DETACH":
            if self.does(f"ALTER TABLE parted DETACH PARTITION {name}"):
                self.does(f"DROP TABLE {name}")
        else:
            self.does(f"DROP TABLE {name} {'CASCADE' if how == 'CASCADE' else ''}")

    @rule(number=st.integers(0, 3), words=WORDS)
    def attach_a_partition_with_rows(self, number: int, words: str) -> None:
        name = f"parted_{number}"
        self.does(
            f"CREATE TABLE {name} (id int PRIMARY KEY, body varchar(100))",
            f"INSERT INTO {name} SELECT {number}0 + i, '{words} attached' FROM generate_series(0, 9, 2) i",
            f"ALTER TABLE parted ATTACH PARTITION {name} FOR VALUES FROM ({number}0) TO ({number + 1}0)",
        )

    @rule(
        table=st.sampled_from(["plain", "parted", "parted_0"]),
        event=EVENTS,
        how=st.sampled_from(["DISABLE", "ENABLE", "ENABLE ALWAYS", "ENABLE REPLICA", "toggle", "DROP"]),
        words=WORDS,
    )
    def change_a_trigger(self, table: str, event: str, how: str, words: str) -> None:
        name = f"{'plain' if table == 'plain' else 'parted'}_semantic_capture_{event}"
        edit = f"UPDATE {table} SET body = '{words} with a trigger changed' WHERE id % 2 = 0"
        if how == "toggle":
            self.does(f"ALTER TABLE {table} DISABLE TRIGGER {name}", edit, f"ALTER TABLE {table} ENABLE TRIGGER {name}")
        elif how == "DROP":
            self.does(f"DROP TRIGGER {name} ON {table}", edit)
        else:
            self.does(f"ALTER TABLE {table} {how} TRIGGER {name}")

    @rule(table=st.sampled_from(["plain", "parted"]), words=WORDS)
    def load_without_triggers(self, table: str, words: str) -> None:
        """As pg_restore --disable-triggers does."""
        self.does(
            f"ALTER TABLE {table} DISABLE TRIGGER ALL",
            f"UPDATE {table} SET body = '{words} loaded' WHERE id % 3 = 0",
            f"DELETE FROM {table} WHERE id % 5 = 4",
            f"ALTER TABLE {table} ENABLE TRIGGER ALL",
        )

    @rule(table=st.sampled_from(["plain", "parted"]))
    def drop_the_functions(self, table: str) -> None:
        self.does(f"DROP FUNCTION IF EXISTS {table}_semantic_capture CASCADE")

    @rule(table=st.sampled_from(["plain", "parted"]), length=st.sampled_from(["varchar(90)", "text", "varchar(100)"]))
    def alter_the_type(self, table: str, length: str) -> None:
        self.does(f"ALTER TABLE {table} ALTER COLUMN body TYPE {length} USING left(upper(body), 60)")

    @rule(table=st.sampled_from(["plain", "parted"]))
    def swap_the_columns(self, table: str) -> None:
        self.does(
            f"ALTER TABLE {table} ADD COLUMN other varchar(100) DEFAULT 'the other'",
            f"ALTER TABLE {table} RENAME COLUMN body TO was",
            f"ALTER TABLE {table} RENAME COLUMN other TO body",
            f"ALTER TABLE {table} DROP COLUMN was",
        )

    @rule()
    def publish(self) -> None:
        self.does(f"CREATE PUBLICATION {self.named('pub')} FOR ALL TABLES")

    # Work, and what must hold after it.

    @rule()
    def work(self) -> None:
        try:
            sync(self.engine, poll_seconds=0.001)
        except errors.DeclarationError as error:
            assert "was dropped" in str(error)  # noqa: PT017 - a swap that nobody has adopted yet

    def teardown(self) -> None:
        with self.life:
            self.work()
            self.is_true_or_named()

    def is_true_or_named(self) -> None:
        with self.engine.connect() as connection:
            found = {one.name: one for one in status.read(connection).indexes}
        assert len(found) == 2
        for generation in self.generations():
            report = verify.verify(self.engine, generation)
            wrong = (report.missing, report.stale, report.damaged, report.orphan)
            named = found[generation.name].capture_problem
            if named:  # nothing that a worker could have put right by itself
                assert all(any(reason in one for reason in REASONS) for one in named.split("; ")), named
            assert not any(wrong) or named, (report, found[generation.name])
            if named is None:
                assert report.clean, report
                self._has_the_very_texts(generation)

    def _has_the_very_texts(self, generation: Generation) -> None:
        """Looks without the code under test: every text has its chunk, and there is no other."""
        spec = generation.spec
        texts = rows(self.engine, f"SELECT id, trim(body) FROM {spec.table} WHERE trim(body) <> '' ORDER BY id")
        assert rows(self.engine, f"SELECT id, content FROM {spec.name} ORDER BY id") == texts

    def generations(self) -> list[Generation]:
        with self.engine.connect() as connection:
            return registry.generations(connection)

    def index(self, table: str) -> Generation:
        return next(one for one in self.generations() if one.name == f"{table}_semantic")


SETTINGS = hypothesis.settings(
    max_examples=25,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],
)


def test_no_order_of_edits_and_ddl_leaves_a_row_untrue_in_silence(server: sa.URL, template: str) -> None:
    machine = type("MachineHere", (Machine,), {"server": server, "template": template})
    run_state_machine_as_test(machine, settings=SETTINGS)


def test_a_worker_that_never_looks_is_found_out(server: sa.URL, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CatalogWatcher, "look", lambda *_, **__: None)
    machine = type("MachineHere", (Machine,), {"server": server, "template": template})
    with pytest.raises(AssertionError, match=r"until a worker has compared them|a worker puts it back|Report"):
        run_state_machine_as_test(machine, settings=SETTINGS)
