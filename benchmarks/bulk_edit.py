"""Measures one UPDATE of millions of texts: the memory of its backend, and the latency of single edits after it.

The table has uuid keys. The UPDATE runs without and then with a semantic index, with `work_mem` at its default. Memory
is the peak of the backend's private memory (RssAnon). Then a worker with the hashed encoder processes the marked rows
while single rows are edited, one at a time. Each edit commits, and then polls every four milliseconds until the row's
chunk has the new text, which is when a search would find it.

* ``writer_memory_mib``: the peak with the index minus the peak without.
* ``starved_p50_ms``: from commit to searchable. Also reported: the number of edits timed, and how many marks and jobs
  were left at the end.
"""

import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

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


def measure(postgres: server.Server, *, rows: int, seconds: float) -> dict[str, object]:
    """Runs the UPDATE twice, then the single edits."""
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
    with workers.running(engine, postgres.dsn):
        taken = _edits(postgres.dsn, keys, seconds=seconds)
    left = workers.backlog(engine)
    engine.dispose()
    return {
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


def _edits(dsn: str, keys: list[object], *, seconds: float) -> list[float]:
    """Makes single edits for some seconds, at least one; returns the milliseconds from commit to searchable."""
    chance = random.Random(1)  # noqa: S311 - the same pauses in every run
    pause = threading.Event()
    taken: list[float] = []
    ends = time.monotonic() + seconds
    with psycopg.connect(dsn, autocommit=True) as writer, psycopg.connect(dsn, autocommit=True) as reader:
        while not taken or time.monotonic() < ends:
            pause.wait(chance.uniform(*PAUSE_SECONDS))
            key, text = keys[len(taken)], f"edit {len(taken)}"
            writer.execute("UPDATE item SET body = %s WHERE id = %s", (text, key))
            committed = time.perf_counter()
            found = "SELECT FROM item_semantic WHERE id = %s AND content = %s"
            while not reader.execute(found, (key, text), prepare=True).rowcount:
                if time.perf_counter() - committed > _LONGEST_SECONDS:
                    raise TimeoutError(f"An edit was not searchable after {_LONGEST_SECONDS} s.")
                pause.wait(POLL_SECONDS)
            taken.append((time.perf_counter() - committed) * 1000)
    return taken
