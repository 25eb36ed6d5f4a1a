"""A switch to an encoder of other dimensions, and back, while people write and search."""

import dataclasses
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_semantic import Searcher, SemanticIndex, encoders, generations, registry
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import verify
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests.db.library import execute, generation_of, rows, sync
from tests.waiting import eventually

pytestmark = pytest.mark.slow

NAME, ROWS, THREADS, PATIENCE_SECONDS = "book_semantic", 2000, 4, 300
SECOND = EncoderSpec("hashed:256", 256)


class Base(DeclarativeBase): ...


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]

    semantic = SemanticIndex("title", encoder="hashed:384")


class Traffic:
    """Four threads that edit rows and four that search, and what they saw."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.stop = threading.Event()
        self.edits, self.searches = [0] * THREADS, [0] * THREADS
        self.searchers = [Searcher(encoders.load("hashed:384")) for _ in range(THREADS)]

    def edit(self, number: int) -> None:
        """Gives rows of its own a text that no other has; nobody waits for a worker."""
        chance = random.Random(number)  # noqa: S311 - rows to edit
        while not self.stop.wait(0.1):
            row = THREADS * chance.randrange(ROWS // THREADS) + number
            text = f"{chance.getrandbits(64):x} {chance.getrandbits(64):x} edit{self.edits[number]}of{number}"
            execute(self.engine, "UPDATE book SET title = :text WHERE id = :row", text=text, row=row)
            self.edits[number] += 1

    def search(self, number: int) -> None:
        """Finds, by the whole of its text, a row that nobody edits, and looks whether scores are of one encoder."""
        while not self.stop.wait(0.005):
            with Session(self.engine) as session:
                hits = self.searchers[number].search(session, Book.semantic, "zeppelin moored alone", limit=20)
            assert len(hits) == 20
            assert hits[0].entity.id == ROWS
            assert abs(hits[0].score - 1) < 0.001  # 16 bits; a vector of the other encoder would be nowhere near
            self.searches[number] += 1


@contextmanager
def under_way(traffic: Traffic) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Traffic and a worker while the block runs; yields what waits for a condition, and raises what any of them met."""
    worker = Worker(traffic.engine, Settings(poll_seconds=0.01, batch_seconds=0.5))
    with ThreadPoolExecutor(2 * THREADS + 1) as threads:
        running: list[Future[object]] = [threads.submit(worker.run, traffic.stop)]
        running += [threads.submit(act, number) for act in (traffic.edit, traffic.search) for number in range(THREADS)]

        def until(reached: Callable[[], bool]) -> None:
            def look() -> bool:
                for one in running:
                    if one.done():
                        one.result()
                return reached()

            eventually(look, "the traffic or the worker", seconds=PATIENCE_SECONDS)

        try:
            yield until
        finally:
            traffic.stop.set()
        for one in running:
            one.result()


def more(counts: list[int], by: int = 20) -> Callable[[], bool]:
    """The condition that every one of the threads has come so much further."""
    before = list(counts)
    return lambda: all(now >= then + by for now, then in zip(counts, before, strict=True))


def ready(engine: sa.Engine) -> bool:
    return not generations.coverage(engine, generations.find(engine, NAME, "next")).missing()


def found(engine: sa.Engine, edited: list[tuple[int, str]]) -> list[int]:
    """The row that is nearest to each of these texts."""
    searcher = Searcher(encoders.load("hashed:384"))
    with Session(engine) as session:
        return [searcher.search(session, Book.semantic, text, limit=1)[0].entity.id for _, text in edited]


@pytest.mark.parametrize(
    "changes",
    [{"encoder": SECOND, "storage": "vector"}, {"encoder": SECOND, "partitions": 8}],
    ids=["of another type", "in eight partitions"],
)
def test_no_search_fails_or_mixes_encoders_while_an_index_is_switched_and_back(
    engine: sa.Engine, changes: dict[str, Any]
) -> None:
    Base.metadata.create_all(engine)
    statement = "INSERT INTO book SELECT i, md5(i || 'a') || ' ' || md5(i || 'b') FROM generate_series(0, :last) AS i"
    execute(engine, statement, last=ROWS - 1)
    execute(engine, "INSERT INTO book VALUES (:row, 'zeppelin moored alone')", row=ROWS)
    sync(engine)
    traffic = Traffic(engine)
    with under_way(traffic) as until:
        until(more(traffic.searches))
        live = generation_of(engine, NAME)
        generations.begin(engine, live, dataclasses.replace(live.spec, **changes))
        until(more(traffic.edits))
        until(lambda: ready(engine))
        generations.switch(engine, NAME)
        until(more(traffic.searches))
        until(more(traffic.edits))
        assert {one._algorithm.tracker._has(generation_of(engine, NAME)) for one in traffic.searchers} == {True}
        generations.rollback(engine, NAME)
        until(more(traffic.searches))
    sync(engine)
    with engine.connect() as connection:
        known = registry.generations(connection)
    assert {one.role: one.spec.encoder for one in known} == {"live": live.spec.encoder, "next": SECOND}
    assert all(verify.verify(engine, one).clean for one in known)
    edited: list[tuple[int, str]] = rows(
        engine, "SELECT id, title FROM book WHERE title LIKE '%edit%' ORDER BY id LIMIT 50"
    )
    assert edited
    assert found(engine, edited) == [row for row, _ in edited]
    generations.switch(engine, NAME)
    assert found(engine, edited) == [row for row, _ in edited]
