"""The demo's corpus: tldr pages (CC BY 4.0, see ``data/SOURCE.md``) and their mapped class."""

import gzip
import importlib.resources
import json
from collections.abc import Iterator

from sqlalchemy import func, orm, select
from sqlalchemy.orm import Mapped, mapped_column

from pg_semantic.index.declare import SemanticIndex

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


class Base(orm.DeclarativeBase):
    """The declarative base of the demo's tables."""


class Page(Base):
    """A tldr page: what a command does, with examples."""

    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    platform: Mapped[str]
    title: Mapped[str]
    text: Mapped[str]

    semantic = SemanticIndex("title", "text", encoder=ENCODER)


def pages() -> Iterator[Page]:
    """Yields every page of the corpus."""
    data = importlib.resources.files(__name__.rpartition(".")[0]).joinpath("data", "tldr.jsonl.gz")
    with data.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            platform = record["_id"].partition("/")[0]
            yield Page(platform=platform, title=record["title"], text=record["text"])


def load(session: orm.Session) -> int:
    """Adds the corpus if the table is empty, and commits.

    Returns:
        The number of pages in the table.
    """
    if not session.scalar(select(Page.id).limit(1)):
        session.add_all(pages())
        session.commit()
    return session.execute(select(func.count()).select_from(Page)).scalar_one()
