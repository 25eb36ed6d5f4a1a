"""What stands beside a semantic index, as bases, other indexes and relationships, leaves it alone and is left alone.

Each is a fault that the relationship of pgai's vectorizer had. Here, as in all tests, SQLAlchemy's warnings are errors.
"""

import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc, orm
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from pg_semantic import SemanticIndex, errors
from pg_semantic.index import declare
from pg_semantic.index.bound_index import BoundIndex
from tests.unit.statement_text import text

ENCODER = "hashed:8"

OWN = {
    "ordinal",
    "content",
    "vector",
    "content_hash",
    "encoder_id",
    "token_count",
    "truncated",
    "embedded_at",
}


def configured(base: type[DeclarativeBase]) -> None:
    """Configures the mappers of a base as the first query would, with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base.registry.configure()


def test_two_indexes_of_a_class_share_no_table_no_class_and_no_name() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        body: Mapped[str]
        by_title = SemanticIndex("title", encoder=ENCODER)
        by_body = SemanticIndex("body", encoder=ENCODER)

    configured(Base)
    one, other = Article.by_title, Article.by_body
    assert one.Chunk is not other.Chunk
    assert (one.Chunk.__name__, other.Chunk.__name__) == ("ArticleByTitleChunk", "ArticleByBodyChunk")
    assert text(sa.select(one.Chunk.content)) != text(sa.select(other.Chunk.content))
    names = [named(index) for index in (one, other)]
    assert names[0].isdisjoint(names[1])


def named(index: BoundIndex[Any]) -> set[str]:
    """Every name that an index brings into a database."""
    found: set[str] = set()
    for table in (index.tables.chunks, index.tables.receipts):
        found |= {table.name, *(str(one.name) for one in table.indexes)}
        found |= {str(one.name) for one in table.constraints if one.name}
    return found | {index.spec.capture_name, index.spec.vector_index_name, index.spec.lexical_index_name}


def test_two_indexes_of_one_name_on_a_class_are_refused() -> None:
    class Base(DeclarativeBase): ...

    with pytest.raises(errors.DeclarationError, match="'texts' is already declared"):

        class Article(Base):
            __tablename__ = "article"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str]
            body: Mapped[str]
            by_title = SemanticIndex("title", encoder=ENCODER, name="texts")
            by_body = SemanticIndex("body", encoder=ENCODER, name="texts")


def test_a_table_that_is_declared_later_under_the_name_of_a_chunk_table_is_refused() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    with pytest.raises(exc.InvalidRequestError, match="'article_semantic' is already defined"):

        class Mine(Base):
            __tablename__ = "article_semantic"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_classes_of_one_name_in_two_modules_have_an_index_each() -> None:
    class Base(DeclarativeBase): ...

    def declared(module: str, table: str) -> Any:
        return type(
            "Article",
            (Base,),
            {
                "__module__": module,
                "__tablename__": table,
                "id": mapped_column(sa.Integer, primary_key=True),
                "body": mapped_column(sa.Text),
                "semantic": SemanticIndex("body", encoder=ENCODER),
            },
        )

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = declared("shop.tables", "article"), declared("archive.tables", "old_article")
    configured(Base)
    assert one.semantic.Chunk.__module__ == "shop.tables"
    assert other.semantic.Chunk.source.property.mapper.class_ is other


def test_what_a_base_brings_to_every_class_does_not_come_to_a_chunk() -> None:
    class Base(DeclarativeBase):
        created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
        tenant: Mapped[int] = mapped_column(default=0)
        __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012

        def __init_subclass__(cls, *, audited: bool, **options: Any) -> None:
            super().__init_subclass__(**options)

        @declared_attr.directive
        def __tablename__(cls) -> str:  # noqa: N805 - a class
            return cls.__name__.lower()

    class Stamped:
        changed_by: Mapped[str | None]

    class Article(Stamped, Base, audited=True):
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    configured(Base)
    chunk = Article.semantic.Chunk
    assert set(sa.inspect(chunk).attrs.keys()) == {"id", "source", *OWN}
    assert {column.name for column in Article.semantic.tables.chunks.columns} == {"id", *OWN}
    assert not issubclass(chunk, Base | Stamped)
    assert {"created_at", "tenant", "changed_by"} <= {column.name for column in Article.semantic.tables.source.columns}
    assert "article_semantic" in Base.metadata.tables


def test_relationships_of_the_users_and_ours_overlap_in_no_column() -> None:
    class Base(DeclarativeBase): ...

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)
        life: Mapped[str]
        articles: Mapped[list["Article"]] = orm.relationship(back_populates="author")
        semantic = SemanticIndex("life", encoder=ENCODER)

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))
        title: Mapped[str]
        body: Mapped[str]
        author: Mapped[Author] = orm.relationship(back_populates="articles")
        by_title = SemanticIndex("title", encoder=ENCODER)
        by_body = SemanticIndex("body", encoder=ENCODER)

        chunks = orm.relationship(lambda: Article.by_body.Chunk, viewonly=True)
        title_chunks = orm.relationship(lambda: Article.by_title.Chunk, passive_deletes="all")

    configured(Base)
    found = text(sa.select(Article.id).join(Article.chunks))
    assert found.endswith("FROM article JOIN article_by_body ON article.id = article_by_body.id")
    sources = [index.Chunk.source.property for index in declare.indexes(Base.metadata)]
    assert [one.viewonly for one in sources] == [True, True, True]


def test_a_relationship_may_name_a_class_that_is_declared_later_than_another_index() -> None:
    class Base(DeclarativeBase): ...

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)
        life: Mapped[str]
        prizes: Mapped[list["Prize"]] = orm.relationship()
        semantic = SemanticIndex("life", encoder=ENCODER)

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Prize(Base):
        __tablename__ = "prize"
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))

    configured(Base)
    assert sa.inspect(Author).relationships["prizes"].mapper.class_ is Prize
    assert Article.semantic.entity is Article


def test_a_key_that_is_a_foreign_key_too_is_no_cause_for_a_warning() -> None:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    class Translation(Base):
        __tablename__ = "translation"
        article_id: Mapped[int] = mapped_column(sa.ForeignKey("article.id"), primary_key=True)
        lang: Mapped[str] = mapped_column(primary_key=True)
        body: Mapped[str]
        article: Mapped[Article] = orm.relationship(backref="translations")
        semantic = SemanticIndex("body", encoder=ENCODER)

    configured(Base)
    [only] = Translation.semantic.tables.chunks.foreign_key_constraints
    assert only.referred_table is Translation.__table__


ARGUMENTS: dict[str, Callable[[], Any]] = {
    "a tuple of constraints": lambda: (sa.UniqueConstraint("body", name="one_body"),),
    "a tuple that ends in a mapping": lambda: (sa.Index("body_idx", "body"), {"comment": "Articles"}),
    "a tuple of a mapping": lambda: ({"comment": "Articles"},),
    "a mapping": lambda: {"comment": "Articles"},
    "an empty tuple": tuple,
}


@pytest.mark.parametrize("arguments", [pytest.param(value, id=name) for name, value in ARGUMENTS.items()])
@pytest.mark.parametrize("mixed_in", [False, True])
def test_table_arguments_of_any_form_are_the_sources_and_not_the_chunk_tables(
    arguments: Callable[[], Any], mixed_in: bool
) -> None:
    class Base(DeclarativeBase): ...

    class Searchable:
        semantic = SemanticIndex("body", encoder=ENCODER)

        @declared_attr.directive
        def __table_args__(cls) -> Any:  # noqa: N805 - a class
            return arguments()

    body: dict[str, Any] = {
        "__tablename__": "article",
        "id": mapped_column(sa.Integer, primary_key=True),
        "body": mapped_column(sa.Text),
    }
    own = {} if mixed_in else {"__table_args__": arguments(), "semantic": SemanticIndex("body", encoder=ENCODER)}
    article: Any = type("Article", (Searchable, Base) if mixed_in else (Base,), body | own)
    configured(Base)
    tables = article.semantic.tables
    given = arguments() if isinstance(arguments(), tuple) else (arguments(),)
    assert tables.source.comment == next((one["comment"] for one in given if isinstance(one, dict)), None)
    assert {"one_body", "body_idx"}.isdisjoint(named(article.semantic))
    assert tables.chunks.comment.startswith("Chunks and vectors of article")


def test_a_convention_for_names_leaves_an_index_the_names_that_a_worker_looks_for() -> None:
    convention = {
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }

    class Base(DeclarativeBase):
        metadata = sa.MetaData(naming_convention=convention)

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    configured(Base)
    tables = Article.semantic.tables
    assert tables.vector_index.name == "article_semantic_vector_idx"
    assert tables.lexical_index.name == "article_semantic_lexemes_idx"


def test_a_schema_of_the_metadata_is_that_of_the_tables() -> None:
    class Base(DeclarativeBase):
        metadata = sa.MetaData(schema="shop")

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder=ENCODER)

    configured(Base)
    assert Article.semantic.spec.schema == "shop"
    assert Article.semantic.tables.chunks.fullname == "shop.article_semantic"
