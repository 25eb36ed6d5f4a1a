"""The memory of worker processes: the peak of each, as the kernel counted it."""

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
_LONGEST = 1_000  # rows for the real encoder: its memory does not depend on how many there are


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
    """Peaks in MiB: with the real encoder, and with the hashed one at 10,000 and at 100,000 rows."""
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
    """The peak of a worker, in MiB, that syncs texts from nothing; each is made different from the others."""
    of.metadata.create_all(engine)
    rows = [{"id": number, "text": f"{number} {text}"} for number, text in enumerate(texts)]
    with engine.begin() as connection:
        connection.execute(sa.insert(of), rows)
    peak = worker_peak(engine)
    print(f"{len(rows)} rows of {of.__tablename__}: {peak:.0f} MiB at the peak")
    return peak


def worker_peak(engine: sa.Engine, *, seconds: float | None = None) -> float:
    """The peak of a worker process, in MiB, that works until nothing waits, or for so many seconds."""
    dsn = engine.url.render_as_string(hide_password=False)
    engine.dispose()
    command = [sys.executable, "-m", "pg_semantic.cli", "worker", "--json", "--dsn", dsn]
    peak, started = 0.0, time.monotonic()
    command += ["--once"] if seconds is None else []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _high_water(process.pid))
            time.sleep(_LOOK_SECONDS)
            if seconds is not None and time.monotonic() - started > seconds:
                process.terminate()
                seconds = None  # a second signal would have it give back what is in hand
    if process.returncode:
        raise RuntimeError(f"The worker ended with {process.returncode}.")
    return peak


def _high_water(process: int) -> float:
    """The most memory, in MiB, that a process has had so far; what `wait4` tells begins with the parent's."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0
