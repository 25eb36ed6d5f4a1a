"""Measures the throughput of an application's writes with and without a worker that polls.

pgbench runs eight clients. Each statement is its own transaction: an UPDATE of a row with a semantic index that leaves
the text alone, then an INSERT into a table without an index. So the worker only polls and has no other work. Rounds
with and without the worker alternate. Results are medians of such pairs of statements per second.
"""

import re
import statistics
import subprocess
import tempfile
from pathlib import Path

import sqlalchemy as sa

from benchmarks import server, workers

CLIENTS = 8
ROUNDS = 5
_TPS = re.compile(r"tps = ([\d.]+)")
_SCRIPT = """
\\set id random(1, 50000)
UPDATE {table} SET hits = hits + 1 WHERE id = :id;
INSERT INTO note (body) VALUES ('seen');
"""


def measure(postgres: server.Server, engine: sa.Engine, *, table: str, seconds: float) -> dict[str, object]:
    """Runs the load on a table with rows."""
    server.execute(engine, "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")
    # Makes the table look synced: earlier changes to it count as detected, and its rows as compared.
    server.execute(engine, "SELECT semantic.record_capture_state_v1(id) FROM semantic.semantic_index")
    server.execute(engine, "TRUNCATE semantic.job, semantic.mark", "VACUUM ANALYZE")
    server.execute(engine, "UPDATE semantic.generation SET backfilled_at = now()")
    alone, polled = [], []
    for _ in range(ROUNDS):
        alone.append(throughput(postgres, _SCRIPT.format(table=table), seconds=seconds))
        with workers.running(engine, postgres.dsn):
            polled.append(throughput(postgres, _SCRIPT.format(table=table), seconds=seconds))
    print(f"pairs per second: {alone} alone, {polled} with a worker")
    return {"load_tps": statistics.median(alone), "load_tps_polled": statistics.median(polled)}


def throughput(postgres: server.Server, script: str, *, seconds: float) -> int:
    """Returns how often eight clients run a pgbench script per second."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command = [postgres.pgbench, "-n", "-M", "prepared", "-c", CLIENTS, "-T", max(1, round(seconds))]
        command += ["-f", Path(file.name), postgres.dsn]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    found = _TPS.search(done.stdout)
    if found is None:
        raise RuntimeError(f"pgbench printed no result: {done.stdout}{done.stderr}")
    return round(float(found[1]))
