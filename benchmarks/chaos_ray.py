"""Kills workers of a backfill on Ray, a worker next to them, and the backfill itself, while rows are edited.

    make chaos-ray

Two actors, placed by ``pg-semantic backfill --engine ray``, and a worker process fill an index of a remote encoder that
counts the texts that it is asked for. First undisturbed, then with kills (SIGKILL), of each kind at least once, and
edits. What ends is started again: actors by Ray, the others by this benchmark. The last line is JSON. What must hold:

* ``unverified`` is false: `verify` finds nothing.
* ``repeated``, the texts that were encoded again, is at most ``in_hand``, what the killed workers can have held.
* ``seconds`` from the last kill until all rows are synced is at most twice the undisturbed time plus one lease;
  ``left_at_last_kill`` rows were left then.
"""

import argparse
import contextlib
import json
import os
import random
import secrets
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

import psutil
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks import moments, server, workers
from pg_semantic import SemanticIndex, registry, settings
from pg_semantic.operations import verify
from tests import openai_server, ray_cluster
from tests.openai_server import Server as EncoderServer
from tests.ray_cluster import Cluster

BATCH_ROWS = 100
LEASE_SECONDS = 4
EDITS_PER_SECOND = 20
_BATCHES_HELD = 3
_PATIENCE_SECONDS = 240.0
_SHARE = 0.5  # of the undisturbed time in which processes are killed
_ENCODER = "counted"
_PICKED = "(SELECT id FROM note WHERE id >= CAST(:share * (SELECT max(id) FROM note) AS int) LIMIT 1)"
_UPDATE = f"UPDATE note SET text = 'the words of edit ' || md5(CAST(:new AS text)) WHERE id = {_PICKED}"  # noqa: S608
_DELETE = f"DELETE FROM note WHERE id = {_PICKED} AND CAST(:new AS int) > 0"  # noqa: S608
_INSERT = "INSERT INTO note SELECT :new, 'the words of edit ' || md5(CAST(:new AS text)) WHERE :share >= 0"


class Base(DeclarativeBase):
    """The metadata."""


class Note(Base):
    """A row whose text no other row has, and had not before."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder=_ENCODER, dimensions=openai_server.DIMENSIONS)


@dataclass(slots=True)
class Team:
    """The backfill with its actors, and a worker; those that end are started again."""

    dsn: str
    cluster: Cluster
    environment: dict[str, str]
    kills: Counter[str] = field(default_factory=Counter)
    _backfill: "subprocess.Popen[bytes] | None" = None
    _worker: "subprocess.Popen[bytes] | None" = None

    def tend(self) -> None:
        """Starts what is not running."""
        if self._backfill is None or self._backfill.poll() is not None:
            options = ["--engine", "ray", "--workers", "2", "--rows-only", "--json"]
            self._backfill = self._start("backfill", "note_semantic", *options)
        if self._worker is None or self._worker.poll() is not None:
            self._worker = self._start("worker")

    def kill(self, kind: str) -> None:
        """Kills one process of a kind: actor, worker or backfill."""
        victims: list[psutil.Process | subprocess.Popen[bytes] | None] = {
            "actor": list(self.cluster.actors()),
            "worker": [self._worker],
            "backfill": [self._backfill],
        }[kind]
        if victims and victims[0] is not None:
            victims[0].kill()
            victims[0].wait()
            self.kills[kind] += 1

    def dismiss(self) -> None:
        """Stops all, and waits until they end."""
        for process in (self._backfill, self._worker):
            if process is not None and process.poll() is None:
                workers.stop(process)

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "pg_semantic.cli", *arguments]
        environment = os.environ | self.cluster.environment | self.environment | {settings.variable("dsn"): self.dsn}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Kills workers of a backfill on Ray.")
    options.add_argument("--rows", type=int, default=40_000, help="rows of the table")
    options.add_argument("--kills", type=int, default=9, help="how many processes to kill")
    options.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="seed of all random choices")
    given = options.parse_args()
    print(f"seed {given.seed}")
    chance = random.Random(given.seed)  # noqa: S311
    with server.running() as postgres, ray_cluster.running(cpus=2) as cluster:
        undisturbed = _run(postgres, cluster, "undisturbed", rows=given.rows, havoc=None)
        print(f"undisturbed: {undisturbed}")
        havoc = Havoc(chance, kills=given.kills, seconds=_SHARE * undisturbed["seconds"])
        result = _run(postgres, cluster, "disturbed", rows=given.rows, havoc=havoc)
    result["undisturbed_seconds"] = undisturbed["seconds"]
    print(json.dumps(result))
    clean = not result["unverified"] and result["repeated"] <= result["in_hand"]
    sys.exit(0 if clean and result["seconds"] <= 2 * undisturbed["seconds"] + LEASE_SECONDS else 1)


def _run(
    postgres: server.Server,
    cluster: Cluster,
    name: str,
    *,
    rows: int,
    havoc: "Havoc | None",
) -> dict[str, float]:
    """Fills a new database, and returns what is to be said about it."""
    engine = postgres.create(name)
    with engine.begin() as connection:
        Base.metadata.tables["note"].create(connection)
        words = "SELECT i, 'the words of row ' || md5(i::text) FROM generate_series(1, :rows) AS i"
        connection.execute(sa.text(f"INSERT INTO note {words}"), {"rows": rows})
    Base.metadata.create_all(engine)
    with openai_server.running() as encoder:
        changed = {
            "encoder_urls": json.dumps({_ENCODER: encoder.url}),
            "batch_rows": str(BATCH_ROWS),
            "lease_seconds": str(LEASE_SECONDS),
        }
        environment = {settings.variable(setting): value for setting, value in changed.items()}
        team = Team(engine.url.render_as_string(hide_password=False), cluster, environment)
        started = monotonic()
        try:
            if havoc is not None:
                with _editing(engine, random.Random(havoc.chance.random())):  # noqa: S311
                    havoc.wreak(team)
                started = monotonic()
            left = rows - _synced(engine)
            workers.wait_until_drained(engine, seconds=_PATIENCE_SECONDS, meanwhile=team.tend)
            seconds = monotonic() - started
        finally:
            team.dismiss()
        return _result(engine, encoder, team, seconds=seconds) | {"left_at_last_kill": left}


@dataclass(frozen=True, slots=True)
class Havoc:
    """Kills processes, each kind in turn but in random order, over some seconds from the first work of an actor on."""

    chance: random.Random
    kills: int
    seconds: float

    def wreak(self, team: Team) -> None:
        """Kills all of them. Waits for an actor before it kills one."""
        pause = threading.Event()
        kinds = [("actor", "worker", "backfill")[number % 3] for number in range(self.kills)]
        self.chance.shuffle(kinds)
        for kind in kinds:
            moments.until(lambda: _has_actors(team), seconds=_PATIENCE_SECONDS, what="an actor works")
            ends = monotonic() + self.chance.uniform(0, 2 * self.seconds / self.kills)
            while monotonic() < ends or (kind == "actor" and not team.cluster.actors()):
                team.tend()
                pause.wait(0.1)
            team.kill(kind)


def _has_actors(team: Team) -> bool:
    team.tend()
    return bool(team.cluster.actors())


@contextlib.contextmanager
def _editing(engine: sa.Engine, chance: random.Random) -> Iterator[None]:
    """Gives random rows new texts, deletes some and inserts others, until the block ends."""
    stop = threading.Event()

    def edit() -> None:
        with engine.connect() as connection:
            number = int(connection.scalar(sa.text("SELECT max(id) FROM note")) or 0)
        while not stop.wait(1 / EDITS_PER_SECOND):
            number += 1
            binds = {"new": number, "share": chance.random()}
            statement = chance.choice([_UPDATE, _UPDATE, _UPDATE, _DELETE, _INSERT])
            with engine.begin() as connection:
                connection.execute(sa.text(statement), binds)

    thread = threading.Thread(target=edit)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _synced(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM note_semantic_receipt")) or 0)


def _result(engine: sa.Engine, encoder: EncoderServer, team: Team, *, seconds: float) -> dict[str, float]:
    texts = Counter(text for request in encoder.requests for text in request.texts if text.startswith("the words"))
    with engine.connect() as connection:
        [generation] = registry.generations(connection)
    report = verify.verify(engine, generation)
    print(f"verify: {report}; kills: {dict(team.kills)}")
    killed = team.kills["actor"] + team.kills["worker"] + 2 * team.kills["backfill"]  # which takes both actors along
    return {
        "texts": len(texts),
        "repeated": sum(texts.values()) - len(texts),
        "kills": sum(team.kills.values()),
        "in_hand": killed * _BATCHES_HELD * BATCH_ROWS,
        "unverified": not report.clean,
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
