"""Measures how fast a worker fills an index if encoding costs nothing, as with a fast GPU.

    make bench-feed

200,000 short rows that are older than their index, without BM25 and with it. The encoder returns rows of a fixed
matrix. Timed is the time from the start of the worker until every row is synced; the vector index is not built.
Meanwhile, another connection deletes rows and changes keys, and measures how long it waits (goal: 100 ms).

``ratio_vs_before`` compares with the worker of an earlier commit, in turns, without BM25 and without the other
connection. ``copy_share`` is the time of a bare binary COPY of the same chunks and receipts, on one connection, into
tables with the same keys, foreign keys and indexes, over the worker's time.
"""

import argparse
import gc
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import server
from pg_semantic import SemanticIndex
from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker

ROWS = 200_000
TURNS = 3
BEFORE = "d696c9d8"  # the last commit that created a job for each row beforehand
MATRIX_ROWS = 4_096
WRITER_PAUSE_SECONDS = 0.02
POLL_SECONDS = 0.02
WRITER_SHARE = 0.9  # of the rows; then it stops, so that the worker can finish


class Plain(orm.DeclarativeBase):
    """The table without BM25."""


class Lexical(orm.DeclarativeBase):
    """The table with BM25."""


class Line(Plain):
    """A short text."""

    __tablename__ = "line"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:384", lexical=None)


class LexicalLine(Lexical):
    """A short text that also has BM25."""

    __tablename__ = "line"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:384")


class Matrix(HashedEncoder):
    """Returns rows of a fixed matrix, and counts a token per six characters."""

    def __init__(self) -> None:
        super().__init__(384)
        self._matrix = np.random.default_rng(7).standard_normal((MATRIX_ROWS, 384), dtype=np.float32)
        self._matrix /= np.linalg.norm(self._matrix, axis=1, keepdims=True)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """See `base.Encoder.encode_documents`."""
        return np.resize(self._matrix, (len(texts), 384))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `base.Encoder.count_tokens`."""
        return [len(text) // 6 for text in texts]


class Writer:
    """Deletes rows and changes keys on a connection of its own, one at a time."""

    def __init__(self, dsn: str, rows: int) -> None:
        self.waits: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(dsn, rows))
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self, dsn: str, rows: int) -> None:
        chosen = random.Random(7)  # noqa: S311 - the same choices in every run
        statements = ("DELETE FROM line WHERE id = %s", "UPDATE line SET id = id + 10000000 WHERE id = %s")
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not self._stop.wait(WRITER_PAUSE_SECONDS):
                started = time.perf_counter()
                connection.execute(chosen.choice(statements), (chosen.randrange(rows),))
                self.waits.append(time.perf_counter() - started)


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Measures how fast a worker writes if encoding costs nothing.")
    options.add_argument("--rows", type=int, default=ROWS, help="number of rows")
    options.add_argument("--turns", type=int, default=TURNS, help="runs of each of the two workers that are compared")
    options.add_argument("--before", default=BEFORE, help="the commit to compare with")
    options.add_argument("--alone", action="store_true", help="print the rows per second of this worker, no comparison")
    given = options.parse_args()
    if importlib.util.find_spec("pg_semantic.worker.garbage_collection"):  # an earlier worker had none
        importlib.import_module("pg_semantic.worker.garbage_collection").collect_rarely()
    if given.alone:
        with server.running() as postgres:
            print(_fill(postgres, Line, given.rows, name="alone")[0])
        return
    before, now = _in_turns(given)
    with server.running() as postgres:
        plain, waits = _fill(postgres, Line, given.rows, name="plain", writing=True)
        copied = _copied_per_second(postgres, source="plain")
        lexical, more_waits = _fill(postgres, LexicalLine, given.rows, name="lexical", writing=True)
    ratio = statistics.median(now) / statistics.median(before)
    print(f"rows per second before: {_rounded(before)}, now: {_rounded(now)}; {len(waits + more_waits)} writes")
    figures = {
        "rows_per_s": round(plain),
        "rows_per_s_bm25": round(lexical),
        "ratio_vs_before": round(ratio, 2),
        "copy_share": round(plain / copied, 3),
        "writer_wait_ms_max": round(1000 * max(waits + more_waits), 1),
        "rows": given.rows,
    }
    print(json.dumps(figures))


def _rounded(speeds: Sequence[float]) -> str:
    return " ".join(f"{speed:.0f}" for speed in speeds)


def _in_turns(given: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Returns the rows per second of the earlier worker and of this one, each in a process of its own."""
    here = Path(__file__).resolve().parent.parent
    before: list[float] = []
    now: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        subprocess.run(["git", "-C", here, "worktree", "add", "--detach", tree, given.before], check=True)
        try:
            (tree / "benchmarks" / "feed.py").write_bytes(Path(__file__).read_bytes())
            for _ in range(given.turns):
                before.append(_alone(tree, given.rows))
                now.append(_alone(here, given.rows))
        finally:
            subprocess.run(["git", "-C", here, "worktree", "remove", "--force", tree], check=True)
    return before, now


def _alone(tree: Path, rows: int) -> float:
    command = [sys.executable, "-m", "benchmarks.feed", "--alone", "--rows", str(rows)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def _fill(
    postgres: server.Server, of: type[Line | LexicalLine], rows: int, *, name: str, writing: bool = False
) -> tuple[float, list[float]]:
    """Returns the rows per second until every row is synced, and how long the other connection waited each time."""
    engine = postgres.create(name)
    of.__table__.create(engine)  # type: ignore[attr-defined]
    with engine.begin() as connection:
        fill = "INSERT INTO line SELECT i, 'line ' || i || ' ' || md5(i::text) FROM generate_series(0, :rows - 1) AS i"
        connection.execute(sa.text(fill), {"rows": rows})
    server.execute(engine, "VACUUM ANALYZE line")
    of.metadata.create_all(engine)
    stop = threading.Event()
    writer = Writer(_dsn(postgres, name), rows) if writing else None
    worker = Worker(engine, Settings(), load=_loaded)
    thread = threading.Thread(target=worker.run, args=(stop,))
    started = time.perf_counter()
    thread.start()
    while worker.progress.rows < WRITER_SHARE * rows:
        stop.wait(POLL_SECONDS)
    if writer is not None:
        writer.stop()
    while not _is_complete(engine):
        stop.wait(POLL_SECONDS)
    seconds = time.perf_counter() - started
    stop.set()
    thread.join()
    engine.dispose()
    return rows / seconds, writer.waits if writer else []


def _loaded(*_: object, **__: object) -> Matrix:
    """Loads the encoder and hides it from the garbage collector, as `pg-semantic worker` does."""
    matrix = Matrix()
    gc.collect()
    gc.freeze()
    return matrix


def _is_complete(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        left = (
            "SELECT EXISTS (SELECT FROM semantic.job) OR EXISTS (SELECT FROM semantic.mark) "
            "OR EXISTS (SELECT FROM semantic.generation WHERE backfilled_at IS NULL)"
        )
        return not connection.scalar(sa.text(left))


def _copied_per_second(postgres: server.Server, *, source: str) -> float:
    """Returns the rows per second of a COPY of what a worker wrote to a database, into tables of the same kind."""
    tables = Line.semantic.tables
    stored = (tables.chunks.name, tables.receipts.name)
    with psycopg.connect(_dsn(postgres, source)) as connection:
        lines, *contents = [_copied_out(connection, table) for table in ("line", *stored)]
        rows = connection.execute("SELECT count(*) FROM line_semantic_receipt").fetchone()
    engine = postgres.create("copied")
    Line.__table__.create(engine)  # type: ignore[attr-defined]
    with psycopg.connect(_dsn(postgres, "copied")) as connection:
        _copy_in(connection, "line", lines)
    Line.metadata.create_all(engine)
    server.execute(engine, "VACUUM ANALYZE line", "CHECKPOINT")
    engine.dispose()
    with psycopg.connect(_dsn(postgres, "copied")) as connection:
        started = time.perf_counter()
        for table, content in zip(stored, contents, strict=True):
            _copy_in(connection, table, content)
        connection.commit()
        seconds = time.perf_counter() - started
    return float(rows[0] if rows else 0) / seconds


def _dsn(postgres: server.Server, name: str) -> str:
    url = sa.make_url(postgres.dsn).set(drivername="postgresql", database=name)
    return url.render_as_string(hide_password=False)


def _copied_out(connection: psycopg.Connection, table: str) -> list[bytes]:
    with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(sql.Identifier(table))) as copy:
        return [bytes(part) for part in copy]


def _copy_in(connection: psycopg.Connection, table: str, contents: Sequence[bytes]) -> None:
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(sql.Identifier(table))) as copy:
        for part in contents:
            copy.write(part)


if __name__ == "__main__":
    main()
