"""The application's table: an ordinary mapped class that one attribute makes searchable."""

import os

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex

ENCODER = os.environ.get("EXAMPLE_ENCODER", "sentence-transformers/all-MiniLM-L6-v2")


class Base(DeclarativeBase): ...


class Article(Base):
    """An article in a help center."""

    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]
    lang: Mapped[str]

    semantic = SemanticIndex("title", "body", encoder=ENCODER)
