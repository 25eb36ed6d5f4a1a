"""The table that the application is about, mapped as any other; one attribute makes it searchable."""

import os

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex

ENCODER = os.environ.get("EXAMPLE_ENCODER", "sentence-transformers/all-MiniLM-L6-v2")


class Base(DeclarativeBase): ...


class Article(Base):
    """An article of a help centre."""

    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]
    lang: Mapped[str]

    semantic = SemanticIndex("title", "body", encoder=ENCODER)
