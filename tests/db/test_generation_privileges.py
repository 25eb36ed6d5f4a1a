"""Who can use a copy: exactly those who can use the source, from its begin on."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pg_semantic import generations
from pg_semantic.worker import privileges
from tests.db import copies
from tests.db.copies import NAME, OTHER, begin
from tests.db.library import execute, rows, sync

fill = copies.fill  # for the fixture filled

NEXT = "article_semantic__next"


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


@pytest.fixture
def reader(synced: sa.Engine) -> Iterator[str]:
    """A role of the test's own."""
    role = "reader_" + str(synced.url.database)[-8:]
    execute(synced, f'CREATE ROLE "{role}"')
    yield f'"{role}"'
    execute(synced, f'DROP OWNED BY "{role}" CASCADE')
    execute(synced, f'DROP ROLE "{role}"')


def may(engine: sa.Engine, role: str, table: str, privilege: str = "SELECT") -> bool:
    statement = "SELECT has_table_privilege(:role, CAST(:table AS regclass), :privilege)"
    [(found,)] = rows(engine, statement, role=role.strip('"'), table=table, privilege=privilege)
    return bool(found)


def test_a_copy_can_be_read_by_the_readers_of_the_source_from_the_begin_on(synced: sa.Engine, reader: str) -> None:
    execute(synced, f"GRANT SELECT, INSERT ON article TO {reader}")
    begin(synced, encoder=OTHER)
    assert may(synced, reader, NEXT)
    assert not may(synced, reader, NEXT, "INSERT")


def test_a_right_that_was_taken_away_since_the_begin_is_not_given_back_by_the_switch(
    synced: sa.Engine, reader: str
) -> None:
    execute(synced, f"GRANT SELECT ON article TO {reader}")
    begin(synced, encoder=OTHER)
    sync(synced)
    execute(synced, f"REVOKE SELECT ON article FROM {reader}")
    generations.switch(synced, NAME)
    assert not may(synced, reader, NAME)


def test_a_right_that_was_taken_away_since_the_switch_is_not_given_back_by_the_rollback(
    synced: sa.Engine, reader: str
) -> None:
    execute(synced, f"GRANT SELECT ON article TO {reader} WITH GRANT OPTION")
    begin(synced, encoder=OTHER)
    sync(synced)
    generations.switch(synced, NAME)
    assert may(synced, reader, NAME)
    assert not may(synced, reader, NAME, "SELECT WITH GRANT OPTION")
    execute(synced, f"REVOKE SELECT ON article FROM {reader}")
    generations.rollback(synced, NAME)
    assert not may(synced, reader, NAME)


def test_default_privileges_do_not_open_a_copy(synced: sa.Engine, reader: str) -> None:
    execute(synced, f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {reader}, PUBLIC")
    begin(synced, encoder=OTHER)
    assert not may(synced, reader, NEXT)
    sync(synced)
    generations.switch(synced, NAME)
    assert not may(synced, reader, NAME)


def test_a_copy_of_fewer_columns_can_be_read_with_privileges_to_these_alone(synced: sa.Engine, reader: str) -> None:
    execute(synced, f"GRANT SELECT (id, title) ON article TO {reader}")
    begin(synced, columns=("title",))
    assert [may(synced, reader, table) for table in (NAME, NEXT)] == [False, True]
    sync(synced)
    generations.switch(synced, NAME)
    assert [may(synced, reader, table) for table in (NAME, f"{NAME}__previous")] == [True, False]


def test_a_copy_belongs_to_the_owner_of_the_source(synced: sa.Engine, reader: str) -> None:
    execute(synced, f"GRANT CREATE ON SCHEMA public TO {reader}")
    execute(synced, f"ALTER TABLE article OWNER TO {reader}")
    begin(synced, encoder=OTHER)
    owner = "SELECT CAST(relowner AS regrole)::text FROM pg_class WHERE relname = :name"
    assert rows(synced, owner, name=NEXT) == [(reader.strip('"'),)]
    assert [one.problem for one in privileges.follow(synced)] == [None]  # as a worker does
    assert {rows(synced, owner, name=name)[0][0] for name in (NEXT, NAME)} == {reader.strip('"')}


@pytest.fixture
def secured(synced: sa.Engine, reader: str) -> sa.Engine:
    """The source hides rows from a role that can read it."""
    execute(synced, f"GRANT SELECT ON article TO {reader}")
    execute(synced, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    execute(synced, "CREATE POLICY odd ON article USING (id % 2 = 1)")
    return synced


def seen(engine: sa.Engine, role: str, table: str) -> set[int]:
    with engine.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL ROLE {role}"))
        return set(connection.scalars(sa.select(sa.column("id")).select_from(sa.table(table))))


def test_copies_hide_the_rows_that_the_source_hides_through_every_step(secured: sa.Engine, reader: str) -> None:
    begin(secured, encoder=OTHER)
    sync(secured)
    assert seen(secured, reader, NEXT) == {1, 3}
    generations.switch(secured, NAME)
    assert seen(secured, reader, NAME) == seen(secured, reader, f"{NAME}__previous") == {1, 3}
    execute(secured, "ALTER POLICY odd ON article USING (id % 2 = 0)")
    assert seen(secured, reader, NAME) == {0, 2, 4}
    generations.rollback(secured, NAME)
    assert seen(secured, reader, NAME) == {0, 2, 4}
    assert seen(secured, reader, f"{NAME}_receipt") == {0, 2, 4}


def test_row_level_security_that_the_source_loses_is_lifted_from_copies(secured: sa.Engine, reader: str) -> None:
    begin(secured, encoder=OTHER)
    sync(secured)
    execute(secured, "ALTER TABLE article DISABLE ROW LEVEL SECURITY")
    generations.switch(secured, NAME)
    assert seen(secured, reader, NAME) == {0, 1, 2, 3, 4}
    assert rows(
        secured,
        "SELECT count(*) FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid "
        "WHERE relname LIKE 'article_semantic%'",
    ) == [(0,)]


def test_the_owner_whom_policies_bind_cannot_see_more_in_a_copy(secured: sa.Engine, reader: str) -> None:
    execute(secured, f"GRANT CREATE ON SCHEMA public TO {reader}")
    execute(secured, f"ALTER TABLE article FORCE ROW LEVEL SECURITY; ALTER TABLE article OWNER TO {reader}")
    begin(secured, encoder=OTHER)
    assert [one.problem for one in privileges.follow(secured)] == [None]  # as a worker does
    assert seen(secured, reader, NAME) == {1, 3}
