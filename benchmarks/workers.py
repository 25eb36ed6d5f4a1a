"""Worker processes as an operator starts them: `pg-semantic worker`, with settings from the environment."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from benchmarks import moments
from pg_semantic import settings

_START_SECONDS = 120
_STOP_SECONDS = 60


def start(dsn: str, log: Path | None = None, **changed: object) -> subprocess.Popen[bytes]:
    """Starts a worker process. Its log is appended to the file, or discarded."""
    environment = os.environ | {settings.variable(name): str(value) for name, value in changed.items()}
    command = [sys.executable, "-m", "pg_semantic.cli", "worker", "--dsn", dsn]
    with (log or Path(os.devnull)).open("ab") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Stops a worker, waits for it and returns its exit code."""
    process.terminate()
    return process.wait(_STOP_SECONDS)


@contextlib.contextmanager
def running(engine: sa.Engine, dsn: str, log: Path | None = None, **changed: object) -> Iterator[int]:
    """Runs a worker process that has signed in, until the block ends. Yields its process ID."""
    before = _signed_in(engine)
    process = start(dsn, log, **changed)
    try:
        moments.until(lambda: _signed_in(engine) > before, seconds=_START_SECONDS, what="a worker signs in")
        yield process.pid
    finally:
        stop(process)


def backlog(engine: sa.Engine) -> int:
    """Counts marks and unfinished jobs of all generations, without parked ones. Scans both tables."""
    with engine.connect() as connection:
        count = (
            "SELECT (SELECT count(*) FROM semantic.job WHERE state <> 'failed') + (SELECT count(*) FROM semantic.mark)"
        )
        return int(connection.scalar(sa.text(count)) or 0)


def wait_until_drained(engine: sa.Engine, *, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Waits until all generations are backfilled and no job is left. Retries while the database is away."""

    def drained() -> bool:
        meanwhile()
        with contextlib.suppress(exc.OperationalError), engine.connect() as connection:
            unfilled = sa.text("SELECT count(*) FROM semantic.generation WHERE backfilled_at IS NULL")
            return not connection.scalar(unfilled) and not backlog(engine)
        return False

    moments.until(drained, seconds=seconds, what="no job waits", every_seconds=0.2)


def _signed_in(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM semantic.worker")) or 0)
