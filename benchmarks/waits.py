"""Measures how long writers wait for locks while a worker with a slow encoder processes the same rows.

The waits are taken from the server's log. Writers' sessions have `log_lock_waits` on and a `deadlock_timeout` of 1 ms,
so the log has each of their lock waits above 1 ms with its length, whatever else the machine was doing. Waits under 1
ms count as zero. Writers never touch each other's rows, so only the worker can make them wait. A cycle between a writer
and the worker would end as a deadlock error of the writer, which is counted: the worker should give way before
Postgres's default `deadlock_timeout`, and here it has no time to.

Rows have some thirty chunks, all in an HNSW index. Writers edit a paragraph or the whole text, change other columns,
and delete rows and insert them again: a hundred statements per second in all, so that most rows that the worker encodes
still exist when it writes. The encoder takes 200 ms per call. Before that, the same load runs without a worker, to
compare the latency of statements.
"""

import multiprocessing
import random
import re
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import corpus, moments, server, workers
from pg_semantic import SemanticIndex, database, settings
from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index.chunking import Chunking
from pg_semantic.worker.worker import Worker

DIMENSIONS = 384
ROWS = 300
PAGES = 24  # per row
WRITERS = 4
PAUSE_SECONDS = (0.02, 0.06)  # pause of a writer after each statement
ENCODE_SECONDS = 0.2
WAITED = re.compile(r"process (\d+) (?:acquired|detected deadlock while waiting for) .* after ([\d.]+) ms")


class Base(orm.DeclarativeBase):
    """The table of this benchmark."""


class Folio(Base):
    """A row with many chunks."""

    __tablename__ = "folio"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]
    hits: Mapped[int]

    semantic = SemanticIndex("body", encoder=f"hashed:{DIMENSIONS}", chunking=Chunking(max_tokens=48))


class SlowEncoder(HashedEncoder):
    """An encoder that takes 200 ms per call without using the CPU, like a network call."""

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """See `base.Encoder.encode_documents`."""
        threading.Event().wait(ENCODE_SECONDS)
        return HashedEncoder.encode_documents(self, texts)


@dataclass(slots=True)
class Writer:
    """An application's connection that writes its share of the rows, and the times of its statements, in ms."""

    dsn: str
    number: int
    chance: random.Random
    gone: set[int] = field(default_factory=set)
    taken: list[float] = field(default_factory=list)
    deadlocks: int = 0
    pid: int = 0

    def run(self, stop: threading.Event) -> None:
        """Writes until it is stopped."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("SET log_lock_waits = on")
            connection.execute("SET deadlock_timeout = '1ms'")
            self.pid = connection.info.backend_pid
            while not stop.wait(self.chance.uniform(*PAUSE_SECONDS)):
                row = self.chance.randrange(self.number, ROWS, WRITERS)
                started = time.perf_counter()
                try:
                    self._write(connection, row)
                except psycopg.errors.DeadlockDetected:
                    self.deadlocks += 1
                self.taken.append((time.perf_counter() - started) * 1000)

    def _write(self, connection: psycopg.Connection, row: int) -> None:
        """Runs one statement on one row."""
        what = self.chance.random()
        if row in self.gone:
            connection.execute("INSERT INTO folio VALUES (%s, %s, 0)", (row, _body(self.chance)))
            self.gone.remove(row)
        elif what < 0.1:
            connection.execute("DELETE FROM folio WHERE id = %s", (row,))
            self.gone.add(row)
        elif what < 0.2:
            connection.execute("UPDATE folio SET hits = hits + 1 WHERE id = %s", (row,))
        elif what < 0.6:
            connection.execute("UPDATE folio SET body = %s WHERE id = %s", (_body(self.chance), row))
        else:
            page = self.chance.choice(corpus.pages())
            connection.execute("UPDATE folio SET body = %s || substr(body, 400) WHERE id = %s", (page, row))


def measure(postgres: server.Server, *, seconds: float) -> dict[str, object]:
    """Runs the writers without and then with the worker."""
    engine = postgres.connect()
    _fill(engine)
    gone: list[set[int]] = [set() for _ in range(WRITERS)]
    alone = _write_for(postgres.dsn, gone, seconds=seconds / 4)
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(postgres.dsn,))
    process.start()
    try:
        moments.until(lambda: workers.backlog(engine) == 0, seconds=120, what="the worker has caught up")
        before = postgres.log.stat().st_size
        synced = _synced(engine)
        busy = _write_for(postgres.dsn, gone, seconds=seconds)
        synced = _synced(engine) - synced
    finally:
        process.terminate()
        process.join()
    pids = {writer.pid for writer in busy}
    with postgres.log.open(encoding="utf-8", errors="replace") as log:
        log.seek(before)
        waited = [float(found[2]) for found in map(WAITED.search, log) if found and int(found[1]) in pids]
    engine.dispose()
    return _result(alone, busy, waited) | {"chunks_written": synced}


def _result(alone: list[Writer], busy: list[Writer], waited: list[float]) -> dict[str, object]:
    statements = [milliseconds for writer in busy for milliseconds in writer.taken]
    calm = [milliseconds for writer in alone for milliseconds in writer.taken]
    return {
        "writer_wait_ms_max": round(max(waited, default=1.0), 1),
        "writer_waits": len(waited),
        "writer_deadlocks": sum(writer.deadlocks for writer in busy),
        "writer_statements": len(statements),
        "writer_p99_ms": round(moments.quantile(statements, 0.99), 1),
        "writer_max_ms": round(max(statements), 1),
        "writer_p99_ms_alone": round(moments.quantile(calm, 0.99), 1),
        "writer_max_ms_alone": round(max(calm), 1),
    }


def _fill(engine: sa.Engine) -> None:
    """Creates synced rows with their vector index."""
    Base.metadata.create_all(engine)
    chance = random.Random(0)  # noqa: S311 - the same rows in every run
    with orm.Session(engine) as session:
        session.add_all(Folio(id=number, body=_body(chance), hits=0) for number in range(ROWS))
        session.commit()
    done = Worker(engine, settings.load()).run(threading.Event(), once=True)
    print(f"{done.rows} rows of {done.chunks_encoded / done.rows:.0f} chunks are synced")


def _body(chance: random.Random) -> str:
    return "\n\n".join(chance.choices(corpus.pages(), k=PAGES))


def _write_for(dsn: str, gone: Sequence[set[int]], *, seconds: float) -> list[Writer]:
    """Runs the writers. Each keeps to its own share of rows, and continues with those that it deleted."""
    stop = threading.Event()
    writers = [
        Writer(dsn, number, random.Random(number), deleted)  # noqa: S311 - the same load in every run
        for number, deleted in enumerate(gone)
    ]
    with ThreadPoolExecutor(WRITERS) as threads:
        running = [threads.submit(writer.run, stop) for writer in writers]
        stop.wait(seconds)
        stop.set()
    for each in running:
        each.result()
    return writers


def _synced(engine: sa.Engine) -> int:
    """Returns how many chunks were ever inserted, from the server's statistics."""
    with engine.connect() as connection:
        inserted = sa.text("SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'folio_semantic'")
        return int(connection.scalar(inserted) or 0)


def _work(dsn: str) -> None:
    """Runs the worker until SIGTERM, as a process of its own."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    engine = database.connect(dsn)
    Worker(engine, settings.load(), load=lambda *_, **__: SlowEncoder(DIMENSIONS)).run(stop)
    engine.dispose()
