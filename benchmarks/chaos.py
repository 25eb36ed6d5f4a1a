"""Kills workers and Postgres under a write load, then compares every row's text with its vectors.

    make chaos

Three worker processes and four writing connections run on a server of their own. Every few seconds, a worker is killed
(SIGKILL) and another takes its place. A few times, all of Postgres is killed, postmaster and children, and restarted.
Then the writers stop, the workers drain the queue, and `benchmarks.truth` computes from scratch what the indexes should
contain. Leases last a second, so that other workers soon take over the work of a dead one.

The last line is JSON: committed ``edits``, the kills, the rows that are wrong, how often writers lost their connection,
the errors that writers got from the server, and the exit codes of workers that weren't killed. The exit code is 0 only
if no row is missing, stale, orphaned or failed, `verify` agrees, and there were at least two kills of the server and
some of workers. Otherwise, the server's data and the workers' logs are kept, and their folder is printed.
"""

import argparse
import contextlib
import json
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from benchmarks import server, storm, truth, workers
from benchmarks.truth import Truth
from pg_semantic import registry
from pg_semantic.operations import verify

WORKERS = 3
WRITERS = 4
WORKER_LIVES_SECONDS = (1.5, 5.0)
SERVER_LIVES_SECONDS = 25.0
SERVER_AWAY_SECONDS = 2.0
DRAIN_SECONDS = 240
_INDEXES = (storm.Note.whole, storm.Note.chunked)


@dataclass(slots=True)
class Crew:
    """The worker processes. Those that end are replaced."""

    dsn: str
    log: Path
    crew: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kills: int = 0
    exits: Counter[int] = field(default_factory=Counter)

    def tend(self) -> None:
        """Replaces workers that have ended."""
        for worker in [worker for worker in self.crew if worker.poll() is not None]:
            self.exits[worker.returncode] += 1
            self.crew.remove(worker)
        while len(self.crew) < WORKERS:
            self.crew.append(workers.start(self.dsn, self.log, lease_seconds=1))

    def kill(self, chance: random.Random) -> None:
        """Kills a running worker."""
        if alive := [worker for worker in self.crew if worker.poll() is None]:
            victim = chance.choice(alive)
            victim.kill()
            victim.wait()
            self.crew.remove(victim)
            self.kills += 1

    def dismiss(self) -> None:
        """Stops all workers and waits until they end."""
        for worker in self.crew:
            worker.terminate()
        for worker in self.crew:
            self.exits[workers.stop(worker)] += 1
        self.crew.clear()


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Kills workers and Postgres under a write load.")
    options.add_argument("--seconds", type=float, default=75, help="length of the load, in seconds")
    options.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="seed of all random choices")
    given = options.parse_args()
    print(f"seed {given.seed}")
    folder = Path(tempfile.mkdtemp(prefix="pg_semantic-chaos-"))
    with server.running(folder) as postgres:
        result = _run(postgres, random.Random(given.seed), seconds=given.seconds)  # noqa: S311
    clean = not any(result[name] for name in ("missing", "stale", "orphans", "failed", "unverified", "left"))
    if clean:
        shutil.rmtree(folder)
    else:
        print(f"the server's data and the logs are in {folder}")
    print(json.dumps(result))
    sys.exit(0 if clean and result["server_kills"] >= 2 and result["worker_kills"] else 1)


def _run(postgres: server.Server, chance: random.Random, *, seconds: float) -> dict[str, int]:
    engine = postgres.connect()
    storm.Base.metadata.create_all(engine)
    crew = Crew(postgres.dsn, postgres.data.parent / "workers.log")
    writers = [storm.Writer(postgres.dsn, random.Random(chance.random())) for _ in range(WRITERS)]  # noqa: S311
    try:
        with _writing(writers):
            server_kills = _havoc(postgres, crew, chance, seconds=seconds)
        left = _drain(engine, crew)
    finally:
        crew.dismiss()
    refused = sum((writer.refused for writer in writers), Counter[str]())
    lost = sum(writer.lost for writer in writers)
    print(f"connections that writers lost or could not open: {lost}; errors that they got: {dict(refused)}")
    print(f"exit codes of workers that were not killed: {dict(crew.exits)}")
    kills = {"worker_kills": crew.kills, "server_kills": server_kills}
    return {"edits": sum(writer.edits for writer in writers), **kills, **_wrong(engine), "left": left}


@contextlib.contextmanager
def _writing(writers: Sequence[storm.Writer]) -> Iterator[None]:
    """Runs the writers on threads until the block ends."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(writers)) as threads:
        running = [threads.submit(writer.run, stop) for writer in writers]
        try:
            yield
        finally:
            stop.set()
    for each in running:
        each.result()


def _havoc(postgres: server.Server, crew: Crew, chance: random.Random, *, seconds: float) -> int:
    """Kills workers and the server until the time is up; returns the number of kills of the server."""
    pause = threading.Event()
    started = time.monotonic()
    server_deaths = _server_deaths(chance, seconds)
    next_kill, server_kills = started, 0
    while (now := time.monotonic()) < started + seconds:
        crew.tend()
        if now > next_kill:
            crew.kill(chance)
            next_kill = now + chance.uniform(*WORKER_LIVES_SECONDS)
        if server_deaths and now > started + server_deaths[0]:
            del server_deaths[0]
            postgres.kill()
            pause.wait(chance.uniform(0, SERVER_AWAY_SECONDS))
            postgres.restart()
            server_kills += 1
            print(f"{now - started:.0f} s: the server was killed and restarted")
        pause.wait(0.1)
    return server_kills


def _server_deaths(chance: random.Random, seconds: float) -> list[float]:
    """Chooses when to kill the server: at least twice, never in the first or last seconds."""
    times = max(2, round(seconds / SERVER_LIVES_SECONDS))
    span = seconds * 0.8 / times
    return [seconds * 0.1 + span * (number + chance.random() * 0.8) for number in range(times)]


def _drain(engine: sa.Engine, crew: Crew) -> int:
    """Waits until no job is left; returns how many were left if that took too long."""
    crew.tend()
    try:
        workers.wait_until_drained(engine, seconds=DRAIN_SECONDS, meanwhile=crew.tend)
    except TimeoutError as error:
        print(error)
    return workers.backlog(engine)


def _wrong(engine: sa.Engine) -> dict[str, int]:
    """Counts what is wrong in all semantic indexes."""
    found: list[Truth] = []
    for index in _INDEXES:
        compared = truth.compare(engine, index)
        print(f"{index.name}: {compared.rows} rows, {compared.chunks} chunks")
        if not compared.clean:
            print(f"{index.name}: {compared}")
        found.append(compared)
    with engine.connect() as connection:
        failed = connection.execute(sa.text("SELECT * FROM semantic.job WHERE state = 'failed'")).all()
    for job in failed:
        print(f"failed: {job}")
    with engine.connect() as connection:
        known = registry.generations(connection)
    reports = [verify.verify(engine, generation) for generation in known]
    print("\n".join(f"verify: {report}" for report in reports))
    counts = {name: sum(len(getattr(each, name)) for each in found) for name in ("missing", "stale", "orphans")}
    return counts | {"failed": len(failed), "unverified": sum(not report.clean for report in reports)}


if __name__ == "__main__":
    main()
