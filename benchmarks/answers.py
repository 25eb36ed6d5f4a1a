"""1,000 answers of MedQuAD and the questions that they answer (CC BY 4.0, see ``data/medquad/SOURCE.md``)."""

import gzip
import json
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import scifact
from pg_semantic import SemanticIndex
from pg_semantic.evaluation import Judgements

DATA = Path(__file__).parent / "data" / "medquad"


class Base(orm.DeclarativeBase):
    """The table of answers."""


class Answer(Base):
    """An answer to medical questions, in chunks."""

    __tablename__ = "answer"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder=scifact.ENCODER)


def load(engine: sa.Engine) -> None:
    """Creates the table with all answers, and their index without vectors."""
    Base.metadata.create_all(engine)
    with gzip.open(DATA / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines, orm.Session(engine) as session:
        records = map(json.loads, lines)
        session.add_all(Answer(id=int(record["_id"]), text=record["text"]) for record in records)
        session.commit()


def judged() -> Judgements:
    """Returns the questions with their answers."""
    return Judgements.read(DATA / "judged.jsonl.gz")
