"""The throughput of an application's writes, with a worker that polls beside it and without.

pgbench with eight clients, each statement a transaction of its own: an UPDATE of a row with a semantic index that
leaves the text alone, then an INSERT into a table that has none. So the worker has nothing to do but to ask. Rounds
with and without the worker take turns; figures are medians of such pairs a second.
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
    """Runs the load on a table that has rows."""
    server.execute(engine, "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")
    # As if all were in sync: what was done to the table before is known, and its rows were compared.
    server.execute(engine, "SELECT semantic.record_capture_state_v1(id) FROM semantic.semantic_index")
    server.execute(engine, "TRUNCATE semantic.job, semantic.mark", "VACUUM ANALYZE")
    server.execute(engine, "UPDATE semantic.generation SET backfilled_at = now()")
    alone, polled = [], []
    for _ in range(ROUNDS):
        alone.append(throughput(postgres, _SCRIPT.format(table=table), seconds=seconds))
        with workers.running(engine, postgres.dsn):
            polled.append(throughput(postgres, _SCRIPT.format(table=table), seconds=seconds))
    print(f"pairs a second: {alone} alone, {polled} with a worker")
    return {"load_tps": statistics.median(alone), "load_tps_polled": statistics.median(polled)}


def throughput(postgres: server.Server, script: str, *, seconds: float) -> int:
    """Runs of a pgbench script a second, by eight clients."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command = [postgres.pgbench, "-n", "-M", "prepared", "-c", CLIENTS, "-T", max(1, round(seconds))]
        command += ["-f", Path(file.name), postgres.dsn]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    found = _TPS.search(done.stdout)
    if found is None:
        raise RuntimeError(f"pgbench gave no figure: {done.stdout}{done.stderr}")
    return round(float(found[1]))
