"""Measures the time from commit to searchable, for one short row at a time.

    make bench-freshness

A row is inserted and committed. Then another connection polls every four milliseconds until the row's chunk exists,
which is when a search would find it. The time starts when the commit returns and includes everything: polling, claim,
reading, encoding, the write and its flush to disk. The worker is a process of its own with default settings, on the CPU
with the real all-MiniLM-L6-v2. The rows are the tldr pages of at most 300 characters, each encoded for the first time.
Pauses between rows are random, so that they don't fall in step with the worker's polls.

``p50_ms`` (goal 50) and ``p99_ms`` (goal 250) are for an idle worker, ``backfill_p50_ms`` (goal 500) for a worker that
has 100,000 rows to backfill. If the backfill is too slow to take all samples, the measurement ends after
``--backfill-seconds`` with the samples taken so far.
"""

import argparse
import itertools
import json
import random
import statistics
import threading
import time
from collections.abc import Iterator

import psycopg
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import corpus, moments, server, workers
from pg_semantic import SemanticIndex, jobqueue, registry

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
BACKFILL = 100_000
WARM_UP = 100  # rows that exist beforehand, with their vector index
POLL_SECONDS = 0.004  # polling faster would take CPU time from the worker
PAUSE_SECONDS = (0.03, 0.2)
_LONGEST_SECONDS = 120


class Base(orm.DeclarativeBase):
    """The table of this benchmark."""


class Page(Base):
    """A tldr page."""

    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder=ENCODER)


class Application:
    """Inserts rows one at a time, and measures how long each takes to become searchable, in milliseconds."""

    def __init__(self, writer: psycopg.Connection, reader: psycopg.Connection, *, seed: int) -> None:
        self._writer = writer
        self._reader = reader
        self._chance = random.Random(seed)  # noqa: S311 - the same pauses in every run
        self._pages = enumerate(corpus.short_pages(), start=1)
        self._pause = threading.Event()

    def samples(self, count: int, *, seconds: float) -> list[float]:
        """Returns up to ``count`` times, fewer if the time is up, and at least one."""
        taken: list[float] = []
        deadline = time.monotonic() + seconds
        while not taken or (len(taken) < count and time.monotonic() < deadline):
            self._pause.wait(self._chance.uniform(*PAUSE_SECONDS))
            taken.append(self._sample() * 1000)
        return taken

    def _sample(self) -> float:
        row, text = next(self._pages)
        self._writer.execute("INSERT INTO page (id, text) VALUES (%s, %s)", (row, text))
        committed = time.perf_counter()
        while not self._reader.execute("SELECT FROM page_semantic WHERE id = %s", (row,), prepare=True).rowcount:
            if time.perf_counter() - committed > _LONGEST_SECONDS:
                raise TimeoutError(f"Row {row} was not searchable after {_LONGEST_SECONDS} s.")
            self._pause.wait(POLL_SECONDS)
        return time.perf_counter() - committed


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Measures how long a committed row takes to become searchable.")
    options.add_argument("--samples", type=int, default=200, help="number of rows with an idle worker")
    options.add_argument(
        "--backfill-samples", type=int, default=60, help="number of rows during a backfill; 0 to skip it"
    )
    options.add_argument("--backfill-seconds", type=float, default=300, help="stop sampling after this time")
    options.add_argument("--poll-seconds", type=float, help="the worker's setting (default: the worker's default)")
    given = options.parse_args()
    changed = {} if given.poll_seconds is None else {"poll_seconds": given.poll_seconds}
    with server.running() as postgres:
        engine = postgres.connect()
        Base.metadata.create_all(engine)
        _insert(engine, range(-WARM_UP, 0))
        with (
            psycopg.connect(postgres.dsn, autocommit=True) as writer,
            psycopg.connect(postgres.dsn, autocommit=True) as reader,
            workers.running(engine, postgres.dsn, **changed),
        ):
            workers.wait_until_drained(engine, seconds=_LONGEST_SECONDS)
            application = Application(writer, reader, seed=1)
            application.samples(5, seconds=_LONGEST_SECONDS)
            idle = application.samples(given.samples, seconds=_LONGEST_SECONDS)
            print(f"idle, ms: {_spread(idle)}")
            result = _figures("", idle)
            if given.backfill_samples:
                _start_backfill(engine)
                loaded = application.samples(given.backfill_samples, seconds=given.backfill_seconds)
                print(f"in a backfill, ms: {_spread(loaded)}")
                result |= _figures("backfill_", loaded) | {"backfill_left": workers.backlog(engine)}
        engine.dispose()
    print(json.dumps(result))


def _figures(part: str, taken: list[float]) -> dict[str, float]:
    return {
        f"{part}p50_ms": round(statistics.median(taken), 1),
        f"{part}p99_ms": round(moments.quantile(taken, 0.99), 1),
        f"{part}samples": len(taken),
    }


def _spread(taken: list[float]) -> str:
    shares = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
    return ", ".join(f"p{share * 100:g} {moments.quantile(taken, share):.1f}" for share in shares)


def _start_backfill(engine: sa.Engine) -> None:
    """Inserts rows past the statement triggers, and enqueues them as backfill does."""
    ids = range(-WARM_UP - BACKFILL, -WARM_UP)
    _insert(engine, ids, captured=False)
    with engine.begin() as connection:
        generation = registry.find(connection, Page.semantic.name)
        jobqueue.enqueue(connection, generation.id, sorted(map(str, ids)))
    server.execute(engine, "ANALYZE semantic.job", "ANALYZE page")


def _insert(engine: sa.Engine, ids: range, *, captured: bool = True) -> None:
    """Inserts rows with distinct texts: a page and a number."""
    with engine.begin() as connection:
        if not captured:
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        driver: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        with driver.cursor().copy("COPY page (id, text) FROM STDIN") as copy:
            for row, text in zip(ids, _numbered(), strict=False):
                copy.write_row((row, text))
        if not captured:  # the trigger for replicated rows has marked them
            connection.execute(sa.text("DELETE FROM semantic.mark"))


def _numbered() -> Iterator[str]:
    return (f"{text}\n(copy {number})" for number, text in enumerate(itertools.cycle(corpus.pages())))


if __name__ == "__main__":
    main()
