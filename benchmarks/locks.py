"""Measures how long writers wait for a lock while a semantic index is created, changed and dropped.

    make bench-locks

Eight writers update, delete and insert rows of a table and commit each statement. One more transaction, which has
written to the table and read its chunks, stays open. At the same time, the commands run one after the other: create,
begin, switch, rollback, drop of a copy, and drop of the index. None of them can finish before that transaction ends.

* ``longest_wait_ms``: for each command, a writer's longest wait for a lock, according to the server (see
  `benchmarks.waits`); goal 1,000. Waits under 1 ms count as zero.
* ``longest_statement_ms``: a writer's longest statement as the writer measures it, which includes any other load on the
  machine.
"""

import argparse
import dataclasses
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
import sqlalchemy as sa

from benchmarks import server, waits
from pg_semantic import generations, registry, settings
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.registry import Generation
from pg_semantic.worker.worker import Worker

NAME = "page_semantic"
FIRST, SECOND = EncoderSpec("hashed:64", 64), EncoderSpec("hashed:48", 48)


@dataclass(slots=True)
class Writer:
    """A connection that writes its own row, and the time of its longest statement, in ms."""

    dsn: str
    row: int
    longest: float = 0.0
    pid: int = 0

    def run(self, stop: threading.Event) -> None:
        """Writes until it is stopped."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("SET log_lock_waits = on")
            connection.execute("SET deadlock_timeout = '1ms'")
            self.pid = connection.info.backend_pid
            while not stop.is_set():
                self._time(connection, "UPDATE page SET body = md5(random()::text) WHERE id = %s")
                self._time(connection, "DELETE FROM page WHERE id = %s")
                self._time(connection, "INSERT INTO page VALUES (%s, 'words')")

    def _time(self, connection: psycopg.Connection, statement: str) -> None:
        started = time.perf_counter()
        connection.execute(statement, (self.row,))
        self.longest = max(self.longest, (time.perf_counter() - started) * 1000)


@dataclass(frozen=True, slots=True)
class Load:
    """The writers and the open transaction that run while a command does."""

    postgres: server.Server
    engine: sa.Engine
    writers: int
    open_seconds: float

    def beside(self, command: Callable[[], object]) -> tuple[float, float]:
        """Runs a command; returns a writer's longest wait for a lock and longest statement, in ms."""
        stop = threading.Event()
        writers = [Writer(self.postgres.dsn, -1 - number) for number in range(self.writers)]
        before = self.postgres.log.stat().st_size
        with ThreadPoolExecutor(self.writers + 1) as threads:
            running = [threads.submit(writer.run, stop) for writer in writers]
            with self.engine.begin() as open_:
                open_.execute(sa.text("UPDATE page SET body = body || '.' WHERE id = 1"))
                if open_.scalar(sa.select(sa.func.to_regclass(NAME))) is not None:
                    open_.execute(sa.text(f"SELECT count(*) FROM {NAME}"))  # noqa: S608 - a constant
                commanded = threads.submit(command)
                threading.Event().wait(self.open_seconds)
                if commanded.done():
                    commanded.result()
                    raise RuntimeError("The command did not wait for the open transaction, so there is no measurement.")
            try:
                commanded.result()
            finally:
                stop.set()
            for each in running:
                each.result()
        return self._longest_wait({writer.pid for writer in writers}, before), max(one.longest for one in writers)

    def _longest_wait(self, pids: set[int], since: int) -> float:
        with self.postgres.log.open(encoding="utf-8", errors="replace") as log:
            log.seek(since)
            found = [match for match in map(waits.WAITED.search, log) if match and int(match[1]) in pids]
        return max((float(match[2]) for match in found), default=0.0)


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(
        description="Measures how long writers wait while an index is created, changed and dropped."
    )
    options.add_argument("--rows", type=int, default=10_000, help="number of rows of the table")
    options.add_argument("--writers", type=int, default=8)
    options.add_argument(
        "--open-seconds", type=float, default=5, help="how long the transaction stays open, in seconds"
    )
    given = options.parse_args()
    with server.running() as postgres:
        engine = postgres.connect()
        server.execute(engine, "CREATE TABLE page (id integer PRIMARY KEY, body text NOT NULL)")
        fill = f"INSERT INTO page SELECT n, 'words ' || n FROM generate_series(1, {given.rows:d}) AS n"  # noqa: S608
        server.execute(engine, fill, "INSERT INTO page SELECT -n, 'words' FROM generate_series(1, 100) AS n")
        load = Load(postgres, engine, given.writers, given.open_seconds)
        result = {name: _measured(load, name, step) for name, step in _steps(engine)}
        engine.dispose()
    waited = {name: round(wait, 1) for name, (wait, _) in result.items()}
    taken = {name: round(statement, 1) for name, (_, statement) in result.items()}
    print(json.dumps({"longest_wait_ms": waited, "longest_statement_ms": taken, "max_ms": max(waited.values())}))


def _measured(load: Load, name: str, step: Callable[[], object]) -> tuple[float, float]:
    Worker(load.engine, settings.load()).run(threading.Event(), once=True)
    wait, statement = load.beside(step)
    print(f"{name}: a writer waited up to {wait:.0f} ms for a lock; its longest statement took {statement:.0f} ms")
    return wait, statement


def _steps(engine: sa.Engine) -> list[tuple[str, Callable[[], object]]]:
    """Returns the commands, in an order in which each has what it needs."""

    def create() -> None:
        with engine.connect() as connection:
            spec = create_index.describe(connection, "page", columns=("body",), encoder=FIRST)
        create_index.create(engine, spec)

    def begin() -> None:
        live = _live(engine)
        generations.begin(engine, live, dataclasses.replace(live.spec, encoder=SECOND))

    return [
        ("create", create),
        ("begin", begin),
        ("switch", lambda: generations.switch(engine, NAME, force=True)),
        ("rollback", lambda: generations.rollback(engine, NAME)),
        ("drop", lambda: _drop_copy(engine)),
        ("drop_index", lambda: create_index.drop(engine, _live(engine).spec)),
    ]


def _live(engine: sa.Engine) -> Generation:
    with engine.connect() as connection:
        return registry.find(connection, NAME)


def _drop_copy(engine: sa.Engine) -> None:
    """Drops a copy without the seconds that `drop` leaves to searchers."""
    generations.drop(engine, NAME, "next", grace_seconds=0)


if __name__ == "__main__":
    main()
