"""What an application declares, release by release, and which migrations are written for it."""

import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex


def article(*columns: str, table: str = "article", **declared: Any) -> sa.MetaData:
    """A mapped class with an index of these columns; without columns, one without an index."""

    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = table
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str | None]
        body: Mapped[str | None]
        if columns:
            semantic = SemanticIndex(*columns, **({"encoder": "hashed:32"} | declared))

    return Base.metadata


def composite(**declared: Any) -> sa.MetaData:
    """A key of several columns, whose types can be written in several ways."""

    class Base(DeclarativeBase): ...

    class Page(Base):
        __tablename__ = "page"
        site: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
        number: Mapped[int] = mapped_column(sa.Numeric(10), primary_key=True)
        since: Mapped[object] = mapped_column(sa.DateTime, primary_key=True)
        words: Mapped[str]
        semantic = SemanticIndex("words", encoder="hashed:32", **declared)

    return Base.metadata


def in_a_schema() -> sa.MetaData:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        __table_args__ = {"schema": "shop"}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder="hashed:32")

    return Base.metadata


def two_of_one_table() -> sa.MetaData:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        body: Mapped[str]
        by_title = SemanticIndex("title", encoder="hashed:32", lexical=None)
        by_body = SemanticIndex("body", encoder="hashed:64", chunking=None, storage="vector")

    return Base.metadata


def by_a_mixin() -> sa.MetaData:
    class Base(DeclarativeBase): ...

    class Searchable:
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder="hashed:32")

    class Article(Searchable, Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Note(Searchable, Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Base.metadata


def of_both() -> sa.MetaData:
    return article("title", "body")


def with_headline() -> sa.MetaData:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        headline: Mapped[str | None]
        body: Mapped[str | None]
        semantic = SemanticIndex("headline", "body", encoder="hashed:32")

    return Base.metadata


def only_body() -> sa.MetaData:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str | None]
        semantic = SemanticIndex("body", encoder="hashed:32")

    return Base.metadata


def without_title() -> sa.MetaData:
    class Base(DeclarativeBase): ...

    class Article(Base):
        __tablename__ = "article"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str | None]

    return Base.metadata


def parts(text: str) -> tuple[str, str]:
    """Upgrade and downgrade of a migration."""
    _, upgrade, downgrade = re.split(r"^def \w+\(\):\n", text, flags=re.MULTILINE)
    return upgrade, downgrade


def operations(part: str) -> list[tuple[str, str]]:
    """Operations in order, each with its first name."""
    return re.findall(r"^    op\.(\w+)\(\s*'(\w+)'", part, flags=re.MULTILINE)
