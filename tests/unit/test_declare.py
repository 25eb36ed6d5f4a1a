import inspect

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from pg_semantic import BoundIndex, SemanticIndex
from pg_semantic.index import declare
from pg_semantic.index.spec import EncoderSpec, IndexSpec, KeyColumn
from tests.unit.statement_text import text

ENCODER = "hashed:8"


def test_a_declaration_becomes_a_spec() -> None:
    class Base(DeclarativeBase): ...

    class Part(Base):
        __tablename__ = "part"
        maker: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
        number: Mapped[int] = mapped_column("part_number", primary_key=True)
        label: Mapped[str | None] = mapped_column("label_text")
        semantic = SemanticIndex("label", encoder=ENCODER, chunking=None, storage="vector")

    assert Part.semantic.spec == IndexSpec(
        name="part_semantic",
        table="part",
        key=(KeyColumn("maker", "varchar(20)"), KeyColumn("part_number", "integer")),
        columns=("label_text",),
        encoder=EncoderSpec(ENCODER, 8),
        chunking=None,
        storage="vector",
    )
    assert Part.semantic.entity is Part
    assert Part.semantic.name == "part_semantic"


def test_a_column_may_be_of_a_type_that_decorates_text() -> None:
    class Folded(sa.TypeDecorator[str]):
        impl = sa.String
        cache_ok = True

    class Base(DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str] = mapped_column(Folded(200))
        semantic = SemanticIndex("body", encoder=ENCODER)

    assert Note.semantic.spec.columns == ("body",)


def test_the_tables_stand_beside_the_source_in_its_metadata() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        body: Mapped[str]
        by_title = SemanticIndex("title", encoder=ENCODER)
        by_body = SemanticIndex("body", encoder=ENCODER, name="article_text")

    tables = {"article", "article_by_title", "article_by_title_receipt", "article_text", "article_text_receipt"}
    assert Base.metadata.tables.keys() == tables
    assert list(declare.indexes(Base.metadata)) == [Article.by_title, Article.by_body]


def test_an_instance_has_no_bound_index() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    assert not isinstance(Article(body="tea").semantic, BoundIndex)


def test_a_schema_is_that_of_the_table() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        __table_args__ = ({"schema": "shop"},)
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    assert Article.semantic.spec.schema == "shop"
    assert Article.semantic.tables.chunks.fullname == "shop.article_semantic"
    assert Article.semantic.tables.receipts.fullname == "shop.article_semantic_receipt"


def test_constraints_in_table_args_are_left_as_they_are() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        __table_args__ = (sa.UniqueConstraint("body", name="one_body"), {"comment": "Articles"})
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    source = Article.semantic.tables.source
    assert source.comment == "Articles"
    assert "one_body" in {constraint.name for constraint in source.constraints}


def test_a_dataclass_that_is_mapped_may_declare_an_index() -> None:
    class Base(MappedAsDataclass, DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    assert Article.semantic.entity is Article
    assert list(inspect.signature(Article).parameters) == ["id", "body"]


def test_a_chunk_is_read_without_its_vector() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    chunk = Article.semantic.Chunk
    assert "vector" not in text(sa.select(chunk))
    assert "article_semantic.vector" in text(sa.select(chunk).options(orm.undefer(chunk.vector)))


def test_a_chunk_leads_to_its_row() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    chunk = Article.semantic.Chunk
    joined = text(sa.select(chunk.content).join(chunk.source))
    assert joined == (
        "SELECT article_semantic.content FROM article_semantic JOIN article ON article_semantic.id = article.id"
    )


def test_an_index_from_the_registry_is_bound_to_a_class_made_up_for_it() -> None:
    spec = IndexSpec(
        name="part_semantic",
        table="part",
        schema="shop",
        key=(KeyColumn("maker", "varchar(20)"), KeyColumn("number", "integer")),
        columns=("label",),
        encoder=EncoderSpec(ENCODER, 8),
    )
    index = declare.bind(spec)
    assert index.spec == spec
    key = "SELECT CAST(shop.part.maker AS TEXT) AS maker, shop.part.number"
    assert text(sa.select(index.entity)) == f"{key} FROM shop.part"  # a text can be long
    assert text(sa.select(index.entity).options(orm.undefer("*"))) == f"{key}, shop.part.label FROM shop.part"
