"""Measures what capture and workers cost the application that writes.

    make bench-writes

The embedded server has Postgres's default settings. Every statement commits by itself with `synchronous_commit` on, as
in production, where most of the time of a single-row statement is its flush to disk. ``cpu_ratios`` has the same ratios
with `synchronous_commit` off, which leaves only the computation. Two equal tables, one with a semantic index and one
without, alternate. Results are medians and ratios of medians.

* ``copy_us_per_row``: microseconds that capture adds to each row of a COPY of 100,000 short rows; goal 4. The tables
  and the job table are empty before each COPY.
* ``update_untouched_ratio``: a single-row UPDATE that leaves the text alone, with capture over without; goal 1.15.
* ``insert_ratio``: the same for a single-row INSERT; goal 1.3. Updates of the text and deletes are reported as well.
* ``writer_wait_ms_max``: see `benchmarks.waits`; goal 100.
* ``load_tps`` and ``load_tps_polled``: see `benchmarks.load`, without a worker and with one that polls and has no work.
"""

import argparse
import functools
import itertools
import json
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import corpus, load, moments, server, waits
from pg_semantic import SemanticIndex

COPIED = 100_000


class Base(orm.DeclarativeBase):
    """The tables of this benchmark."""


class Captured(Base):
    """Rows with a semantic index."""

    __tablename__ = "captured"

    id: Mapped[int] = mapped_column(sa.Identity(), primary_key=True)
    body: Mapped[str]
    hits: Mapped[int]

    semantic = SemanticIndex("body", encoder="hashed:384")


class Plain(Base):
    """Rows without a semantic index."""

    __tablename__ = "plain"

    id: Mapped[int] = mapped_column(sa.Identity(), primary_key=True)
    body: Mapped[str]
    hits: Mapped[int]


WITH, WITHOUT = "captured", "plain"
_COPY = sql.SQL("COPY {} (body, hits) FROM STDIN")
_UNTOUCHED = sql.SQL("UPDATE {} SET hits = hits + 1 WHERE id = %(id)s")
_INSERT = sql.SQL("INSERT INTO {} (body, hits) VALUES (%(body)s, 0)")
_EDIT = sql.SQL("UPDATE {} SET body = %(body)s WHERE id = %(id)s")
_DELETE = sql.SQL("DELETE FROM {} WHERE id = %(id)s")


@dataclass(frozen=True, slots=True)
class Statements:
    """The times of single-row statements, alternating between the tables."""

    connection: psycopg.Connection
    chance: random.Random
    texts: Iterator[str]
    count: int

    def ratio(self, statement: sql.SQL) -> float:
        """Returns the time with capture over that without."""
        taken: dict[str, list[float]] = {WITH: [], WITHOUT: []}
        ids = self.chance.sample(range(1, COPIED + 1), self.count)
        for number, (row, body) in enumerate(zip(ids, self.texts, strict=False)):
            for table in (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH):
                taken[table].append(moments.taken(self._run(statement.format(sql.Identifier(table)), row, body)))
        medians = {table: statistics.median(seconds) for table, seconds in taken.items()}
        said = statement.format(sql.Identifier("t")).as_string()
        print(f"{said}: {medians[WITHOUT] * 1e6:.0f} us, with capture {medians[WITH] * 1e6:.0f} us")
        return round(medians[WITH] / medians[WITHOUT], 3)

    def _run(self, query: sql.Composed, row: int, body: str) -> Callable[[], object]:
        return lambda: self.connection.execute(query, {"id": row, "body": body})


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Measures what capture and workers cost the application that writes.")
    options.add_argument("--copies", type=int, default=5, help="number of COPYs into each table")
    options.add_argument(
        "--statements", type=int, default=1000, help="number of single-row statements of each kind and table"
    )
    options.add_argument(
        "--wait-seconds", type=float, default=15, help="how long writers and worker run on the same rows, in seconds"
    )
    options.add_argument(
        "--load-seconds", type=float, default=3, help="length of a round of the write load, in seconds"
    )
    given = options.parse_args()
    result: dict[str, object] = {}
    with server.running() as postgres:
        engine = postgres.connect()
        Base.metadata.create_all(engine)
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            result["copy_us_per_row"] = _copy(engine, connection, rounds=given.copies)
            statements = Statements(connection, random.Random(1), corpus.lines(), given.statements)  # noqa: S311
            result |= _statements(engine, statements)
        result |= load.measure(postgres, engine, table=WITH, seconds=given.load_seconds)
        engine.dispose()
    with server.running() as postgres:
        result |= waits.measure(postgres, seconds=given.wait_seconds)
    print(json.dumps(result))


def _copy(engine: sa.Engine, connection: psycopg.Connection, *, rounds: int) -> float:
    data = _rows()
    taken: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    for number in range(rounds):
        for table in (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH):
            server.execute(
                engine, f"TRUNCATE {table}, semantic.job, semantic.mark RESTART IDENTITY CASCADE", "CHECKPOINT"
            )
            taken[table].append(moments.taken(functools.partial(_copy_into, connection, table, data)))
    with_capture, without = (statistics.median(taken[table]) for table in (WITH, WITHOUT))
    print(f"COPY of {COPIED} rows: {without * 1e3:.0f} ms, with capture {with_capture * 1e3:.0f} ms")
    return round((with_capture - without) / COPIED * 1e6, 2)


def _rows() -> bytes:
    texts = (text.replace("\\", "").replace("\t", " ") for text in corpus.lines())
    return "".join(f"{text}\t0\n" for text in itertools.islice(texts, COPIED)).encode()


def _copy_into(connection: psycopg.Connection, table: str, data: bytes) -> None:
    with connection.cursor().copy(_COPY.format(sql.Identifier(table))) as copy:
        copy.write(data)


def _statements(engine: sa.Engine, statements: Statements) -> dict[str, object]:
    """Returns the ratios with and without the flush to disk."""
    server.execute(engine, "TRUNCATE semantic.job, semantic.mark", "VACUUM ANALYZE", "CHECKPOINT")
    kinds = {"update_untouched_ratio": _UNTOUCHED, "insert_ratio": _INSERT, "update_text_ratio": _EDIT}
    result: dict[str, object] = {name: statements.ratio(kind) for name, kind in kinds.items()}
    statements.connection.execute("SET synchronous_commit = off")
    result["cpu_ratios"] = {name: statements.ratio(kind) for name, kind in kinds.items()}
    statements.connection.execute("SET synchronous_commit = on")
    result["delete_ratio"] = statements.ratio(_DELETE)
    return result


if __name__ == "__main__":
    main()
