"""Every way in which SQLAlchemy maps a class: rows are synced and edited, and found in every way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.ext.declarative import DeferredReflection
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from pg_semantic import Searcher, SemanticIndex, search, training
from pg_semantic.search.request import Mode
from pg_semantic.training import MinedPair, Pair, ScoredChunk
from pg_semantic.training.reranker import training_lists
from tests.db import migrations
from tests.db.library import ENCODER, encoder, execute, generation_of, rows, sync

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")


@dataclass(frozen=True)
class Mapping:
    """A mapped class: its MetaData, what makes a row of a text, and the attribute that has the text."""

    metadata: sa.MetaData
    entity: Any
    make: Callable[[str], Any]
    text: str = "body"


def _of(entity: Any, **more: Any) -> Mapping:
    return Mapping(entity.metadata, entity, lambda text: entity(body=text, **more))


def attributes_with_other_names(_engine: sa.Engine) -> Mapping:
    class Base(DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"
        number: Mapped[int] = mapped_column("Note Id", primary_key=True)
        body: Mapped[str] = mapped_column("note %text")
        semantic = SemanticIndex("body", encoder=ENCODER)

    return _of(Note)


def columns_with_other_keys(_engine: sa.Engine) -> Mapping:
    class Base(DeclarativeBase): ...

    class Note(Base):
        __table__ = sa.Table(
            "note",
            Base.metadata,
            sa.Column("note_id", sa.Integer, sa.Identity(), primary_key=True, key="number"),
            sa.Column("part_id", sa.Integer, primary_key=True, key="note_id", autoincrement=False),
            sa.Column("note_text", sa.Text, key="body"),
        )
        semantic = SemanticIndex("body", encoder=ENCODER)

    return _of(Note, note_id=7)


def deferred_reflection(engine: sa.Engine) -> Mapping:
    execute(engine, "CREATE TABLE note (id serial PRIMARY KEY, body text)")

    class Base(DeclarativeBase): ...

    class Reflected(DeferredReflection):
        __abstract__ = True

    class Note(Reflected, Base):
        __tablename__ = "note"
        semantic = SemanticIndex("body", encoder=ENCODER)

    Reflected.prepare(engine)
    return _of(Note)


def automap(engine: sa.Engine) -> Mapping:
    execute(engine, "CREATE TABLE IF NOT EXISTS note (id serial PRIMARY KEY, body text)")
    base: Any = automap_base()

    class Note(base):  # type: ignore[misc]
        __tablename__ = "note"
        semantic = SemanticIndex("body", encoder=ENCODER)

    base.prepare(autoload_with=engine)
    return _of(Note)


def automap_of_a_database_that_has_the_index(engine: sa.Engine) -> Mapping:
    automap(engine).metadata.create_all(engine)
    return automap(engine)


def reflected_before(engine: sa.Engine) -> Mapping:
    automap(engine).metadata.create_all(engine)
    metadata = sa.MetaData()
    metadata.reflect(engine)

    class Base(DeclarativeBase): ...

    Base.metadata = metadata

    class Note(Base):
        __table__ = metadata.tables["note"]
        semantic = SemanticIndex("body", encoder=ENCODER)

    return _of(Note)


def reflected_after(engine: sa.Engine) -> Mapping:
    mapping = as_a_dataclass(engine)
    mapping.metadata.create_all(engine)
    mapping = as_a_dataclass(engine)
    mapping.metadata.reflect(engine)
    return mapping


def imperative(_engine: sa.Engine) -> Mapping:
    registry = orm.registry()
    table = sa.Table("note", registry.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("t", sa.Text))

    class Note:
        semantic = SemanticIndex("body", encoder=ENCODER)

    registry.map_imperatively(Note, table, properties={"body": table.c.t})
    entity: Any = Note
    return Mapping(registry.metadata, entity, lambda text: entity(body=text))


def as_a_dataclass(_engine: sa.Engine) -> Mapping:
    class Base(MappedAsDataclass, DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(init=False, primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    return _of(Note)


def abstract_base(_engine: sa.Engine) -> Mapping:
    class Base(DeclarativeBase): ...

    class Searchable(Base):
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Note(Searchable):
        __tablename__ = "note"

    return _of(Note)


def single_table_inheritance(_engine: sa.Engine) -> Mapping:
    class Base(DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "note"}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Memo(Note):
        __mapper_args__ = {"polymorphic_identity": "memo"}  # noqa: RUF012

    return Mapping(Base.metadata, Note, lambda text: Memo(body=text))


def joined_table_inheritance(_engine: sa.Engine) -> Mapping:
    class Base(DeclarativeBase): ...

    class Paper(Base):
        __tablename__ = "paper"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "paper"}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    class Note(Paper):
        __tablename__ = "note"
        __mapper_args__ = {"polymorphic_identity": "note"}  # noqa: RUF012
        id: Mapped[int] = mapped_column(sa.Integer, sa.ForeignKey("paper.id"), primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    return _of(Note)


def concrete_table_inheritance(_engine: sa.Engine) -> Mapping:
    class Base(DeclarativeBase): ...

    class Paper(Base):
        __tablename__ = "paper"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Note(Paper):
        __tablename__ = "note"
        __mapper_args__ = {"concrete": True}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    return _of(Note)


def naming_convention(_engine: sa.Engine) -> Mapping:
    class Base(DeclarativeBase):
        metadata = sa.MetaData(
            naming_convention={
                "ix": "ix_%(column_0_label)s",
                "uq": "uq_%(table_name)s_%(column_0_name)s",
                "ck": "ck_%(table_name)s_%(constraint_name)s",
                "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
                "pk": "pk_%(table_name)s",
            }
        )

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    return _of(Note)


def several_registries(_engine: sa.Engine) -> Mapping:
    metadata = sa.MetaData()

    class One(DeclarativeBase):
        registry = orm.registry(metadata=metadata)

    class Other(DeclarativeBase):
        registry = orm.registry(metadata=metadata)

    class Note(One):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Page(Other):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    return _of(Note)


def schema_of_the_metadata(engine: sa.Engine) -> Mapping:
    execute(engine, 'CREATE SCHEMA "My App"')

    class Base(DeclarativeBase):
        metadata = sa.MetaData(schema="My App")

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    return _of(Note)


def made_by_the_registry(_engine: sa.Engine) -> Mapping:
    registry = orm.registry()

    @registry.mapped
    class Note:
        __tablename__ = "note"
        id = sa.Column(sa.Integer, primary_key=True)
        body = sa.Column(sa.Text)
        semantic = SemanticIndex("body", encoder=ENCODER)

    entity: Any = Note
    return Mapping(registry.metadata, entity, lambda text: entity(body=text))


MAPPINGS: list[Callable[[sa.Engine], Mapping]] = [
    attributes_with_other_names,
    columns_with_other_keys,
    deferred_reflection,
    automap,
    automap_of_a_database_that_has_the_index,
    reflected_before,
    reflected_after,
    imperative,
    as_a_dataclass,
    abstract_base,
    single_table_inheritance,
    joined_table_inheritance,
    concrete_table_inheritance,
    naming_convention,
    several_registries,
    schema_of_the_metadata,
    made_by_the_registry,
]


def require_alive(engine: sa.Engine, mapping: Mapping) -> None:
    """Rows of the class are synced, edited, found in every mode and like others, and gone once deleted."""
    with orm.Session(engine) as session:
        first, second = mapping.make("harbour one"), mapping.make("harbour two")
        session.add_all([first, second])
        session.commit()
        sync(engine)
        first.body = "lantern three"
        session.commit()
        sync(engine)
        index, searcher = mapping.entity.semantic, Searcher(encoder())
        vector = encoder().encode_queries(["lantern"])[0]
        for mode in MODES:
            hit = searcher.search(session, index, "lantern", mode=mode)[0]
            assert (hit.entity, hit.passage) == (first, "lantern three")
        for examples in ([first], [tuple(sa.inspect(first).identity)]):
            like = index.similar_to(positive=examples)
            assert [hit.entity for hit in searcher.search(session, index, like)] == [second]
            assert session.scalars(search.knn(index, like)).all() == [second]
        for statement in (search.knn(index, vector), search.exact(index, vector)):
            assert session.scalars(statement).all() == [first, second]
        assert session.scalars(search.hybrid(index, vector, "lantern")).all() == [first, second]
        nearest = sa.select(mapping.entity).order_by(index.distance(vector)).limit(1)
        assert session.scalars(nearest).all() == [first]
        if len(sa.inspect(mapping.entity).tables) == 1:  # an alias of a join cannot be searched
            alias = orm.aliased(mapping.entity)
            assert session.scalars(search.knn(index.of(alias), vector)).all() == [first, second]
        assert session.scalars(sa.select(index.Chunk.content).order_by(index.Chunk.content)).all() == [
            "harbour two",
            "lantern three",
        ]
        session.delete(second)
        session.commit()
        assert [hit.entity for hit in searcher.search(session, index, "harbour")] == [first]


@pytest.mark.parametrize("way", MAPPINGS, ids=lambda way: way.__name__)
def test_a_class_is_searchable_however_it_is_mapped(engine: sa.Engine, way: Callable[[sa.Engine], Mapping]) -> None:
    mapping = way(engine)
    mapping.metadata.create_all(engine)
    require_alive(engine, mapping)


@pytest.mark.parametrize("way", MAPPINGS, ids=lambda way: way.__name__)
def test_alembic_writes_its_migration_once_however_the_class_is_mapped(
    engine: sa.Engine, tmp_path: Any, way: Callable[[sa.Engine], Mapping]
) -> None:
    mapping = way(engine)
    application = migrations.begin(engine, tmp_path / "alembic")
    application.options["include_schemas"] = True
    application.metadata = mapping.metadata
    application.autogenerate()
    application.upgrade()
    require_alive(engine, mapping)
    assert "semantic_index" not in application.autogenerate()


@pytest.mark.parametrize("identity", [("code",), ("part", "id")])
def test_an_instance_is_an_example_by_the_key_of_its_table_whatever_its_identity(
    engine: sa.Engine, identity: tuple[str, ...]
) -> None:
    class Base(DeclarativeBase): ...

    table = sa.Table(
        "note",
        Base.metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        *([sa.Column("part", sa.Integer, primary_key=True)] if "part" in identity else []),
        sa.Column("code", sa.Integer, unique=True),
        sa.Column("body", sa.Text),
    )

    class Note(Base):
        __table__ = table
        __mapper_args__ = {"primary_key": [table.c[name] for name in identity]}  # noqa: RUF012
        semantic = SemanticIndex("body", encoder=ENCODER)

    Base.metadata.create_all(engine)
    other = {"part": 2} if "part" in identity else {}
    with orm.Session(engine) as session:
        first = Note(id=1, code=2, body="harbour one", **other)
        second = Note(id=2, code=1, body="lantern two", **({"part": 1} if other else {}))
        session.add_all([first, second])
        session.commit()
        sync(engine)
        assert session.scalars(search.knn(Note.semantic, Note.semantic.similar_to(positive=[first]))).all() == [second]


def test_tables_are_made_and_dropped_in_the_schema_of_a_translate_map(engine: sa.Engine) -> None:
    mapping = as_a_dataclass(engine)
    for tenant in ("one", "Two %"):
        execute(engine, f'CREATE SCHEMA "{tenant}"')
        there = engine.execution_options(schema_translate_map={None: tenant})
        mapping.metadata.create_all(there)
        mapping.metadata.create_all(there)
        with orm.Session(there) as session:
            session.add_all([mapping.make("harbour one"), mapping.make("lantern two")])
            session.commit()
            sync(engine)
            hits = Searcher(encoder()).search(session, mapping.entity.semantic, "lantern", mode="hybrid")
            assert [hit.entity.body for hit in hits] == ["lantern two", "harbour one"]
    assert rows(engine, "SELECT to_regclass('public.note_semantic')") == [(None,)]
    assert generation_of(engine, "one.note_semantic").spec.schema == "one"
    mapping.metadata.drop_all(engine.execution_options(schema_translate_map={None: "one"}))
    assert rows(
        engine,
        "SELECT nspname FROM semantic.semantic_index JOIN pg_class ON pg_class.oid = source "
        "JOIN pg_namespace ON pg_namespace.oid = relnamespace",
    ) == [("Two %",)]


def test_pairs_and_random_passages_can_be_chosen_by_an_inherited_column(engine: sa.Engine) -> None:
    mapping = joined_table_inheritance(engine)
    mapping.metadata.create_all(engine)
    note = mapping.entity
    with orm.Session(engine) as session:
        session.add_all(mapping.make(f"{word} text") for word in ("harbour", "lantern", "meadow"))
        session.commit()
        sync(engine)
        assert training.from_column(session, note.semantic, note.kind) == [Pair("note", key) for key in "123"]
        execute(engine, "UPDATE paper SET kind = 'other' WHERE id = 2")
        where = [note.kind == "note"]
        asked = training.from_column(session, note.semantic, note.body, where=where)
        assert asked == [Pair("harbour text", "1"), Pair("meadow text", "3")]
        pair = MinedPair("a harbour", ScoredChunk("1", 0, 0.9), (ScoredChunk("3", 0, 0.5),))
        [one] = training_lists.read(session, note.semantic, [pair], relevant={"a harbour": {"1"}}, where=where, seed=0)
        assert one.negatives == ("meadow text",)
