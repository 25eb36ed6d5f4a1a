"""Keys of every kind: what a key can be depends on the type, not on a list of names."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import Searcher, SemanticIndex, errors, search
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.operations import create_index, repair, verify
from pg_semantic.search.request import Mode
from tests.db import migrations
from tests.db.library import ENCODER, Article, encoder, execute, generation_of, rows, sync
from tests.db.test_sql_search import remember

pytestmark = pytest.mark.slow

_TYPES = """
CREATE SCHEMA "App";
CREATE TYPE "App"."State" AS ENUM ('draft', 'live', 'Über; "x"');
CREATE DOMAIN tenant AS bigint CHECK (VALUE > 0);
CREATE DOMAIN "App".day AS date;
CREATE DOMAIN ref AS varchar(20) CHECK (VALUE <> '');
CREATE TYPE pair AS (a integer, b text);
CREATE COLLATION "App"."Own" (provider = libc, locale = 'C')
"""

# A type, and two values of it. A session's settings decide how some are written.
KEYS = [
    ('"App"."State"', "draft", 'Über; "x"'),
    ("boolean", "true", "false"),
    ("tenant", "1", "9007199254740993"),
    ('"App".day', "infinity", "0044-03-15 BC"),
    ("ref", "R 1", "ref, {2}"),
    ("inet", "10.0.0.1", "fe80::1/64"),
    ("cidr", "10.0.0.0/8", "192.168.0.0/16"),
    ("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:04"),
    ("time", "00:00", "24:00:00"),
    ("time(3) with time zone", "10:00:00.125+05:45", "10:00-08"),
    ("interval", "-1 mon +2 days -03:04:05.6", "1 year 2 mons"),
    ("interval day to second(3)", "1 day 00:00:00.125", "-1 day"),
    ("oid", "1", "4294967295"),
    ("real", "0.1", "NaN"),
    ("double precision", "0.30000000000000004", "-Infinity"),
    ("bit(8)", "10101010", "00000001"),
    ("bit varying", "1", "101"),
    ('"char"', "a", '"'),
    ("name", "a", "b"),
    ("jsonb", '{"a": [1, "2"]}', "[]"),
    ("int8range", "[1,5)", "empty"),
    ("tstzrange", '["2024-01-01 00:00+01",)', "[,infinity)"),
    ("text[]", '{a,"b, \\"c\\"",NULL}', "{}"),
    ("date[]", "{2024-02-29,infinity}", '{"0044-03-15 BC"}'),
    ("pair", '(1,"a, b")', '(2,"")'),
    ('varchar(20) COLLATE "App"."Own"', "zebra", "Äpfel"),
    ("bytea", r"\x00ff", r"\x"),
    ("timestamptz(3)", "infinity", "2024-03-31 02:30:00.125+01"),
]
_SETTINGS = (
    "datestyle = 'German'",
    "timezone = 'Asia/Kathmandu'",
    "bytea_output = 'escape'",
    "intervalstyle = 'sql_standard'",
    "extra_float_digits = 0",
)
TAKEN_APART = {"text[]", "date[]", "pair"}
MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")


def prepare(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for statement in _TYPES.strip().split(";\n"):
            connection.exec_driver_sql(statement)


def create(engine: sa.Engine, table: str = "note") -> BoundIndex[Any]:
    """An index made as the shell makes it, and a class for it as the service has it."""
    with engine.connect() as connection:
        spec = create_index.describe(connection, table, columns=("words",), encoder=Article.semantic.spec.encoder)
    create_index.create(engine, spec)
    return declare.bind(generation_of(engine, f"{table}_semantic").spec)


def insert(connection: sa.Connection, table: str, kind: str, values: Sequence[str]) -> None:
    plain = kind.partition(" COLLATE")[0]
    for number, value in enumerate(values, start=1):
        connection.execute(
            sa.text(f"INSERT INTO {table} (k, words) VALUES (CAST(:value AS {plain}), :words)"),
            {"value": value, "words": f"harbour {number}"},
        )


@dataclass(frozen=True)
class Kind:
    """A table whose key has one type, and its index."""

    name: str
    table: str
    index: BoundIndex[Any]


def made(engine: sa.Engine, columns: str, *, foreign_settings: bool = True) -> list[Kind]:
    """A table of two synced rows for each type; their keys are written by a session with unusual settings."""
    prepare(engine)
    kinds = []
    chosen = KEYS[::3] if "PRIMARY KEY (" in columns else KEYS  # of composite keys every third will do
    for number, (name, *_) in enumerate(chosen):
        execute(engine, f"CREATE TABLE t{number} ({columns.format(name)}, words text)")
        kinds.append(Kind(name, f"t{number}", create(engine, f"t{number}")))
    with engine.begin() as connection:
        for setting in _SETTINGS if foreign_settings else ():
            connection.execute(sa.text(f"SET LOCAL {setting}"))
        for kind, (name, *values) in zip(kinds, chosen, strict=True):
            insert(connection, kind.table, name, values)
    sync(engine)
    return kinds


def contents(engine: sa.Engine, kind: Kind) -> list[str]:
    chunks = f"SELECT content FROM {kind.table} JOIN {kind.table}_semantic AS chunk USING (k) WHERE words = content"
    return sorted(text for (text,) in rows(engine, chunks))


def is_clean(engine: sa.Engine, kind: Kind) -> bool:
    return verify.verify(engine, generation_of(engine, f"{kind.table}_semantic")).clean


@pytest.mark.parametrize(
    "columns", ["k {} PRIMARY KEY", "k {}, n bigint DEFAULT 7, PRIMARY KEY (n, k)"], ids=["alone", "composite"]
)
def test_rows_with_a_key_of_any_type_follow_their_texts_and_are_verified_and_repaired(
    engine: sa.Engine, columns: str
) -> None:
    kinds = made(engine, columns)
    for kind in kinds:
        execute(engine, f"UPDATE {kind.table} SET words = 'lantern 1' WHERE words = 'harbour 1'")
        execute(engine, f"UPDATE {kind.table} SET words = words")
    sync(engine)
    assert {kind.name: contents(engine, kind) for kind in kinds} == {
        kind.name: ["harbour 2", "lantern 1"] for kind in kinds
    }
    for kind in kinds:
        execute(engine, f"DELETE FROM {kind.table}_semantic WHERE content = 'lantern 1'")
    assert [kind.name for kind in kinds if is_clean(engine, kind)] == []
    for kind in kinds:
        repair.repair(engine, generation_of(engine, f"{kind.table}_semantic"))
    sync(engine)
    assert [kind.name for kind in kinds if not is_clean(engine, kind)] == []
    for kind in kinds:
        execute(engine, f"DELETE FROM {kind.table} WHERE words = 'harbour 2'")
    sync(engine)
    assert {kind.name: contents(engine, kind) for kind in kinds} == {kind.name: ["lantern 1"] for kind in kinds}


@pytest.mark.parametrize(
    "columns", ["k {} PRIMARY KEY", "k {}, n bigint DEFAULT 7, PRIMARY KEY (n, k)"], ids=["alone", "composite"]
)
def test_rows_with_a_key_of_any_type_are_searched_in_every_way(engine: sa.Engine, columns: str) -> None:
    kinds = made(engine, columns)
    searcher, vector = Searcher(encoder()), encoder().encode_queries(["harbour 1"])[0]
    remember(engine, "harbour")
    with orm.Session(engine) as session:
        for kind in kinds:
            ways = [searcher.search(session, kind.index, "harbour 1", mode=mode) for mode in MODES]
            assert [[hit.passage for hit in found] for found in ways] == [["harbour 1", "harbour 2"]] * 3, kind.name
            key = tuple(getattr(ways[0][0].entity, part.name) for part in kind.index.spec.key)
            like = searcher.search(session, kind.index, kind.index.similar_to(positive=[key]))
            assert [hit.passage for hit in like] == ["harbour 2"], kind.name
            for statement in (search.knn, search.exact):
                found = session.execute(statement(kind.index, vector)).all()
                assert [row[0].words for row in found] == ["harbour 1", "harbour 2"], kind.name
            given = "CAST(k AS text)" if kind.name in TAKEN_APART else "k"
            keys = f"ARRAY[(SELECT {given} FROM {kind.table} WHERE words = 'harbour 2')]"
            keys = f"keys => {keys}" if len(key) == 1 else f"keys_k => {keys}, keys_n => ARRAY[7::bigint]"
            for mode in MODES:
                asked = f"SELECT passage FROM {kind.table}_semantic_search('harbour', 5, '{mode}', {keys})"
                assert rows(engine, asked) == [("harbour 2",)], kind.name


def test_rows_are_gone_through_in_pages_whatever_the_key_is(engine: sa.Engine) -> None:
    prepare(engine)
    execute(engine, 'CREATE TABLE note (k interval, s "App"."State", words text, PRIMARY KEY (s, k))')
    execute(
        engine,
        "INSERT INTO note SELECT i * interval '-1 hour', v, 'harbour ' || i || v "
        """FROM generate_series(1, 5) AS i, unnest(enum_range(CAST(NULL AS "App"."State"))) AS v""",
    )
    create(engine)
    assert sync(engine, batch_rows=3).rows == 15
    assert verify.verify(engine, generation_of(engine, "note_semantic")).clean


def test_a_type_that_is_renamed_or_moved_is_followed(engine: sa.Engine) -> None:
    prepare(engine)
    execute(engine, 'CREATE TABLE note (k "App"."State" PRIMARY KEY, words text)')
    create(engine)
    execute(engine, """ALTER TYPE "App"."State" RENAME TO "Status" """)
    execute(engine, """ALTER TYPE "App"."Status" SET SCHEMA public""")
    execute(engine, "INSERT INTO note VALUES ('live', 'harbour')")
    assert sync(engine).rows == 1
    assert verify.verify(engine, generation_of(engine, "note_semantic")).clean


@pytest.mark.parametrize("kind", ["regclass", "money"])
def test_a_type_whose_text_depends_on_the_session_is_refused_also_under_a_domain(engine: sa.Engine, kind: str) -> None:
    execute(engine, f"CREATE DOMAIN price AS {kind}")
    execute(engine, "CREATE TABLE note (k price PRIMARY KEY, words text)")
    with pytest.raises(errors.DeclarationError, match=f"has type {kind}, .*such as bigint, uuid or text"):
        create(engine)


class State(enum.Enum):
    draft = "draft"
    live = "live"


class Code(sa.types.TypeDecorator[int]):
    """Stored as text with a prefix."""

    impl = sa.String(20)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: object) -> str | None:  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else f"C-{value:04}"

    def process_result_value(self, value: str | None, dialect: object) -> int | None:  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else int(value.removeprefix("C-"))


class Base(DeclarativeBase): ...


class Page(Base):
    __tablename__ = "page"
    state: Mapped[State] = mapped_column(primary_key=True)
    code: Mapped[int] = mapped_column(Code, primary_key=True)
    body: Mapped[str]
    semantic = SemanticIndex("body", encoder=ENCODER)


class Coded(Base):
    __tablename__ = "coded"
    code: Mapped[int] = mapped_column(Code, primary_key=True)
    body: Mapped[str]
    semantic = SemanticIndex("body", encoder=ENCODER)


def test_alembic_writes_the_keys_once_and_sees_no_change_in_them(engine: sa.Engine, tmp_path: Path) -> None:
    application = migrations.begin(engine, tmp_path / "alembic")
    application.metadata = Base.metadata
    Base.metadata.create_all(engine, [Base.metadata.tables["page"], Base.metadata.tables["coded"]])
    assert "key={'state': 'state', 'code': 'varchar(20)'}" in application.migrate()
    application.check()


def pages() -> list[Any]:
    return [Page(state=State.live, code=1, body="lantern"), Page(state=State.draft, code=2, body="harbour")]


def codes() -> list[Any]:
    return [Coded(code=1, body="lantern"), Coded(code=2, body="harbour")]


@pytest.mark.parametrize(("make", "key"), [(pages, (State.live, 1)), (codes, 1)], ids=["composite", "alone"])
@pytest.mark.parametrize("alias", [False, True])
def test_a_decorated_key_is_bound_as_its_type_has_it_in_every_statement(
    engine: sa.Engine, make: Any, key: Any, alias: bool
) -> None:
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(made := make())
        session.commit()
        sync(engine)
        entity = type(made[0])
        index = entity.semantic.of(orm.aliased(entity)) if alias else entity.semantic
        searcher, vector = Searcher(encoder()), encoder().encode_queries(["lantern"])[0]
        for mode in MODES:
            assert searcher.search(session, index, "lantern", mode=mode)[0].entity is made[0]
        for examples in ({"positive": [key]}, {"positive": [made[0]]}, {"positive": [vector], "negative": [key]}):
            query = index.similar_to(**examples)
            assert [hit.entity.body for hit in searcher.search(session, index, query)] == ["harbour"]
            assert [row.body for row in session.scalars(search.knn(index, query))] == ["harbour"]
        for statement in (search.knn, search.exact):
            assert session.scalars(statement(index, vector)).all() == made
        assert session.scalars(search.lexical(index, "lantern")).all() == made[:1]
        assert session.scalars(search.hybrid(index, vector, "lantern")).all() == made
        where = [index.entity.code == 2]
        assert [hit.entity for hit in searcher.search(session, index, "lantern", where=where)] == made[1:]
        chunk: Any = session.scalars(sa.select(entity.semantic.Chunk).order_by("code")).first()
        assert (chunk.code, chunk.source) == (1, made[0])


def holds(engine: sa.Engine, function: str, kind: str) -> bool:
    """What a function says of a key of one column of this type."""
    spec = sa.cast({"key": [{"name": "id", "type": kind}]}, postgresql.JSONB)
    with engine.connect() as connection:
        return bool(connection.scalar(sa.select(getattr(sa.func.semantic, function)(spec))))


@pytest.mark.parametrize(
    "one",
    ["numeric", "text", "citext", "double precision", "interval", "tenant", 'varchar(9) COLLATE "nocase"', "jsonb"],
)
def test_a_type_whose_equal_values_may_be_written_differently_is_told_apart(engine: sa.Engine, one: str) -> None:
    assert not holds(engine, "has_canonical_text_v1", one)


@pytest.mark.parametrize("one", ["smallint", "bigint", "uuid", "boolean", "date", "timestamp(3)", "time(6)", "bytea"])
def test_a_type_whose_values_have_one_text_is_known(engine: sa.Engine, one: str) -> None:
    assert holds(engine, "has_canonical_text_v1", one)


@pytest.mark.parametrize(
    "one", ["date", "timestamp(3)", "interval", "real", "bytea", "tenant", "date[]", "tsrange", "time with time zone"]
)
def test_the_text_of_these_types_is_taken_to_depend_on_settings(engine: sa.Engine, one: str) -> None:
    assert holds(engine, "depends_on_settings_v1", one)


@pytest.mark.parametrize(
    "one",
    [
        *("bigint", "uuid", "varchar(20)", 'text COLLATE "C"', "numeric(10, 2)", "inet", "boolean"),
        *("citext", "public.citext", '"My Schema".citext'),
    ],
)
def test_the_text_of_these_types_is_the_same_in_every_session(engine: sa.Engine, one: str) -> None:
    assert not holds(engine, "depends_on_settings_v1", one)
