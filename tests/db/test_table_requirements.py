"""What cannot have a semantic index is refused in words, however the index is asked for."""

import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from typer.testing import CliRunner

from pg_semantic import SemanticIndex, cli, errors
from pg_semantic.alembic_plugin import operations
from pg_semantic.index import chunk_tables
from pg_semantic.index.spec import EncoderSpec, IndexSpec, KeyColumn
from pg_semantic.operations import create_index, verify
from tests.db.library import ENCODER, execute, generation_of, rows, sync
from tests.db.test_sql_search import remember

_DEFERRABLE = "is DEFERRABLE, and foreign keys cannot reference it: replace it"
_COPY = "index the tables it reads, or copy its rows"

# What makes a relation called thing, and what is said of it.
SOURCES = {
    "view": (["CREATE VIEW thing AS SELECT * FROM note"], f"thing is a view, .*{_COPY}"),
    "materialized view": (
        ["CREATE MATERIALIZED VIEW thing AS SELECT * FROM note", "CREATE UNIQUE INDEX ON thing (id)"],
        f"thing is a materialized view, .*{_COPY}",
    ),
    "foreign table": (
        [
            "CREATE FOREIGN DATA WRAPPER elsewhere",
            "CREATE SERVER other FOREIGN DATA WRAPPER elsewhere",
            "CREATE FOREIGN TABLE thing (id bigint, body text) SERVER other",
        ],
        "thing is a foreign table, .*create the index in the database that stores its rows",
    ),
    "unlogged table": (
        ["CREATE UNLOGGED TABLE thing (id bigint PRIMARY KEY, body text)"],
        "thing is an unlogged table, .*ALTER TABLE .*thing SET LOGGED",
    ),
    "deferrable key": (["CREATE TABLE thing (id bigint PRIMARY KEY DEFERRABLE, body text)"], f"thing {_DEFERRABLE}"),
    "deferred key": (
        ["CREATE TABLE thing (id bigint, body text, PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED)"],
        f"thing {_DEFERRABLE}",
    ),
    "partitioned table": (
        ["CREATE TABLE thing (id bigint PRIMARY KEY DEFERRABLE, body text) PARTITION BY RANGE (id)"],
        f"thing {_DEFERRABLE}",
    ),
}
SPEC = IndexSpec(
    name="thing_semantic",
    table="thing",
    key=(KeyColumn("id", "bigint"),),
    columns=("body",),
    encoder=EncoderSpec(ENCODER, 32),
)


def describe(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        create_index.describe(connection, "thing", columns=("body",), encoder=EncoderSpec(ENCODER, 32))


def create_all(engine: sa.Engine) -> None:
    class Base(DeclarativeBase): ...

    class Thing(Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    Base.metadata.create_all(engine)


def create(engine: sa.Engine) -> None:
    create_index.create(engine, SPEC)


def migrate(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        operations.run(Operations(MigrationContext.configure(connection)), operations.CreateSemanticIndexOp(SPEC))


def shell(engine: sa.Engine) -> None:
    dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    said = CliRunner().invoke(
        cli.app, ["index", "create", "thing", "--columns", "body", "--encoder", ENCODER, "--dsn", dsn]
    )
    if said.exception is not None:
        raise said.exception


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("ask", [describe, create_all, create, migrate, shell])
def test_a_source_that_cannot_have_an_index_is_refused_before_anything_is_made(
    engine: sa.Engine, kind: str, ask: Callable[[sa.Engine], None]
) -> None:
    execute(engine, "CREATE TABLE note (id bigint PRIMARY KEY, body text)")
    statements, message = SOURCES[kind]
    for statement in statements:
        execute(engine, statement)
    with pytest.raises(errors.DeclarationError, match=message):
        ask(engine)
    assert rows(engine, "SELECT to_regclass('thing_semantic'), to_regclass('thing_semantic_receipt')") == [(None, None)]
    assert rows(engine, "SELECT * FROM semantic.semantic_index") == []


def test_the_way_out_of_a_deferrable_key_is_one(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE thing (id bigint CONSTRAINT thing_key PRIMARY KEY DEFERRABLE, body text)")
    execute(engine, "ALTER TABLE thing DROP CONSTRAINT thing_key, ADD PRIMARY KEY (id)")
    execute(engine, "ALTER TABLE thing ADD UNIQUE (id) DEFERRABLE")
    create(engine)


@pytest.mark.skipif("getattr(sa, '__version__', '2.0') < '2.1'")
def test_a_view_is_refused_as_it_is_declared() -> None:
    class Base(DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    view = sa.schema.CreateView(sa.select(Note), "thing", metadata=Base.metadata)
    with pytest.raises(errors.DeclarationError, match="thing is a view, and a semantic index needs a table"):

        class Thing(Base):
            __table__ = view.table
            __mapper_args__ = {"primary_key": [view.table.c.id]}  # noqa: RUF012
            semantic = SemanticIndex("body", encoder=ENCODER)


def test_a_deferrable_key_is_refused_as_it_is_declared() -> None:
    class Base(DeclarativeBase): ...

    with pytest.raises(errors.DeclarationError, match=f"thing {re.escape(_DEFERRABLE)}"):

        class Thing(Base):
            __tablename__ = "thing"
            __table_args__ = (sa.PrimaryKeyConstraint("id", deferrable=True),)
            id: Mapped[int] = mapped_column()
            body: Mapped[str]
            semantic = SemanticIndex("body", encoder=ENCODER)


# An operator class whose equality can neither merge nor hash, and a type that has no binary form.
_POOR_TYPES = """
CREATE SCHEMA app;
CREATE TYPE app.code;
CREATE FUNCTION app.code_in(cstring) RETURNS app.code LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION app.code_out(app.code) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE FUNCTION app.code_receive(internal) RETURNS app.code LANGUAGE internal IMMUTABLE STRICT AS 'textrecv';
CREATE FUNCTION app.code_send(app.code) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'textsend';
CREATE TYPE app.code (INPUT = app.code_in, OUTPUT = app.code_out, LIKE = text, COLLATABLE = true {binary});
CREATE FUNCTION app.code_lt(app.code, app.code) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'text_lt';
CREATE FUNCTION app.code_le(app.code, app.code) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'text_le';
CREATE FUNCTION app.code_eq(app.code, app.code) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'texteq';
CREATE FUNCTION app.code_ge(app.code, app.code) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'text_ge';
CREATE FUNCTION app.code_gt(app.code, app.code) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'text_gt';
CREATE FUNCTION app.code_cmp(app.code, app.code) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'bttextcmp';
CREATE OPERATOR app.< (LEFTARG = app.code, RIGHTARG = app.code, FUNCTION = app.code_lt);
CREATE OPERATOR app.<= (LEFTARG = app.code, RIGHTARG = app.code, FUNCTION = app.code_le);
CREATE OPERATOR app.= (LEFTARG = app.code, RIGHTARG = app.code, FUNCTION = app.code_eq {joins});
CREATE OPERATOR app.>= (LEFTARG = app.code, RIGHTARG = app.code, FUNCTION = app.code_ge);
CREATE OPERATOR app.> (LEFTARG = app.code, RIGHTARG = app.code, FUNCTION = app.code_gt);
CREATE OPERATOR CLASS app.code_ops DEFAULT FOR TYPE app.code USING btree AS
    OPERATOR 1 app.<, OPERATOR 2 app.<=, OPERATOR 3 app.=, OPERATOR 4 app.>=, OPERATOR 5 app.>,
    FUNCTION 1 app.code_cmp(app.code, app.code);
CREATE TABLE thing (id app.code PRIMARY KEY, body text);
INSERT INTO thing VALUES ('a', 'harbour'), ('b', 'lantern')
"""
JOINS = ", COMMUTATOR = OPERATOR(app.=), MERGES"
BINARY = ", RECEIVE = app.code_receive, SEND = app.code_send"


def own_type(engine: sa.Engine, *, joins: str, binary: str) -> None:
    with engine.begin() as connection:
        for statement in _POOR_TYPES.replace("{joins}", joins).replace("{binary}", binary).split(";\n"):
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize(
    ("joins", "binary", "lacking"),
    [
        ("", BINARY, "an equality operator that can merge or hash"),
        (JOINS, "", r"a binary form \(typsend and typreceive\)"),
    ],
)
@pytest.mark.parametrize("ask", [describe, create_all, migrate])
def test_a_key_type_that_rows_cannot_be_joined_or_written_by_is_refused(
    engine: sa.Engine, joins: str, binary: str, lacking: str, ask: Callable[[sa.Engine], None]
) -> None:
    own_type(engine, joins=joins, binary=binary)
    with pytest.raises(errors.DeclarationError, match=f"has type app.code, which lacks {lacking}"):
        ask(engine)


def test_a_key_type_with_operators_in_a_schema_of_its_own_needs_no_search_path_of_a_writer(engine: sa.Engine) -> None:
    own_type(engine, joins=JOINS, binary=BINARY)
    shell(engine)
    sync(engine)
    with engine.begin() as writer:
        writer.execute(sa.text("SET LOCAL search_path = pg_catalog"))
        writer.execute(sa.text("UPDATE public.thing SET body = 'glacier' WHERE body = 'lantern'"))
        writer.execute(sa.text("INSERT INTO public.thing VALUES ('c', 'meadow')"))
    assert sync(engine).rows == 2
    assert verify.verify(engine, generation_of(engine, "thing_semantic")).clean
    remember(engine, "glacier")
    with engine.begin() as reader:
        reader.execute(sa.text("SET LOCAL search_path = pg_catalog"))
        for mode in ("dense", "lexical", "hybrid"):
            asked = f"SELECT passage FROM public.thing_semantic_search('glacier', 1, '{mode}', keys => '{{b,c}}')"
            assert reader.scalars(sa.text(asked)).all() == ["glacier"]


def test_the_tables_of_a_source_that_can_have_one_are_as_before(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE thing (id bigint PRIMARY KEY, body text)")
    migrate(engine)
    assert rows(engine, "SELECT count(*) FROM semantic.semantic_index") == [(1,)]
    assert chunk_tables.build(SPEC).chunks.name == "thing_semantic"
