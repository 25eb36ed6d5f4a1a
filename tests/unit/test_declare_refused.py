import enum
import inspect

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, errors

ENCODER = "hashed:8"


class Colour(enum.Enum):
    red = "red"


def test_a_column_that_is_not_there_is_refused_with_those_that_are() -> None:
    class Base(DeclarativeBase): ...

    with pytest.raises(
        errors.DeclarationError, match=r"Article: .* 'text', which is not a column\. Its columns: id, body\."
    ):

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            body: Mapped[str]
            semantic = SemanticIndex("text", encoder=ENCODER)


def test_a_relationship_is_not_a_column() -> None:
    class Base(DeclarativeBase): ...

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(errors.DeclarationError, match=r"'author', which is not a column"):

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))
            author: Mapped[Author] = orm.relationship()
            semantic = SemanticIndex("author", encoder=ENCODER)


def test_an_expression_is_not_a_column() -> None:
    class Base(DeclarativeBase): ...

    with pytest.raises(errors.DeclarationError, match=r"'loud', which is not a column\. Its columns: id, body\."):

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            body: Mapped[str] = mapped_column()
            loud: Mapped[str] = orm.column_property(sa.func.upper(body))
            semantic = SemanticIndex("loud", encoder=ENCODER)


@pytest.mark.parametrize(
    "kind",
    [
        sa.Integer(),
        sa.LargeBinary(),
        sa.ARRAY(sa.Integer()),
        postgresql.HSTORE(),
        postgresql.DOMAIN("price", sa.Numeric),
        sa.Uuid(),
    ],
    ids=lambda kind: type(kind).__name__,
)
def test_a_column_that_is_not_text_is_refused(kind: sa.types.TypeEngine[object]) -> None:
    class Base(DeclarativeBase): ...

    with pytest.raises(errors.DeclarationError, match=r"'body', which is not text .*GENERATED ALWAYS AS"):

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            body = mapped_column(kind)
            semantic = SemanticIndex("body", encoder=ENCODER)


@pytest.mark.parametrize("kind", [sa.JSON(), postgresql.JSONB()])
def test_json_is_refused_with_a_column_of_one_of_its_values_as_the_way_out(kind: sa.types.TypeEngine[object]) -> None:
    class Base(DeclarativeBase): ...

    way_out = r"ALTER TABLE article ADD COLUMN meta_text text GENERATED ALWAYS AS \(meta->>'summary'\) STORED"
    with pytest.raises(errors.DeclarationError, match=way_out):

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            meta = mapped_column(kind)
            semantic = SemanticIndex("meta", encoder=ENCODER)


def test_a_table_without_a_primary_key_is_refused() -> None:
    class Base(DeclarativeBase): ...

    table = sa.Table("article", Base.metadata, sa.Column("slug", sa.Text), sa.Column("body", sa.Text))
    with pytest.raises(errors.DeclarationError, match=r"'article' has no primary key, and a semantic index needs one"):

        class Article(Base):
            __table__ = table
            __mapper_args__ = {"primary_key": [table.c.slug]}  # noqa: RUF012
            semantic = SemanticIndex("body", encoder=ENCODER)


def test_an_index_of_no_column_is_refused() -> None:
    class Base(DeclarativeBase): ...

    with pytest.raises(errors.DeclarationError, match="names no text column: name at least one"):

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            semantic = SemanticIndex(encoder=ENCODER)


def test_an_encoder_that_the_catalog_does_not_know_needs_dimensions() -> None:
    with pytest.raises(errors.DeclarationError, match=r"pass dimensions=\.\.\."):
        SemanticIndex("body", encoder="nobody/nothing")


@pytest.mark.parametrize("name", ["article", "article_semantic", "article_semantic_receipt"])
def test_a_name_that_is_taken_on_the_metadata_is_refused(name: str) -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    with pytest.raises(errors.DeclarationError, match=rf"'{name}' is already declared; pass another name=\.\.\."):

        class Author(Base):
            __tablename__ = "author"
            id: Mapped[int] = mapped_column(primary_key=True)
            life: Mapped[str]
            semantic = SemanticIndex("life", encoder=ENCODER, name=name)


def test_the_name_of_the_table_itself_and_a_column_named_twice_are_refused() -> None:
    class Base(DeclarativeBase): ...

    with pytest.raises(errors.DeclarationError, match="the source table"):

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            body: Mapped[str]
            semantic = SemanticIndex("body", encoder=ENCODER, name="article")

    with pytest.raises(errors.DeclarationError, match="names a column twice"):

        class Author(Base):
            __tablename__ = "author"
            id: Mapped[int] = mapped_column(primary_key=True)
            life: Mapped[str]
            semantic = SemanticIndex("life", "life", encoder=ENCODER)


def test_one_name_in_two_schemas_is_not_taken() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class OldArticle(Base):
        __tablename__ = "article"
        __table_args__ = ({"schema": "archive"},)
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    assert Article.semantic.name == OldArticle.semantic.name
    assert Article.semantic.tables.chunks is not OldArticle.semantic.tables.chunks


@pytest.mark.parametrize(
    "kind", [sa.JSON(), postgresql.MONEY(), postgresql.REGCLASS()], ids=lambda kind: type(kind).__name__
)
def test_a_key_whose_text_does_not_read_back_is_refused(kind: sa.types.TypeEngine[object]) -> None:
    class Base(DeclarativeBase): ...

    with pytest.raises(errors.DeclarationError, match=r"key column 'id' has type .* such as bigint, uuid"):

        class Article(Base):
            __tablename__ = "article"
            id = mapped_column(kind, primary_key=True)
            body: Mapped[str]
            semantic = SemanticIndex("body", encoder=ENCODER)


def test_a_mixin_shows_the_declaration_itself_so_that_tools_may_look_at_it() -> None:
    class Searchable:
        semantic = SemanticIndex("body", encoder=ENCODER)

    assert "semantic" in dict(inspect.getmembers(Searchable))
    assert isinstance(inspect.getattr_static(Searchable, "semantic"), SemanticIndex)


def test_a_key_whose_type_comes_from_a_table_declared_later_is_refused() -> None:
    class Base(DeclarativeBase): ...

    with pytest.raises(errors.DeclarationError, match="type"):

        class Detail(Base):
            __tablename__ = "detail"
            id: Mapped[int] = mapped_column(sa.ForeignKey("article.id"), primary_key=True)
            body: Mapped[str]
            semantic = SemanticIndex("body", encoder=ENCODER)
