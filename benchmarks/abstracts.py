"""The table of the benchmarks that tune and train on SciFact: its abstracts, with one chunk each."""

from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import scifact
from pg_semantic import SemanticIndex


class Base(orm.DeclarativeBase):
    """The table of these benchmarks."""


class Abstract(Base):
    """An abstract of SciFact, one chunk each."""

    __tablename__ = "abstract"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str]

    semantic = SemanticIndex("title", "text", encoder=scifact.ENCODER, chunking=None)
