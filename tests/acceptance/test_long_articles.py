"""Long articles, cut by the real tokenizer: an edit costs the chunks that it changes."""

import gzip
import json
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_semantic import SemanticIndex, database, encoders
from pg_semantic.demo import tldr_pages
from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from tests.conftest import copy_of
from tests.db.library import rows, sync

pytestmark = pytest.mark.weights

ARTICLES = Path(__file__).parent / "data" / "covidqa" / "corpus.jsonl.gz"


class Base(DeclarativeBase): ...


class Paper(Base):
    __tablename__ = "paper"

    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder=tldr_pages.ENCODER)


class Cutting(HashedEncoder):
    """Cuts and counts as the real encoder does, and makes vectors that cost nothing."""

    def __init__(self, real: Encoder) -> None:
        super().__init__(real.dimensions)
        self.max_tokens = real.max_tokens
        self.count_tokens = real.count_tokens  # type: ignore[method-assign]
        self.splitter = real.splitter  # type: ignore[method-assign]
        self.given: list[str] = []

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.given += texts
        return super().encode_documents(texts)


@pytest.fixture(scope="module")
def encoder() -> Cutting:
    return Cutting(encoders.load(tldr_pages.ENCODER, dimensions=384))


@pytest.fixture(scope="module")
def papers(server: sa.URL, template: str, encoder: Cutting) -> Iterator[sa.Engine]:
    with copy_of(server, template) as dsn, gzip.open(ARTICLES, "rt", encoding="utf-8") as lines:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Paper(id=paper["_id"], text=paper["text"]) for paper in map(json.loads, lines))
            session.commit()
        sync(engine, lambda *_, **__: encoder)
        yield engine
        engine.dispose()


def edited(text: str, random_: random.Random) -> str:
    """One paragraph with a few words put into its middle."""
    paragraphs = text.split("\n\n")
    number = random_.choice([n for n, paragraph in enumerate(paragraphs) if len(paragraph) > 200])
    words = paragraphs[number].split(" ")
    words[len(words) // 2 : len(words) // 2] = ["which", "was", "later", "found", "to", "be", "wrong,"]
    paragraphs[number] = " ".join(words)
    return "\n\n".join(paragraphs)


def extended(text: str, random_: random.Random) -> str:
    """A paragraph more, somewhere."""
    paragraphs = text.split("\n\n")
    new = "A new paragraph, which no other article has, on what was found out since."
    paragraphs.insert(random_.randrange(1, len(paragraphs)), new)
    return "\n\n".join(paragraphs)


@pytest.mark.parametrize("change", [edited, extended])
def test_one_paragraph_of_a_long_article_changed_encodes_a_chunk_or_two_and_moves_none(
    papers: sa.Engine, encoder: Cutting, change: Callable[[str, random.Random], str]
) -> None:
    before = stored(papers)
    encoder.given.clear()
    with Session(papers) as session:
        for number, paper in enumerate(session.scalars(sa.select(Paper).order_by(Paper.id))):
            paper.text = change(paper.text, random.Random(number))  # noqa: S311 - the same edits each time
        session.commit()
    sync(papers, lambda *_, **__: encoder)
    after = stored(papers)
    written = {paper: len(chunks - before[paper]) for paper, chunks in after.items()}
    assert statistics.median(len(chunks) for chunks in after.values()) > 20
    assert statistics.median(written.values()) <= 2
    assert len(encoder.given) == sum(written.values())


def stored(engine: sa.Engine) -> dict[str, set[tuple[object, ...]]]:
    """Chunk rows by paper, each with the transaction that wrote it."""
    found = defaultdict(set)
    for paper, *chunk in rows(engine, "SELECT id, ordinal, xmin::text, content FROM paper_semantic"):
        found[paper].add(tuple(chunk))
    return found
