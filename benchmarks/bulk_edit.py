"""Measures one UPDATE of millions of texts: the memory of its backend, and the latency of single edits after it.

    make bench-bulk-edit

The table has uuid keys. The UPDATE runs without and then with a semantic index, with `work_mem` at its default. Memory
is the peak of the backend's private memory (RssAnon). Then a worker with the hashed encoder processes the marked rows
while single rows are edited, one at a time. Each edit commits, and then polls every four milliseconds until the row's
chunk has the new text, which is when a search would find it.

* ``writer_memory_mib``: the peak with the index minus the peak without.
* ``starved_p50_ms``: from commit to searchable. Also reported: the number of edits timed, and how many marks and jobs
  were left at the end.

On its own, it runs until no row is left (`bench-capture` measures the first minute). The goals are then a
``starved_p50_ms`` of 500, a ``job_bytes_peak`` of 64 MB with indexes, and ``encoded_more_than_once`` of 0: texts that
were encoded, less the rows and the edits. ``rows_per_s`` counts rows, from the commit of the UPDATE to the end.
"""

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import sqlalchemy as sa

from benchmarks import moments, server, workers
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index

POLL_SECONDS = 0.004
PAUSE_SECONDS = (0.03, 0.2)
_SAMPLE_SECONDS = 0.005
_LONGEST_SECONDS = 120
_CREATE = "CREATE TABLE item (id uuid PRIMARY KEY, number int NOT NULL, body text NOT NULL)"
_FILL = """
    INSERT INTO item
    SELECT gen_random_uuid(), number, 'harbour candle meadow engine violin ' || number
    FROM generate_series(1, %(rows)s) AS number
"""
_UPDATE = "UPDATE item SET body = 'anchor ' || body"


ROWS = 5_000_000
_WHOLE_SECONDS = 3 * 3600
_WATCH_SECONDS = 1.0


def measure(postgres: server.Server, *, rows: int, seconds: float | None) -> dict[str, object]:
    """Runs the UPDATE twice, then single edits for some seconds; without a limit, until no row is left."""
    engine = postgres.connect()
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(_CREATE)
        connection.execute(_FILL, {"rows": rows})
        keys = [key for (key,) in connection.execute("SELECT id FROM item LIMIT 10000")]
    without = _peak_mib(postgres.dsn)
    server.execute(engine, "VACUUM ANALYZE item")
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, "item", columns=("body",), encoder=EncoderSpec("hashed:32", 32), lexical=None
        )
    create_index.create(engine, spec)
    server.execute(engine, "UPDATE semantic.generation SET backfilled_at = now()")  # leaves the worker no other work
    with_capture = _peak_mib(postgres.dsn)
    print(f"UPDATE of {rows} rows: {without:.0f} MiB, with capture {with_capture:.0f} MiB", flush=True)
    whole: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "worker.log"
        started = time.monotonic()
        with workers.running(engine, postgres.dsn, log, log_format="json"):
            if seconds is None:
                taken, peak = _edits_to_the_end(postgres.dsn, keys, engine)
                whole = {"job_bytes_peak": peak, "rows_per_s": round(rows / (time.monotonic() - started))}
            else:
                ends = started + seconds
                taken = _edits(postgres.dsn, keys, more=lambda: time.monotonic() < ends)
        if seconds is None:
            whole["encoded_more_than_once"] = max(0, _encoded(log) - rows - len(taken))
    left = workers.backlog(engine)
    engine.dispose()
    return whole | {
        "writer_memory_mib": round(with_capture - without, 1),
        "starved_p50_ms": round(statistics.median(taken), 1),
        "starved_p99_ms": round(moments.quantile(taken, 0.99), 1),
        "starved_samples": len(taken),
        "starved_backlog": left,
    }


def _peak_mib(dsn: str) -> float:
    """Returns the peak private memory of a new backend during the UPDATE."""
    done = threading.Event()
    with psycopg.connect(dsn) as connection, ThreadPoolExecutor(1) as thread:
        watching = thread.submit(_watch, Path(f"/proc/{connection.info.backend_pid}/status"), done)
        try:
            connection.execute(_UPDATE)
        finally:
            done.set()
        return watching.result() / 1024


def _watch(status: Path, done: threading.Event) -> int:
    """Returns the peak private memory of a process, in kilobytes, sampled until it is done."""
    most = 0
    while not done.wait(_SAMPLE_SECONDS):
        lines = status.read_text(encoding="ascii").splitlines()
        most = max(most, next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
    return most


def _edits_to_the_end(dsn: str, keys: list[object], engine: sa.Engine) -> tuple[list[float], int]:
    """Makes single edits until nothing else waits. Also returns the peak size of the job table in bytes."""
    done = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(_watch_jobs, engine, done)
        ends = time.monotonic() + _WHOLE_SECONDS
        try:
            taken = _edits(dsn, keys, more=lambda: not done.is_set() and time.monotonic() < ends)
        finally:
            done.set()
        return taken, watching.result()


def _watch_jobs(engine: sa.Engine, done: threading.Event) -> int:
    """Returns the peak size of the job table. Sets ``done`` once no mark of the UPDATE and no job is left."""
    peak = 0
    size = sa.text(
        "SELECT pg_total_relation_size('semantic.job'), EXISTS (SELECT FROM semantic.mark WHERE priority = 1)"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not done.wait(_WATCH_SECONDS):
            now, waits = connection.execute(size).one()
            peak = max(peak, now)
            if not waits and workers.backlog(engine) <= 1:  # at most the edit that is being timed
                done.set()
    return peak


def _encoded(log: Path) -> int:
    """Returns how many texts a worker has encoded, by its log."""
    events = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{"))
    return sum(event["chunks_encoded"] for event in events if event.get("event") == "synced")


def _edits(dsn: str, keys: list[object], *, more: Callable[[], bool]) -> list[float]:
    """Makes single edits, at least one; returns the milliseconds from commit to searchable."""
    chance = random.Random(1)  # noqa: S311 - the same pauses in every run
    pause = threading.Event()
    taken: list[float] = []
    with psycopg.connect(dsn, autocommit=True) as writer, psycopg.connect(dsn, autocommit=True) as reader:
        while not taken or more():
            pause.wait(chance.uniform(*PAUSE_SECONDS))
            key, text = keys[len(taken) % len(keys)], f"edit {len(taken)}"
            writer.execute("UPDATE item SET body = %s WHERE id = %s", (text, key))
            committed = time.perf_counter()
            found = "SELECT FROM item_semantic WHERE id = %s AND content = %s"
            while not reader.execute(found, (key, text), prepare=True).rowcount:
                if time.perf_counter() - committed > _LONGEST_SECONDS:
                    raise TimeoutError(f"An edit was not searchable after {_LONGEST_SECONDS} s.")
                pause.wait(POLL_SECONDS)
            taken.append((time.perf_counter() - committed) * 1000)
    return taken


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Measures single edits after an UPDATE of millions of texts.")
    options.add_argument("--rows", type=int, default=ROWS, help="number of rows")
    rows = options.parse_args().rows
    with server.running() as postgres:
        print(json.dumps({"rows": rows} | measure(postgres, rows=rows, seconds=None)))


if __name__ == "__main__":
    main()
