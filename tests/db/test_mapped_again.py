"""A class that is mapped or declared again, as notebooks, reloading servers and test fixtures do; and copied tables."""

import warnings
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from pg_semantic import Searcher, SemanticIndex, errors, search
from pg_semantic.index import declare
from tests.db.library import ENCODER, encoder, execute, rows, sync


def declare_note(base: type[DeclarativeBase], *, columns: tuple[str, ...] = ("body",), **more: Any) -> Any:
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        __table_args__ = more
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str | None]
        body: Mapped[str]
        semantic = SemanticIndex(*columns, encoder=ENCODER)

    return Note


def declare_again(base: type[DeclarativeBase], **how: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # that the base has a class of this name
        return declare_note(base, **how)


def found(engine: sa.Engine, note: Any) -> list[str]:
    """What a search finds; the row is searched as an entity, an alias, an example, and by its chunks."""
    sync(engine)
    vector = encoder().encode_queries(["lantern"])[0]
    with orm.Session(engine) as session:
        hits = Searcher(encoder()).search(session, note.semantic, "lantern", mode="hybrid")
        alias = orm.aliased(note)
        nearest = session.scalars(search.knn(note.semantic.of(alias), vector)).all()
        assert {row.id for row in nearest} == {hit.entity.id for hit in hits}
        like = note.semantic.similar_to(positive=[hits[0].entity])
        assert len(search_all(session, note, like)) == len(hits) - 1
        chunks = session.scalars(sa.select(note.semantic.Chunk)).all()
        assert {chunk.source.body for chunk in chunks} == {hit.entity.body for hit in hits}
        return [hit.entity.body for hit in hits]


def search_all(session: orm.Session, note: Any, like: Any) -> list[Any]:
    return session.scalars(search.knn(note.semantic, like)).all()  # type: ignore[return-value]


def add(engine: sa.Engine, note: Any, *texts: str) -> None:
    with orm.Session(engine) as session:
        session.add_all([note(body=text) for text in texts])
        session.commit()


def test_a_class_is_mapped_again_after_its_mappers_were_cleared(engine: sa.Engine) -> None:
    registry = orm.registry()
    table = sa.Table(
        "note", registry.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text)
    )

    class Note:
        semantic = SemanticIndex("body", encoder=ENCODER)

    note: Any = Note
    registry.map_imperatively(Note, table)
    registry.metadata.create_all(engine)
    add(engine, note, "lantern one", "harbour two")
    assert found(engine, note) == ["lantern one", "harbour two"]
    for _ in range(2):
        registry.dispose()
        registry.map_imperatively(Note, table)
        assert found(engine, note) == ["lantern one", "harbour two"]
    assert len(list(declare.indexes(registry.metadata))) == 1


def test_a_class_is_declared_again_on_its_table(engine: sa.Engine) -> None:
    class Base(DeclarativeBase): ...

    declare_note(Base, extend_existing=True)
    note = declare_again(Base, extend_existing=True)
    assert list(declare.indexes(Base.metadata)) == [note.semantic]
    Base.metadata.create_all(engine)
    add(engine, note, "lantern one", "harbour two")
    assert found(engine, note) == ["lantern one", "harbour two"]
    note = declare_again(Base, extend_existing=True)
    Base.metadata.create_all(engine)
    assert found(engine, note) == ["lantern one", "harbour two"]


def test_a_class_is_declared_again_with_another_index(engine: sa.Engine) -> None:
    class Base(DeclarativeBase): ...

    declare_note(Base, extend_existing=True)
    note = declare_again(Base, extend_existing=True, columns=("title", "body"))
    Base.metadata.create_all(engine)
    assert [index.spec.columns for index in declare.indexes(Base.metadata)] == [("title", "body")]
    add(engine, note, "lantern one")
    assert found(engine, note) == ["lantern one"]


def test_a_class_is_declared_again_after_its_table_was_taken_out(engine: sa.Engine) -> None:
    class Base(DeclarativeBase): ...

    first = declare_note(Base)
    Base.metadata.create_all(engine)
    Base.metadata.remove(first.__table__)
    note = declare_again(Base)
    assert list(declare.indexes(Base.metadata)) == [note.semantic]
    Base.metadata.create_all(engine)
    add(engine, note, "lantern one")
    assert found(engine, note) == ["lantern one"]


def test_another_class_of_the_table_does_not_take_the_index_over() -> None:
    class Base(DeclarativeBase): ...

    note = declare_note(Base)
    with pytest.raises(errors.DeclarationError, match="'note_semantic' is already declared"):

        class Other(Base):
            __table__ = note.__table__
            semantic = SemanticIndex("title", encoder=ENCODER)

    assert list(declare.indexes(Base.metadata)) == [note.semantic]


def test_an_index_may_come_from_a_declared_attribute(engine: sa.Engine) -> None:
    class Base(DeclarativeBase): ...

    class Searchable:
        body: Mapped[str]

        @declared_attr
        def semantic(cls):  # type: ignore[no-untyped-def] # noqa: ANN202, N805 - as SQLAlchemy has it
            return SemanticIndex("body", encoder=ENCODER)

    class Note(Searchable, Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Page(Searchable, Base):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(engine)
    for entity in (Note, Page):
        add(engine, entity, "lantern one", "harbour two")
        assert found(engine, entity) == ["lantern one", "harbour two"]


def test_an_index_may_be_set_before_the_class_is_mapped(engine: sa.Engine) -> None:
    registry = orm.registry()
    table = sa.Table(
        "note", registry.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text)
    )
    note: Any = type("Note", (), {})
    note.semantic = SemanticIndex("body", encoder=ENCODER)
    registry.map_imperatively(note, table)
    registry.metadata.create_all(engine)
    add(engine, note, "lantern one")
    assert found(engine, note) == ["lantern one"]


def test_an_index_that_is_set_after_the_class_was_mapped_is_refused() -> None:
    class Base(DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    note: Any = Note
    note.semantic = SemanticIndex("body", encoder=ENCODER)
    with pytest.raises(errors.DeclarationError, match="after the class was mapped"):
        _ = note.semantic


@pytest.mark.parametrize("schema", [None, "tenant"])
def test_copied_tables_are_refused(engine: sa.Engine, schema: str | None) -> None:
    class Base(DeclarativeBase): ...

    declare_note(Base)
    execute(engine, "CREATE SCHEMA tenant")
    copy = sa.MetaData()
    for table in Base.metadata.sorted_tables:
        table.to_metadata(copy, schema=schema)  # type: ignore[arg-type]
    there = engine.execution_options(isolation_level="AUTOCOMMIT")
    for target in (engine, there):
        with pytest.raises(errors.DeclarationError, match=r"was copied with Table\.to_metadata.*schema_translate_map"):
            copy.create_all(target)
    assert rows(engine, "SELECT name FROM semantic.semantic_index") == []
