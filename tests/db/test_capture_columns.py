"""What capture compares: columns that are computed, and keys whose equality is an operator of their own."""

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, repair, verify
from tests.db.library import execute, generation_of, jobs, rows, sync

PERSON = (
    "CREATE TABLE person (id int PRIMARY KEY, first text, last text, born date, hits int DEFAULT 0, "
    "whole text GENERATED ALWAYS AS (first || ' ' || last || coalesce(' ' || (born - date '2000-01-01'), '')) {})"
)
INSERT = "INSERT INTO person (id, first, last) VALUES (1, 'Ada', 'Byron'), (2, 'Max', 'Frisch')"
PAIR = """
    CREATE TYPE pair AS (a int, b int);
    CREATE FUNCTION pair_order(pair, pair) RETURNS int LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE WHEN ($1).a <> ($2).a THEN sign(($1).a - ($2).a)::int ELSE sign(($1).b - ($2).b)::int END
    $$;
    CREATE FUNCTION pair_lt(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT pair_order($1, $2) < 0';
    CREATE FUNCTION pair_le(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT pair_order($1, $2) <= 0';
    CREATE FUNCTION pair_eq(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT pair_order($1, $2) = 0';
    CREATE FUNCTION pair_ge(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT pair_order($1, $2) >= 0';
    CREATE FUNCTION pair_gt(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT pair_order($1, $2) > 0';
    CREATE OPERATOR < (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_lt);
    CREATE OPERATOR <= (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_le);
    CREATE OPERATOR = (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_eq, COMMUTATOR = = {});
    CREATE OPERATOR >= (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_ge);
    CREATE OPERATOR > (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_gt);
    CREATE OPERATOR CLASS pair_ops DEFAULT FOR TYPE pair USING btree AS
        OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 pair_order(pair, pair);
    CREATE TABLE place (id int, at pair, words text, PRIMARY KEY (id, at))
"""


def index(engine: sa.Engine, table: str, *columns: str, name: str | None = None) -> None:
    with engine.connect() as connection:
        encoder = EncoderSpec("hashed:32", 32)
        spec = create_index.describe(connection, table, columns=columns, encoder=encoder, name=name)
    create_index.create(engine, spec)


@pytest.fixture(params=["STORED", "VIRTUAL"])
def kind(request: pytest.FixtureRequest, engine: sa.Engine) -> str:
    """How a generated column is kept."""
    virtual: str = request.param
    if virtual == "VIRTUAL" and (engine.dialect.server_version_info or (0,)) < (18,):
        pytest.skip("no virtual generated columns before PostgreSQL 18")
    return virtual


@pytest.fixture
def people(engine: sa.Engine, kind: str) -> sa.Engine:
    """A synced table whose text is a generated column."""
    execute(engine, PERSON.format(kind))
    index(engine, "person", "whole")
    execute(engine, INSERT)
    assert sync(engine).rows == 2
    return engine


@pytest.mark.parametrize("change", ["last = 'Lovelace'", "first = NULL", "born = '2024-02-29'"])
def test_a_generated_column_is_synced_when_a_column_that_it_is_computed_from_changes(
    people: sa.Engine, change: str
) -> None:
    execute(people, f"UPDATE person SET {change} WHERE id = 1")
    assert jobs(people) == {"1"}
    sync(people)
    assert verify.verify(people, generation_of(people, "person_semantic")).clean
    assert rows(people, "SELECT content FROM person_semantic WHERE id = 1") == rows(
        people, "SELECT whole FROM person WHERE id = 1 AND whole IS NOT NULL"
    )


def test_a_change_of_a_column_that_it_is_not_computed_from_marks_nothing(people: sa.Engine) -> None:
    execute(people, "UPDATE person SET hits = hits + 1, last = last")
    assert jobs(people) == set()


def test_upserts_and_merges_of_what_it_is_computed_from_are_captured(people: sa.Engine) -> None:
    execute(people, f"{INSERT} ON CONFLICT (id) DO UPDATE SET last = excluded.last || '!' WHERE excluded.id = 1")
    execute(
        people,
        "MERGE INTO person USING (VALUES (2)) AS v (id) ON v.id = person.id WHEN MATCHED THEN UPDATE SET last = ''",
    )
    assert jobs(people) == {"1", "2"}


def test_rows_that_arrive_without_statement_triggers_are_captured_by_it(people: sa.Engine) -> None:
    execute(people, "SET LOCAL session_replication_role = replica; UPDATE person SET last = 'new' WHERE id = 1")
    assert jobs(people) == {"1"}


def test_a_generated_column_stands_beside_plain_ones(engine: sa.Engine, kind: str) -> None:
    execute(engine, PERSON.format(kind))
    execute(engine, "ALTER TABLE person ADD note text")
    index(engine, "person", "note", "whole", "last")
    execute(engine, INSERT)
    sync(engine)
    execute(engine, "UPDATE person SET note = 'new' WHERE id = 1")
    execute(engine, "UPDATE person SET first = 'new' WHERE id = 2")
    assert jobs(engine) == {"1", "2"}


def test_a_generated_column_that_is_computed_from_none_is_captured_when_it_is_inserted(
    engine: sa.Engine, kind: str
) -> None:
    execute(
        engine, f"CREATE TABLE note (id int PRIMARY KEY, words text GENERATED ALWAYS AS ('a' || 'b') {kind}, n int)"
    )
    index(engine, "note", "words")
    execute(engine, "INSERT INTO note (id) VALUES (1)")
    assert sync(engine).rows == 1
    execute(engine, "UPDATE note SET n = 1")
    assert jobs(engine) == set()


def test_partitions_compute_a_generated_column_each_in_their_own_way(engine: sa.Engine, kind: str) -> None:
    generated = "words text GENERATED ALWAYS AS ({}) " + kind
    columns = "id int, part int, one text, two text, "
    execute(
        engine,
        f"CREATE TABLE note ({columns} {generated.format('one')}, PRIMARY KEY (part, id)) PARTITION BY LIST (part)",
    )
    execute(engine, "CREATE TABLE note_1 PARTITION OF note FOR VALUES IN (1)")
    execute(engine, f"CREATE TABLE note_2 ({columns.replace('int', 'int NOT NULL')} {generated.format('two')})")
    execute(engine, "ALTER TABLE note ATTACH PARTITION note_2 FOR VALUES IN (2)")
    index(engine, "note", "words")
    execute(
        engine, "INSERT INTO note (id, part, one, two) SELECT 1, part, 'one', 'two' FROM generate_series(1, 2) part"
    )
    sync(engine)
    execute(engine, "UPDATE note SET one = 'new' WHERE part = 1")
    execute(engine, "UPDATE note SET two = 'new' WHERE part = 2")
    assert sync(engine).chunks_encoded == 1  # of equal texts one
    assert verify.verify(engine, generation_of(engine, "note_semantic")).clean


@pytest.mark.parametrize(
    "alteration",
    ["ALTER whole SET EXPRESSION AS (last || coalesce(note, ''))", "RENAME last TO surname"],
    ids=["another expression", "another name in it"],
)
@pytest.mark.parametrize("by_worker", [False, True], ids=["repair", "worker"])
def test_a_virtual_column_that_is_computed_otherwise_is_reported_and_followed(
    engine: sa.Engine, kind: str, alteration: str, by_worker: bool
) -> None:
    if kind == "STORED":
        pytest.skip("a new expression rewrites the table")
    execute(engine, PERSON.format(kind))
    execute(engine, "ALTER TABLE person ADD note text")
    index(engine, "person", "whole")
    execute(engine, INSERT)
    sync(engine)
    generation = generation_of(engine, "person_semantic")
    assert verify.verify(engine, generation).clean
    execute(engine, f"ALTER TABLE person {alteration}")
    assert verify.verify(engine, generation).uncaptured == ["public.person"]
    if not by_worker:
        repair.repair(engine, generation)
    sync(engine)
    assert verify.verify(engine, generation).clean
    column = "note" if "note" in alteration else "surname"
    execute(engine, f"UPDATE person SET {column} = 'new' WHERE id = 1")
    assert jobs(engine) == {"1"}


def test_a_key_whose_equality_can_neither_merge_nor_hash_is_refused_in_words(engine: sa.Engine) -> None:
    execute(engine, PAIR.format(""))
    said = r"the key of table \S*place \(id integer, at \S*pair\) cannot be joined on.*MERGES or HASHES"
    with pytest.raises(exc.DBAPIError, match=rf"(?s){said}"):
        rows(engine, "SELECT semantic.old_and_new_key_equality_sql_v1('place', '{id,at}')")


@pytest.mark.parametrize("way", ["MERGES", "HASHES"])
def test_a_key_is_compared_by_the_operator_that_keeps_it_unique(engine: sa.Engine, way: str) -> None:
    execute(engine, 'CREATE SCHEMA "Their\'s"; SET search_path = "Their\'s"; ' + PAIR.format(f", {way}"))
    [(condition,)] = rows(engine, "SELECT semantic.old_and_new_key_equality_sql_v1('\"Their''s\".place', '{id,at}')")
    assert condition == (
        'old_rows.id OPERATOR(pg_catalog.=) new_rows.id AND old_rows.at OPERATOR("Their\'s".=) new_rows.at'
    )


@pytest.mark.parametrize(
    ("key_type", "operator"),
    [("bigint", "pg_catalog"), ("varchar(20)", "pg_catalog"), ("uuid", "pg_catalog"), ("numeric", "pg_catalog")],
)
def test_keys_of_types_of_the_server_are_compared_by_its_own_operators(
    engine: sa.Engine, key_type: str, operator: str
) -> None:
    execute(engine, f'CREATE TABLE note ("K" {key_type} PRIMARY KEY)')
    assert rows(engine, "SELECT semantic.old_and_new_key_equality_sql_v1('note', '{K}')") == [
        (f'old_rows."K" OPERATOR({operator}.=) new_rows."K"',)
    ]
