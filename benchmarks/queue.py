"""Compares the cost of a claim at 1,000,000 pending jobs with that at 10,000.

    make bench-queue

Two databases on one embedded server have a job table each. A round claims jobs, completes them, and enqueues the same
number, so that the table churns but keeps its length. Rounds on the two databases alternate, so that noise affects
both. A claim is timed with its commit, because a worker waits for it (`synchronous_commit` on). ``statement_ratio``
leaves out the commit, whose flush to disk costs the same at any size. The goal is a ``ratio`` of at most 1.5.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa

from benchmarks import server
from pg_semantic import jobqueue

SMALL, LARGE = 10_000, 1_000_000
GENERATION = 1
PAGE_ROWS = 10_000
WARM_UP = 20
LEASE_SECONDS = 60


@dataclass(slots=True)
class Queue:
    """A job table with ``size`` pending jobs, and the times of claims on it, in seconds."""

    connection: sa.Connection
    keys: Iterator[str]
    statement: list[float] = field(default_factory=list)
    committed: list[float] = field(default_factory=list)

    def fill(self, size: int) -> None:
        """Enqueues jobs as backfill does, and leaves the table as autovacuum would."""
        for _ in range(0, size, PAGE_ROWS):
            self._enqueue(min(size, PAGE_ROWS))
        server.execute(self.connection.engine, "VACUUM ANALYZE semantic.job")

    def turn(self, rows: int) -> None:
        """Claims, completes and replaces ``rows`` jobs."""
        started = time.perf_counter()
        with self.connection.begin():
            claim = jobqueue.claim(
                self.connection,
                GENERATION,
                rows=rows,
                lease_seconds=LEASE_SECONDS,
                priority=jobqueue.BACKFILL,
            )
            self.statement.append(time.perf_counter() - started)
        self.committed.append(time.perf_counter() - started)
        if len(claim.jobs) != rows:
            raise RuntimeError(f"The claim returned {len(claim.jobs)} of {rows} jobs.")
        with self.connection.begin():
            held = jobqueue.hold(self.connection, claim, claim.jobs)
            jobqueue.complete(self.connection, claim, sorted(held))
        self._enqueue(rows)

    def _enqueue(self, rows: int) -> None:
        with self.connection.begin():
            jobqueue.enqueue(self.connection, GENERATION, list(itertools.islice(self.keys, rows)))


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Compares the cost of a claim in a short and a long queue.")
    options.add_argument("--rounds", type=int, default=600, help="number of claims of each queue")
    options.add_argument("--rows", type=int, default=64, help="number of jobs per claim")
    given = options.parse_args()
    with server.running() as postgres, _queue(postgres, SMALL) as small, _queue(postgres, LARGE) as large:
        queues = [Queue(small, _keys()), Queue(large, _keys())]
        for queue, size in zip(queues, (SMALL, LARGE), strict=True):
            queue.fill(size)
            print(f"{size} jobs are pending")
        for number in range(given.rounds + WARM_UP):
            for queue in queues if number % 2 else reversed(queues):
                queue.turn(given.rows)
    print(json.dumps(_result(*queues, rows=given.rows)))


def _result(small: Queue, large: Queue, *, rows: int) -> dict[str, float]:
    committed = [statistics.median(queue.committed[WARM_UP:]) for queue in (small, large)]
    statement = [statistics.median(queue.statement[WARM_UP:]) for queue in (small, large)]
    return {
        "ratio": round(committed[1] / committed[0], 3),
        "small_p50_us": round(committed[0] * 1e6),
        "large_p50_us": round(committed[1] * 1e6),
        "statement_ratio": round(statement[1] / statement[0], 3),
        "small_statement_p50_us": round(statement[0] * 1e6),
        "large_statement_p50_us": round(statement[1] * 1e6),
        "rows_a_claim": rows,
        "claims": len(large.committed) - WARM_UP,
    }


def _queue(postgres: server.Server, size: int) -> sa.Connection:
    return postgres.create(f"jobs_{size}").connect()


def _keys() -> Iterator[str]:
    return map(str, itertools.count(10**9))


if __name__ == "__main__":
    main()
