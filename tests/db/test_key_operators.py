"""Keys whose operators are in a schema that is on nobody's path: what the database does by itself compares by these."""

import dataclasses
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pg_semantic.database import transaction
from pg_semantic.index.key_range import KeyRange
from pg_semantic.index.spec import KeyColumn
from pg_semantic.operations import create_index, verify
from pg_semantic.worker import key_ranges, orphans
from tests.db.library import execute, generation_of, rows, sync
from tests.db.test_table_requirements import BINARY, JOINS, SPEC, own_type

OWN = dataclasses.replace(SPEC, key=(KeyColumn("id", "app.code"),))
STORED = "SELECT CAST(id AS text) FROM thing_semantic ORDER BY 1"


@pytest.fixture
def things(engine: sa.Engine) -> Iterator[sa.Engine]:
    """A table `thing` of two rows, whose key has operators of its own in the schema `app`."""
    own_type(engine, joins=JOINS, binary=BINARY)
    yield engine
    role = reader_of(engine)
    execute(engine, f"DROP OWNED BY {role}; DROP ROLE {role}" if rows(engine, _ROLE, name=role) else "SELECT 1")


_ROLE = "SELECT FROM pg_roles WHERE rolname = :name"


def reader_of(engine: sa.Engine) -> str:
    return f"reader_{str(engine.url.database)[-8:]}"


def test_a_role_that_sees_some_rows_searches_by_words(things: sa.Engine) -> None:
    create_index.create(things, OWN)
    role = reader_of(things)
    execute(things, f"CREATE ROLE {role}; GRANT SELECT ON thing TO {role}; GRANT USAGE ON SCHEMA app TO {role}")
    execute(things, "ALTER TABLE thing ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON thing USING (body = 'lantern')")
    sync(things)
    with things.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL ROLE {role}"))
        for word, found in (("lantern", ["b"]), ("harbour", [])):
            asked = f"SELECT CAST(id AS text) FROM thing_semantic_search('{word}', 5, 'lexical')"
            assert connection.scalars(sa.text(asked)).all() == found


def test_a_partition_is_let_go_of(things: sa.Engine) -> None:
    execute(things, "DROP TABLE thing; CREATE TABLE thing (id app.code PRIMARY KEY, body text) PARTITION BY LIST (id)")
    execute(things, "CREATE TABLE thing_a PARTITION OF thing FOR VALUES IN ('a')")
    execute(things, "CREATE TABLE thing_b PARTITION OF thing FOR VALUES IN ('b')")
    execute(things, "INSERT INTO thing VALUES ('a', 'harbour'), ('b', 'lantern')")
    create_index.create(things, OWN)
    sync(things)
    execute(things, "SELECT semantic.release_partition('thing_a')")
    assert rows(things, STORED) == [("b",)]


def test_a_column_is_carried_along(things: sa.Engine) -> None:
    execute(things, "ALTER TABLE thing ADD COLUMN tenant text NOT NULL DEFAULT 'Ada', ADD UNIQUE (tenant, id)")
    execute(things, "UPDATE thing SET tenant = 'Bob' WHERE body = 'lantern'")
    create_index.create(things, dataclasses.replace(OWN, policy_column="tenant"))
    sync(things)
    assert rows(things, "SELECT CAST(id AS text), tenant FROM thing_semantic ORDER BY 1") == [
        ("a", "Ada"),
        ("b", "Bob"),
    ]


def test_a_foreign_key_is_validated_and_chunks_without_a_row_are_deleted(things: sa.Engine) -> None:
    create_index.create(things, OWN)
    sync(things)
    name = rows(
        things, "SELECT conname FROM pg_constraint WHERE conrelid = 'thing_semantic'::regclass AND contype = 'f'"
    )
    execute(
        things, f"ALTER TABLE thing_semantic DROP CONSTRAINT {name[0][0]}; DELETE FROM thing WHERE body = 'harbour'"
    )
    execute(things, "ALTER TABLE thing_semantic ADD FOREIGN KEY (id) REFERENCES thing ON DELETE CASCADE NOT VALID")
    execute(things, "SELECT semantic.refresh_key_4_validate_v1(id) FROM semantic.semantic_index")
    assert rows(things, STORED) == [("b",)]


def test_a_worker_goes_through_keys_of_several_columns_in_pages(things: sa.Engine) -> None:
    execute(
        things, "DROP TABLE thing; CREATE TABLE thing (kind app.code, id app.code, body text, PRIMARY KEY (kind, id))"
    )
    execute(
        things,
        "INSERT INTO thing SELECT CAST(CAST(i / 3 AS text) AS app.code), CAST(CAST(i % 3 AS text) AS app.code), "
        "'words ' || i FROM generate_series(0, 8) AS i",
    )
    key = (KeyColumn("kind", "app.code"), KeyColumn("id", "app.code"))
    create_index.create(things, dataclasses.replace(SPEC, key=key))
    assert sync(things).rows == 9
    live = generation_of(things, "thing_semantic")
    assert verify.verify(things, live).clean
    tables = live.tables
    with transaction.begin(things) as connection:
        counts = [
            connection.scalar(sa.select(sa.func.count()).select_from(tables.source).where(part.of(tables.source_key)))
            for part in key_ranges.ranges(things, tables.source_key, rows=2)
        ]
        assert counts == [2, 2, 2, 2, 1]
        execute(things, "ALTER TABLE thing_semantic DISABLE TRIGGER ALL; ALTER TABLE thing DISABLE TRIGGER ALL")
        execute(things, "DELETE FROM thing WHERE body = 'words 4'")
        gone = orphans.sweep(connection, tables, KeyRange(None, None), rows=5)
        assert gone == ['["1", "1"]']
