"""Text columns by other names: domains, enums, arrays. What is no text is refused with a way to make it one."""

import enum
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import Searcher, SemanticIndex, errors
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, verify
from tests.db.library import ENCODER, encoder, execute, generation_of, jobs, rows, sync

_TYPES = (
    "CREATE DOMAIN title AS text CHECK (length(VALUE) < 200)",
    "CREATE DOMAIN short AS varchar(40)",
    "CREATE DOMAIN tags AS text[]",
    "CREATE TYPE mood AS ENUM ('sad', 'quite happy', 'new')",
)
# A type, a value, its text, and another value.
TEXTS = {
    "title": ("a harbour", "a harbour", "new"),
    "short": ("a harbour", "a harbour", "new"),
    "mood": ("quite happy", "quite happy", "new"),
    "text[]": ('{a harbour,"two, 2",NULL,""}', "a harbour\ntwo, 2", "{new}"),
    "varchar(20)[]": ("{{a,b},{c,d}}", "a\nb\nc\nd", "{new}"),
    "mood[]": ('{sad,"quite happy"}', "sad\nquite happy", "{new}"),
    "tags": ("{a,b}", "a\nb", "{new}"),
    "name": ("harbour", "harbour", "new"),
    '"char"': ("h", "h", "n"),
    "char(20)": ("a harbour", "a harbour", "new"),
    'text COLLATE "C"': ("a harbour", "a harbour", "new"),
}


def create(engine: sa.Engine, table: str) -> None:
    with engine.connect() as connection:
        spec = create_index.describe(connection, table, columns=("body",), encoder=EncoderSpec(ENCODER, 32))
    create_index.create(engine, spec)


def test_a_column_of_each_kind_of_text_is_synced_edited_and_verified(engine: sa.Engine) -> None:
    for statement in _TYPES:
        execute(engine, statement)
    for number, (kind, (value, _, _)) in enumerate(TEXTS.items()):
        execute(engine, f"CREATE TABLE t{number} (id bigint PRIMARY KEY, body {kind})")
        create(engine, f"t{number}")
        execute(engine, f"INSERT INTO t{number} VALUES (1, :value), (2, NULL)", value=value)
    sync(engine)
    for number, (kind, (value, text, other)) in enumerate(TEXTS.items()):
        assert rows(engine, f"SELECT id, content FROM t{number}_semantic") == [(1, text)], kind
        assert verify.verify(engine, generation_of(engine, f"t{number}_semantic")).clean, kind
        execute(engine, f"UPDATE t{number} SET body = :value WHERE id = 1", value=value)
        assert jobs(engine) == set(), kind
        execute(engine, f"UPDATE t{number} SET body = :other WHERE id = 1", other=other)
        assert jobs(engine) == {"1"}, kind
        sync(engine)
        assert rows(engine, f"SELECT content FROM t{number}_semantic") == [(other.strip("{}"),)], kind


class Mood(enum.Enum):
    sad = "sad"
    happy = "happy"


class Base(DeclarativeBase): ...


class Film(Base):
    __tablename__ = "film"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(postgresql.DOMAIN("film_title", sa.Text))
    mood: Mapped[Mood]
    tags: Mapped[list[str]] = mapped_column(postgresql.ARRAY(sa.Text))
    semantic = SemanticIndex("title", "mood", "tags", encoder=ENCODER)


def test_so_are_those_of_a_mapped_class(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(Film(title="Harbour", mood=Mood.sad, tags=["fog", "lantern"]))
        session.commit()
        sync(engine)
        [hit] = Searcher(encoder()).search(session, Film.semantic, "lantern", mode="hybrid")
        assert hit.passage == "Harbour\n\nsad\n\nfog\nlantern"


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        ("json", "AS (body->>'summary') STORED"),
        ("jsonb", "AS (body->>'summary') STORED"),
        ("integer", "AS (CAST(body AS text)) STORED"),
        ("integer[]", "AS (CAST(body AS text)) STORED"),
        ("uuid", "AS (CAST(body AS text)) STORED"),
    ],
)
def test_what_is_no_text_is_refused_with_the_column_to_add(engine: sa.Engine, kind: str, way_out: str) -> None:
    execute(engine, f"CREATE TABLE note (id bigint PRIMARY KEY, body {kind})")
    with pytest.raises(errors.DeclarationError) as refusal:
        create(engine, "note")
    said = str(refusal.value)
    statement = said[said.index("ALTER TABLE") : -1]
    assert f"is not text but {kind}" in said
    assert way_out in said
    if kind != "integer[]":  # the text of an array is not immutable
        execute(engine, statement)
        rename: dict[str, Any] = {"columns": ("body_text",), "encoder": EncoderSpec(ENCODER, 32)}
        with engine.connect() as connection:
            assert create_index.describe(connection, "note", **rename).columns == ("body_text",)
