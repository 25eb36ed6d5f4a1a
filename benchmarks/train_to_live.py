"""Trains the queries' side of an encoder on an index of 100,000 chunks, and measures the time until searches use it.

    make bench-train-to-live

The rows are the titles of SciFact's abstracts, then twelve words each of their sentences and of lines of tldr pages, so
that the first sync doesn't take long. The pairs are SciFact's training claims with the titles of their abstracts. What
counts is the time, not the gain: the encoder is rolled out whether it is better or not.

``train_s`` is the time of training with loading and writing, ``begin_s`` that to begin the next generation, ``fill_s``
that of a worker to copy the vectors and build the vector index, ``switch_s`` and ``rollback_s`` those of the two
switches. ``live_s`` is the sum until the switch. ``rows_encoded`` is what the worker encoded for the next generation.
"""

import dataclasses
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import scifact
from benchmarks.train import claims
from pg_semantic import SemanticIndex, database, encoders, generations, settings, training
from pg_semantic.cli import progress
from pg_semantic.database import embedded, migrate
from pg_semantic.demo import tldr_pages
from pg_semantic.training import Pair, QueryTraining
from pg_semantic.worker.worker import Worker

ROWS = 100_000
WORDS = 12
NAME = "sentence_semantic"


class Base(orm.DeclarativeBase):
    """The table of this benchmark."""


class Sentence(Base):
    """A title, or a part of a sentence."""

    __tablename__ = "sentence"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder=scifact.ENCODER, chunking=None)


def main() -> None:
    """Prints the results, with JSON as the last line."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        engine = database.connect(f"embedded:{data}")
        try:
            pairs = _load(engine)
            _sync(engine)
            result = _measure(engine, pairs, Path(folder) / "trained")
        finally:
            engine.dispose()
            embedded.stop(data)
    print(json.dumps(result))


def _load(engine: sa.Engine) -> list[Pair]:
    """Inserts the rows, and returns the pairs to train on."""
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    titles = {record["_id"]: record["title"] for record in scifact.records("corpus")}
    texts = itertools.islice(dict.fromkeys(itertools.chain(titles.values(), _sentences())), ROWS)
    numbers = {text: number for number, text in enumerate(texts, 1)}
    with orm.Session(engine) as session:
        session.execute(sa.insert(Sentence), [{"id": number, "text": text} for text, number in numbers.items()])
        session.commit()
    return [Pair(claim, str(numbers[titles[key]])) for claim, grades in claims("train").items() for key in grades]


def _sentences() -> Iterator[str]:
    """Yields parts of sentences and lines."""
    abstracts = (sentence for record in scifact.records("corpus") for sentence in record["text"].split(". "))
    lines = (line for page in tldr_pages.pages() for line in page.text.splitlines())
    for text in itertools.chain(abstracts, lines):
        words = text.split()
        yield from (" ".join(words[start : start + WORDS]) for start in range(0, len(words), WORDS))


def _measure(engine: sa.Engine, pairs: list[Pair], out: Path) -> dict[str, float]:
    marks = [time.monotonic()]
    with orm.Session(engine) as session:
        options = QueryTraining(keep=True)
        trained = training.train_query_side(session, Sentence.semantic, pairs, out=out, options=options)
    print(trained.verdict)
    marks.append(time.monotonic())
    live = generations.find(engine, NAME, "live")
    encoder = dataclasses.replace(live.spec.encoder, reference=str(out), dimensions=encoders.load(str(out)).dimensions)
    generations.begin(engine, live, dataclasses.replace(live.spec, encoder=encoder))
    marks.append(time.monotonic())
    encoded = _sync(engine)
    marks.append(time.monotonic())
    generations.switch(engine, NAME)
    marks.append(time.monotonic())
    generations.rollback(engine, NAME)
    marks.append(time.monotonic())
    names = ("train_s", "begin_s", "fill_s", "switch_s", "rollback_s")
    spans = {name: round(end - start, 2) for name, (start, end) in zip(names, itertools.pairwise(marks), strict=True)}
    return {"rows": ROWS, "rows_encoded": encoded, **spans, "live_s": round(marks[4] - marks[0], 1)}


def _sync(engine: sa.Engine) -> int:
    """Runs a worker until all rows are synced, and returns how many chunks it encoded."""
    with progress.bar(engine, shown=True) as advance:
        done = Worker(engine, settings.load(), on_progress=advance).run(threading.Event(), once=True)
    print(f"{done.rows} rows synced, {done.chunks_encoded} chunks encoded")
    return done.chunks_encoded


if __name__ == "__main__":
    main()
