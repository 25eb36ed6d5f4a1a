"""Measures what a search costs: our statement against one written by hand, and searches by text from end to end.

    make bench-search

The data is 7,425 tldr pages with the real encoder's vectors. ``overhead_ratio_p50`` is the median time of `search.knn`,
including building the statement, over that of the same statement written by hand in SQLAlchemy, which needs a round
trip for its settings. They alternate.

The rest are searches by text on the CPU, each with a different text, so that no vector is cached: ``search_p50_ms`` for
one client, ``search_p99_ms`` for eight concurrent clients on threads, and the same for eight tasks with
`AsyncSearcher`. During the latter, ``loop_lag_ms`` is the longest delay of the event loop. While the encoder and the
server keep the cores busy, most of that is the thread waiting for a core, as the kernel counts it. ``loop_blocked_ms``
is the longest delay without that wait: the time that the loop was blocked by its own work, by other threads that held
the GIL, or by anything else that should have run elsewhere.
"""

import asyncio
import contextlib
import gc
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from benchmarks import moments, server
from pg_semantic import AsyncSearcher, Searcher, encoders, search, settings
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Base, Page
from pg_semantic.worker.worker import Worker

LIMIT, ROUNDS, CLIENTS, SEARCHES = 10, 400, 8, 400


def main() -> None:
    """Prints the results, with JSON as the last line."""
    with server.running() as postgres:
        engine = postgres.create("search")
        _fill(engine)
        encoder = encoders.load(Page.semantic.spec.encoder.reference)
        gc.collect()
        gc.freeze()  # as a service does once everything is loaded
        figures = _overhead(engine, encoder) | _texts(engine, encoder) | asyncio.run(_tasks(engine, encoder))
        engine.dispose()
    print(json.dumps(figures))


def _fill(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(tldr_pages.pages())
        session.commit()
    Worker(engine, settings.load()).run(threading.Event(), once=True)
    server.execute(engine, "VACUUM ANALYZE")


def _overhead(engine: sa.Engine, encoder: encoders.Encoder) -> dict[str, float]:
    vectors = encoder.encode_queries(list(itertools.islice(questions(), ROUNDS)))
    ours, by_hand = [], []
    with orm.Session(engine) as session:
        for vector in vectors:
            by_hand.append(moments.taken(lambda vector=vector: _run_by_hand(session, vector)))  # type: ignore[misc]
            ours.append(moments.taken(lambda vector=vector: _run_ours(session, vector)))  # type: ignore[misc]
    p50, other = moments.quantile(ours, 0.5), moments.quantile(by_hand, 0.5)
    return {
        "overhead_ratio_p50": round(p50 / other, 3),
        "knn_p50_ms": round(p50 * 1000, 2),
        "by_hand_p50_ms": round(other * 1000, 2),
    }


def _run_ours(session: orm.Session, vector: NDArray[np.float32]) -> None:
    session.execute(search.knn(Page.semantic, vector, limit=LIMIT)).all()


def _run_by_hand(session: orm.Session, vector: NDArray[np.float32]) -> None:
    chunk, other = Page.semantic.Chunk, orm.aliased(Page.semantic.Chunk)
    asked = sa.cast(vector.tolist(), Page.semantic.tables.chunks.c.vector.type)
    distance = chunk.vector.op("<=>", return_type=sa.Float())(asked)
    key, other_key = (sa.inspect(entity).selectable.c.id for entity in (chunk, other))
    best = (
        sa.select(other.ordinal == chunk.ordinal)
        .where(other_key == key)
        .order_by(other.vector.op("<=>")(asked) + sa.literal_column("0"), other.ordinal)
        .limit(1)
        .correlate(chunk)
        .scalar_subquery()
    )
    statement = (
        sa.select(Page, (1 - distance).label("score"))
        .join(chunk, key == Page.id)
        .where(best)
        .order_by(distance, Page.id)
        .limit(LIMIT)
    )
    names = ("hnsw.ef_search", "hnsw.iterative_scan", "hnsw.max_scan_tuples", "hnsw.scan_mem_multiplier")
    values = ("100", "strict_order", "1000000", "32")
    settings_ = (sa.func.set_config(*pair, True) for pair in zip(names, values, strict=True))  # noqa: FBT003 - local
    session.execute(sa.select(*settings_))
    session.execute(statement).all()


def _texts(engine: sa.Engine, encoder: encoders.Encoder) -> dict[str, float]:
    searcher, texts, lock = Searcher(encoder), questions(), threading.Lock()

    def one(_: int) -> float:
        with lock:
            text = next(texts)
        with orm.Session(engine) as session:
            return moments.taken(lambda: searcher.search(session, Page.semantic, text, limit=LIMIT))

    alone = [one(number) for number in range(SEARCHES)]
    with ThreadPoolExecutor(CLIENTS) as clients:
        together = list(clients.map(one, range(SEARCHES)))
    return {
        "search_p50_ms": round(moments.quantile(alone, 0.5) * 1000, 2),
        "search_p99_ms": round(moments.quantile(together, 0.99) * 1000, 2),
    }


async def _tasks(engine: sa.Engine, encoder: encoders.Encoder) -> dict[str, float]:
    searcher, texts = AsyncSearcher(encoder), questions()
    async_engine = create_async_engine(engine.url, pool_size=CLIENTS)
    seconds: list[float] = []
    lags: list[float] = []
    blocked: list[float] = []
    done = asyncio.Event()

    async def client() -> None:
        for _ in range(SEARCHES // CLIENTS):
            started = time.perf_counter()
            async with AsyncSession(async_engine) as session:
                await searcher.search(session, Page.semantic, next(texts), limit=LIMIT)
            seconds.append(time.perf_counter() - started)

    async def watch() -> None:
        with _waits() as waited_for_a_core:
            started, waited = time.perf_counter(), waited_for_a_core()
            while not done.is_set():
                await asyncio.sleep(0.001)
                now, waited_now = time.perf_counter(), waited_for_a_core()
                lags.append(now - started - 0.001)
                blocked.append(lags[-1] - (waited_now - waited))
                started, waited = now, waited_now

    await asyncio.gather(*(client() for _ in range(CLIENTS)))  # opens connections, fills statement caches
    seconds.clear()
    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    done.set()
    await watching
    await async_engine.dispose()
    return {
        "async_p99_ms": round(moments.quantile(seconds, 0.99) * 1000, 2),
        "loop_lag_ms": round(max(lags) * 1000, 2),
        "loop_blocked_ms": round(max(blocked) * 1000, 2),
        "loop_lag_p99_ms": round(moments.quantile(lags, 0.99) * 1000, 2),
    }


@contextlib.contextmanager
def _waits() -> Iterator[Callable[[], float]]:
    """Returns how many seconds this thread has waited for a core since it started (Linux; 0 elsewhere)."""
    try:
        counted = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except FileNotFoundError:
        yield lambda: 0.0
        return
    try:
        yield lambda: int(os.pread(counted, 100, 0).split()[1]) / 1e9
    finally:
        os.close(counted)


def questions() -> Iterator[str]:
    """Yields distinct texts that look like queries: numbered lines of the pages."""
    lines = (line for page in tldr_pages.pages() for line in page.text.splitlines() if len(line.split()) > 3)
    return (f"how to {line} {number}" for number, line in enumerate(itertools.cycle(lines)))


if __name__ == "__main__":
    main()
