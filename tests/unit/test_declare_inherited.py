import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, errors
from pg_semantic.index import declare

ENCODER = "hashed:8"


def test_every_class_that_takes_a_mixin_has_an_index_of_its_own() -> None:
    class Base(DeclarativeBase): ...

    class Searchable:
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Article(Searchable, Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Note(Searchable, Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert (Article.semantic.name, Article.semantic.entity) == ("article_semantic", Article)
    assert (Note.semantic.name, Note.semantic.entity) == ("note_semantic", Note)


def test_a_mixin_that_names_its_index_can_be_taken_once() -> None:
    class Base(DeclarativeBase): ...

    class Searchable:
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER, name="texts")

    class Article(Searchable, Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(errors.DeclarationError, match="'texts' is already declared"):

        class Note(Searchable, Base):
            __tablename__ = "note"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_an_alias_of_a_class_that_is_joined_with_its_parent_is_refused() -> None:
    class Base(DeclarativeBase): ...

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Report(Document):
        __tablename__ = "report"
        id: Mapped[int] = mapped_column(sa.ForeignKey("document.id"), primary_key=True)

    with pytest.raises(errors.QueryError, match="table 'document'"):
        Report.semantic.of(orm.aliased(Report))


def test_an_abstract_base_gives_its_index_to_every_class() -> None:
    class Base(DeclarativeBase): ...

    class Document(Base):
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Article(Document):
        __tablename__ = "article"

    assert Article.semantic.entity is Article


def test_a_child_in_its_parents_table_has_its_parents_index() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "article"}  # noqa: RUF012

    class Review(Article):
        __mapper_args__ = {"polymorphic_identity": "review"}  # noqa: RUF012

    assert Review.semantic is Article.semantic
    assert list(declare.indexes(Base.metadata)) == [Article.semantic]


def test_a_child_with_a_table_of_its_own_has_its_parents_index() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Review(Article):
        __tablename__ = "review"
        id: Mapped[int] = mapped_column(sa.ForeignKey("article.id"), primary_key=True)
        stars: Mapped[int]

    assert Review.semantic is Article.semantic
    assert list(declare.indexes(Base.metadata)) == [Article.semantic]


def test_a_child_may_index_the_columns_of_its_own_table() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    class Review(Article):
        __tablename__ = "review"
        id: Mapped[int] = mapped_column(sa.ForeignKey("article.id"), primary_key=True)
        verdict: Mapped[str]
        semantic = SemanticIndex("verdict", encoder=ENCODER)

    assert Review.semantic.entity is Review
    assert Review.semantic.spec.table == "review"
    assert not hasattr(Article, "semantic")


def test_a_child_may_not_index_a_column_of_its_parents_table() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    with pytest.raises(errors.DeclarationError, match=r"'body', which is a column of another table \(article\)"):

        class Review(Article):
            __tablename__ = "review"
            id: Mapped[int] = mapped_column(sa.ForeignKey("article.id"), primary_key=True)
            semantic = SemanticIndex("body", encoder=ENCODER)


def test_a_child_that_declares_its_parents_index_anew_has_both() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Review(Article):
        __tablename__ = "review"
        id: Mapped[int] = mapped_column(sa.ForeignKey("article.id"), primary_key=True)
        verdict: Mapped[str]
        semantic = SemanticIndex("verdict", encoder=ENCODER)

    assert Review.semantic.spec.columns == ("verdict",)
    assert Review.semantic.spec.table == "review"
    assert Article.semantic.spec.columns == ("body",)


def test_a_concrete_child_has_an_index_of_its_own() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Review(Article):
        __tablename__ = "review"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        __mapper_args__ = {"concrete": True}  # noqa: RUF012

    assert Review.semantic.spec.table == "review"
