"""No role learns, or may do, more through a semantic index than through its source, whatever the default privileges."""

import dataclasses
import random
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pg_semantic import database, generations
from pg_semantic.database import migrate
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.worker import privileges
from tests.conftest import copy_of
from tests.db.intruders import Intruders
from tests.db.library import execute, generation_of, rows, sync

pytestmark = pytest.mark.slow

_DEFAULTS = ("TABLES", "SEQUENCES", "ROUTINES", "TYPES", "SCHEMAS")
_ROLES = 7
_ROWS = {"diary": 61, "memo": 47, "Letter": 53}
_FIRST_KEY = {"diary": 770_000, "memo": 771_000, "Letter": 772_000}
_PRIVILEGES = (
    "SELECT ON {table}",
    "SELECT (id, title, body) ON {table}",
    "SELECT (id, title, body, reader) ON {table}",
    "SELECT (id, title) ON {table}",
    "SELECT (reader) ON {table}",
    "INSERT, UPDATE, DELETE ON {table}",
    "ALL ON {table}",
)


class Town:
    """A database with three sources, and roles with privileges to them that were drawn by chance."""

    def __init__(self, engine: sa.Engine, seed: int) -> None:
        self.engine = engine
        self.chance = random.Random(seed)  # noqa: S311 - not a secret
        self.roles = [f"citizen_{number}_{str(engine.url.database)[-8:]}" for number in range(_ROLES)]
        self.intruders: Intruders

    def grant(self) -> None:
        """Gives a few roles privileges of some kind, and takes some away."""
        for table in _ROWS:
            self.run(f'GRANT SELECT ON "{table}" TO {self.roles[4]}')  # for whom policies hide every row
            for role in self.roles[:4] + self.roles[6:]:  # the one left out has no right to anything
                if self.chance.random() < 0.3:
                    self.run(f'REVOKE ALL ON "{table}" FROM {role}')
                if self.chance.random() < 0.5:
                    right = self.chance.choice(_PRIVILEGES).format(table=f'"{table}"')
                    self.run(f"GRANT {right} TO {role}")

    def run(self, *statements: str) -> None:
        for statement in statements:
            execute(self.engine, statement)

    def due(self) -> list[str]:
        """The statements that would change privileges."""
        return [statement for one in privileges.due(self.engine) for statement in one.statements]

    def follow(self) -> None:
        found = [privileges.close_schema(self.engine), *privileges.follow(self.engine)]
        assert [one.problem for one in found if one.problem] == []
        assert self.due() == []

    def assert_nobody_has_more(self, *, functions: bool = False) -> None:
        assert self.intruders.found(functions=functions) == []
        for table in _ROWS:  # and nobody has less
            for role in self.roles:
                needed = ("id", "title", "body")
                reads = all(self.may(role, f'"{table}"', column) for column in needed)
                marks = self.intruders.shown(role, f'"{table}_semantic"')
                assert marks == (self.sees(role, table) if reads else set()), (role, table)

    def may(self, role: str, table: str, column: str) -> bool:
        statement = "SELECT has_column_privilege(:role, CAST(:table AS regclass), :column, 'SELECT')"
        [(found,)] = rows(self.engine, statement, role=role, table=table, column=column)
        return bool(found)

    def sees(self, role: str, table: str) -> set[str]:
        return self.intruders.shown(role, f'(SELECT id, title, body FROM "{table}") AS visible')


@pytest.fixture(scope="module", params=[1, 2])
def town(server: sa.URL, request: pytest.FixtureRequest) -> Iterator[Town]:
    """Default privileges give everything to everybody, before our schema is there."""
    with copy_of(server, "template1") as dsn:
        engine = database.connect(dsn)
        town = Town(engine, request.param)
        town.run(*(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO PUBLIC" for kind in _DEFAULTS))
        town.run(*(f"CREATE ROLE {role}" for role in town.roles))
        town.run(f"GRANT {town.roles[0]} TO {town.roles[1]}", f"GRANT {town.roles[2]} TO {town.roles[0]}")
        town.run(*(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {town.roles[3]}" for kind in _DEFAULTS))
        migrate.upgrade(engine)
        for table in _ROWS:
            make(town, table)
        town.intruders = Intruders(engine, town.roles)
        yield town
        town.intruders.close()
        names = ", ".join(town.roles)
        town.run(f"DROP OWNED BY {names} CASCADE")
        engine.dispose()
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP ROLE {names}"))
    admin.dispose()


def make(town: Town, table: str) -> None:
    """A source, closed to everybody, with its index."""
    town.run(
        f'CREATE TABLE "{table}" (id integer PRIMARY KEY, title text, body text, reader name)',
        f'REVOKE ALL ON "{table}" FROM PUBLIC, {town.roles[3]}',
    )
    if table != "memo":
        town.run(
            f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY',
            f'CREATE POLICY own ON "{table}" USING (reader = current_user)',
        )
    with town.engine.connect() as connection:
        spec = create_index.describe(
            connection, table, columns=("title", "body"), encoder=EncoderSpec("hashed:32", 32), name=f"{table}_semantic"
        )
    create_index.create(town.engine, spec)
    readers = ", ".join(f"'{role}'" for role in town.roles[:4])
    execute(
        town.engine,
        f"""
        INSERT INTO "{table}"
        SELECT -(:first + i), 'zq' || :first + i || 'x', 'common words ' || i % 5, (ARRAY[{readers}])[1 + i % 5]
        FROM generate_series(1, :count) AS i
        """,
        first=_FIRST_KEY[table],
        count=_ROWS[table],
    )


def remember_query(town: Town) -> None:
    """A dense search in plain SQL finds its vector."""
    execute(
        town.engine,
        """
        INSERT INTO semantic.query_vector (encoder_id, text_hash, vector)
        SELECT id, semantic.text_hash_v1('zq1x common'), array_fill(CAST(0.1 AS real), ARRAY[dimensions])
        FROM semantic.encoder
        ON CONFLICT DO NOTHING
        """,
    )


def test_no_role_has_more_or_less_than_the_source_gives_it_through_the_life_of_an_index(town: Town) -> None:
    assert town.due() == []
    town.grant()
    town.follow()
    sync(town.engine)
    remember_query(town)
    town.assert_nobody_has_more(functions=True)
    name = "diary_semantic"
    live = generation_of(town.engine, name)
    begun = dataclasses.replace(live.spec, columns=("body",), encoder=EncoderSpec("hashed:48", 48))
    generations.begin(town.engine, live, begun)
    assert town.due() == []
    sync(town.engine)
    assert town.intruders.found(functions=False) == []
    generations.switch(town.engine, name)
    assert town.due() == []
    assert town.intruders.found(functions=False) == []
    town.grant()
    generations.rollback(town.engine, name)
    town.follow()
    town.assert_nobody_has_more()
    generations.drop(town.engine, name, "next")
    migrate.upgrade(town.engine)
    assert town.due() == []


_CHANGES = (
    "ALTER TABLE memo ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY few ON memo USING (id % 2 = 0)",
    "CREATE POLICY fewer ON memo AS RESTRICTIVE USING (id % 3 = 0)",
    "ALTER POLICY few ON memo USING (id % 5 = 0)",
    "DROP POLICY few ON memo",
    "DROP POLICY fewer ON memo",
    "ALTER TABLE memo FORCE ROW LEVEL SECURITY",
    "ALTER TABLE memo DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY",
    'ALTER TABLE "Letter" DISABLE ROW LEVEL SECURITY',
    'ALTER TABLE "Letter" ENABLE ROW LEVEL SECURITY',
)


def test_policies_that_the_source_gets_and_loses_later_are_followed(town: Town) -> None:
    town.grant()
    for change in _CHANGES:
        town.run(change)
        town.follow()
        assert town.intruders.found(functions=False) == [], change


def test_a_source_that_is_renamed_keeps_its_privileges(town: Town) -> None:
    for old, new in (("memo", "note"), ("note", "memo")):
        town.run(f"ALTER TABLE {old} RENAME TO {new}", f"GRANT SELECT ON {new} TO {town.roles[4]}")
        town.follow()
        assert town.may(town.roles[4], "memo_semantic", "content")


_MUTATIONS = {
    "chunk table": "GRANT SELECT ON memo_semantic TO {role}",
    "column of a receipt table": "GRANT SELECT (lexemes) ON memo_semantic_receipt TO {role}",
    "column to write": "GRANT UPDATE (content) ON diary_semantic TO {role}",
    "rows to delete": "GRANT DELETE ON diary_semantic_receipt TO PUBLIC",
    "view of a copy": "GRANT INSERT ON semantic.chunks_{generation} TO {role}",
    "search function": "GRANT EXECUTE ON FUNCTION diary_semantic_search TO PUBLIC",
    "capture function": "GRANT EXECUTE ON FUNCTION diary_semantic_capture TO {role}",
    "policy that shows all": "CREATE POLICY everything ON diary_semantic USING (true)",
    "policy that was altered": "ALTER POLICY as_source ON diary_semantic_receipt USING (true)",
    "row-level security": "ALTER TABLE diary_semantic DISABLE ROW LEVEL SECURITY",
    "table of ours": "GRANT SELECT ON semantic.job TO {role}",
    "column of ours": "GRANT SELECT (backfill_after) ON semantic.generation TO PUBLIC",
    "statistics": "GRANT UPDATE ON semantic.term TO {role}",
    "query cache": "GRANT SELECT ON semantic.query_vector TO PUBLIC",
    "sequence": "GRANT USAGE ON SEQUENCE semantic.worker_id_seq TO {role}",
    "function of ours": "GRANT EXECUTE ON FUNCTION semantic.sees_all_rows_v1 TO {role}",
    "schema": "GRANT CREATE ON SCHEMA semantic TO {role}",
}
_SEEN_BY_INTRUDERS = {
    "chunk table",
    "column of a receipt table",
    "policy that shows all",
    "policy that was altered",
    "row-level security",
    "column to write",
    "rows to delete",
    "view of a copy",
    "statistics",
    "sequence",
}


@pytest.mark.parametrize("kind", _MUTATIONS)
def test_one_thing_that_is_left_open_is_found_and_closed(town: Town, kind: str) -> None:
    town.grant()
    town.follow()
    sync(town.engine)
    generation = generation_of(town.engine, "diary_semantic").id
    town.run(_MUTATIONS[kind].format(role=town.roles[5], generation=generation))
    assert town.due() != []
    if kind in _SEEN_BY_INTRUDERS:
        assert town.intruders.found(functions=False) != []
    town.follow()
    assert town.intruders.found(functions=False) == []
