"""Who may use a copy: exactly those who may use the live one, from the switch on, and nobody too many before it."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pg_semantic import errors, generations
from tests.db.copies import NAME, OTHER, begin, fill
from tests.db.library import execute, generation_of, rows, sync

NEXT = "article_semantic__next"


@pytest.fixture
def synced(articles: sa.Engine) -> sa.Engine:
    fill(articles)
    return articles


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


def may_read_column(engine: sa.Engine, role: str, table: str, column: str) -> bool:
    statement = "SELECT has_column_privilege(:role, CAST(:table AS regclass), :column, 'SELECT')"
    [(found,)] = rows(engine, statement, role=role.strip('"'), table=table, column=column)
    return bool(found)


def test_a_right_that_was_taken_away_since_the_begin_is_not_given_back_by_the_switch(
    synced: sa.Engine, reader: str
) -> None:
    execute(synced, f"GRANT SELECT, INSERT ON article_semantic TO {reader}")
    begin(synced, encoder=OTHER)
    assert may(synced, reader, NEXT)
    sync(synced)
    execute(synced, f"REVOKE SELECT ON article_semantic FROM {reader}")
    generations.switch(synced, NAME)
    assert not may(synced, reader, NAME)
    assert may(synced, reader, NAME, "INSERT")


def test_a_right_that_was_taken_away_since_the_switch_is_not_given_back_by_the_rollback(
    synced: sa.Engine, reader: str
) -> None:
    execute(synced, f"GRANT SELECT ON article_semantic TO {reader} WITH GRANT OPTION")
    begin(synced, encoder=OTHER)
    sync(synced)
    generations.switch(synced, NAME)
    assert may(synced, reader, NAME, "SELECT WITH GRANT OPTION")
    execute(synced, f"REVOKE SELECT ON article_semantic FROM {reader}")
    generations.rollback(synced, NAME)
    assert not may(synced, reader, NAME)


def test_default_privileges_do_not_open_a_copy(synced: sa.Engine, reader: str) -> None:
    execute(synced, f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {reader}, PUBLIC")
    begin(synced, encoder=OTHER)
    assert not may(synced, reader, NEXT)
    sync(synced)
    generations.switch(synced, NAME)
    assert not may(synced, reader, NAME)


def test_grants_on_columns_are_those_of_the_live_copy(synced: sa.Engine, reader: str) -> None:
    execute(synced, f"GRANT SELECT (id, content) ON article_semantic TO {reader}")
    execute(synced, f"GRANT SELECT (lexemes) ON article_semantic_receipt TO {reader}")
    begin(synced, lexical=None)
    sync(synced)
    execute(synced, f"REVOKE SELECT (id) ON article_semantic FROM {reader}")
    generations.switch(synced, NAME)
    columns = ("id", "content", "vector")
    assert [may_read_column(synced, reader, NAME, column) for column in columns] == [False, True, False]


def test_a_copy_is_of_the_same_owner(synced: sa.Engine, reader: str) -> None:
    execute(synced, f"GRANT CREATE ON SCHEMA public TO {reader}")
    execute(synced, f"ALTER TABLE article_semantic OWNER TO {reader}")
    begin(synced, encoder=OTHER)
    owner = "SELECT CAST(relowner AS regrole)::text FROM pg_class WHERE relname = :name"
    assert rows(synced, owner, name=NEXT) == rows(synced, owner, name=NAME)


@pytest.fixture
def secured(synced: sa.Engine, reader: str) -> sa.Engine:
    """The live copy hides rows from a role that may read it."""
    execute(synced, f"GRANT SELECT ON article_semantic TO {reader}")
    execute(synced, "ALTER TABLE article_semantic ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    execute(synced, "CREATE POLICY odd ON article_semantic USING (id % 2 = 1)")
    return synced


def test_a_copy_of_one_under_row_level_security_is_open_to_nobody_before_the_switch(
    secured: sa.Engine, reader: str
) -> None:
    execute(secured, f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {reader}")
    begin(secured, encoder=OTHER)
    assert not may(secured, reader, NEXT)
    sync(secured)
    with pytest.raises(errors.GenerationError) as refusal:
        generations.switch(secured, NAME, force=True)
    assert str(refusal.value) == (
        "Row-level security of public.article_semantic__next is not as that of public.article_semantic, which is live. "
        "Run: ALTER TABLE public.article_semantic__next ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; "
        "and CREATE POLICY, as for the live copy."
    )
    execute(secured, f"ALTER TABLE {NEXT} ENABLE ROW LEVEL SECURITY")
    with pytest.raises(errors.GenerationError, match="FORCE ROW LEVEL SECURITY"):
        generations.switch(secured, NAME)
    execute(secured, f"ALTER TABLE {NEXT} FORCE ROW LEVEL SECURITY")
    execute(secured, f"CREATE POLICY odd ON {NEXT} USING (id % 2 = 1)")
    generations.switch(secured, NAME)
    assert generation_of(secured).spec.encoder == OTHER
    assert may(secured, reader, NAME)
    with secured.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL ROLE {reader}"))
        assert set(connection.scalars(sa.text("SELECT id FROM article_semantic"))) == {1, 3}


def test_row_level_security_that_was_lifted_holds_a_rollback_up_with_what_to_run(secured: sa.Engine) -> None:
    begin(secured, encoder=OTHER)
    sync(secured)
    execute(secured, "ALTER TABLE article_semantic DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
    generations.switch(secured, NAME)
    execute(secured, "ALTER TABLE article_semantic ENABLE ROW LEVEL SECURITY")
    with pytest.raises(errors.GenerationError, match="article_semantic__previous ENABLE ROW LEVEL SECURITY"):
        generations.rollback(secured, NAME)
