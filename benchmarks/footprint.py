"""The peak memory of worker processes, as the kernel counts it."""

import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import corpus, scifact, server
from pg_semantic import SemanticIndex

FEW, MANY = 10_000, 100_000
_LOOK_SECONDS = 0.05
_LONGEST = 1_000  # rows for the real encoder, whose memory doesn't depend on their number


class Short(orm.DeclarativeBase):
    """The table of short texts."""


class Real(orm.DeclarativeBase):
    """The table for the real encoder."""


class Line(Short):
    """A short text."""

    __tablename__ = "line"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:64")


class Text(Real):
    """A text for the real encoder."""

    __tablename__ = "text"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder=scifact.ENCODER)


def measure(postgres: server.Server, texts: Sequence[str], *, share: float) -> dict[str, object]:
    """Returns peaks in MiB: with the real encoder, and with the hashed encoder at 10,000 and 100,000 rows."""
    few, many = (
        _peak(postgres.create(f"lines_{count}"), Line, itertools.islice(corpus.lines(), int(count * share)))
        for count in (FEW, MANY)
    )
    real = _peak(postgres.create("texts"), Text, texts[-_LONGEST:])
    return {
        "peak_mib": round(real),
        "peak_mib_10k": round(few),
        "peak_mib_100k": round(many),
        "memory_growth": round(many / few, 3),
    }


def _peak(engine: sa.Engine, of: type[Line | Text], texts: Iterable[str]) -> float:
    """Returns the peak, in MiB, of a worker that syncs new texts. Makes the texts distinct."""
    of.metadata.create_all(engine)
    rows = [{"id": number, "text": f"{number} {text}"} for number, text in enumerate(texts)]
    with engine.begin() as connection:
        connection.execute(sa.insert(of), rows)
    peak = worker_peak(engine)
    print(f"{len(rows)} rows of {of.__tablename__}: {peak:.0f} MiB peak")
    return peak


def worker_peak(engine: sa.Engine, *, seconds: float | None = None) -> float:
    """Returns the peak of a worker process, in MiB, that runs until the queue is empty or the time is up."""
    dsn = engine.url.render_as_string(hide_password=False)
    engine.dispose()
    command = [sys.executable, "-m", "pg_semantic.cli", "worker", "--json", "--dsn", dsn]
    peak, started = 0.0, time.monotonic()
    command += ["--once"] if seconds is None else []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, high_water(process.pid))
            time.sleep(_LOOK_SECONDS)
            if seconds is not None and time.monotonic() - started > seconds:
                process.terminate()
                seconds = None  # after a second signal, it would give back the batch in progress
    if process.returncode:
        raise RuntimeError(f"The worker exited with code {process.returncode}.")
    return peak


def high_water(process: int) -> float:
    """Returns the peak memory of a process so far, in MiB; unlike that of `wait4`, without the parent's."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0
