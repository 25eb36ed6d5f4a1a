"""Searches of many callers at once: they share the encoder, and each finds what it asked for."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pg_semantic import AsyncSearcher, Searcher
from pg_semantic.encoders import BatchingEncoder, Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from tests.db.library import Article, execute, sync

ROWS = 50
PATIENCE_SECONDS = 30


class Held(HashedEncoder):
    """Waits to be let go before it makes vectors of queries."""

    def __init__(self) -> None:
        super().__init__(32)
        self.given: list[int] = []
        self.threads: set[int] = set()
        self.begun, self.free = threading.Event(), threading.Event()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.given.append(len(texts))
        self.threads.add(threading.get_ident())
        self.begun.set()
        assert self.free.wait(PATIENCE_SECONDS)
        return super().encode_queries(texts)


@pytest.fixture
def fifty(articles: sa.Engine) -> sa.Engine:
    """Fifty rows, each found by the word that it alone has."""
    execute(articles, f"INSERT INTO article SELECT i, 'word' || i, NULL, 'en' FROM generate_series(1, {ROWS}) i")
    sync(articles)
    return articles


def test_searches_that_come_while_the_encoder_is_busy_are_encoded_together(fifty: sa.Engine) -> None:
    held = Held()
    engine = create_async_engine(fifty.url)
    searcher = AsyncSearcher(held)

    async def find(number: int) -> int:
        async with AsyncSession(engine) as session:
            [hit] = await searcher.search(session, Article.semantic, f"word{number}", limit=1)
            return hit.entity.id

    async def find_all() -> list[int]:
        first = asyncio.create_task(find(1))
        await asyncio.to_thread(held.begun.wait, PATIENCE_SECONDS)
        others = [asyncio.create_task(find(number)) for number in range(2, ROWS + 1)]
        await asyncio.sleep(0)  # lets each go as far as it gets
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # who waits for the encoder has no connection
        held.free.set()
        found = await asyncio.gather(first, *others)
        await engine.dispose()
        return found

    assert asyncio.run(find_all()) == list(range(1, ROWS + 1))
    assert held.given == [1, 32, 17]


def test_threads_that_share_a_searcher_each_find_what_they_asked_for(fifty: sa.Engine) -> None:
    held = Held()
    held.free.set()
    searcher = Searcher(held)

    def find(number: int) -> int:
        with Session(fifty) as session:
            [hit] = searcher.search(session, Article.semantic, f"word{number}", limit=1)
            return hit.entity.id

    numbers = [*range(1, ROWS + 1)] * 3
    with ThreadPoolExecutor(10) as threads:
        assert list(threads.map(find, numbers)) == numbers
    assert len(held.threads) == 1
    assert sum(held.given) == ROWS  # the second time they are remembered


def test_searchers_that_are_given_one_query_encoder_share_its_thread_and_its_vectors(fifty: sa.Engine) -> None:
    held = Held()
    held.free.set()

    async def find(searcher: AsyncSearcher) -> int:
        engine = create_async_engine(fifty.url)
        async with AsyncSession(engine) as session:
            [hit] = await searcher.search(session, Article.semantic, "word7", limit=1)
        await engine.dispose()
        return hit.entity.id

    with BatchingEncoder(held) as queries, Session(fifty) as session:
        [hit] = Searcher(queries).search(session, Article.semantic, "word7", limit=1)
        assert [hit.entity.id, asyncio.run(find(AsyncSearcher(queries)))] == [7, 7]
    assert held.given == [1]
