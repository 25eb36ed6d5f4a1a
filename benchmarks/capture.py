"""Measures what capture adds to statements of every kind and size, whatever ran before them in the session.

    make bench-capture

Statements run alternately on three equal tables: ``captured`` has a semantic index, ``uncaptured`` has one whose
triggers are disabled, and ``plain`` has none. Each statement runs in a session of its own, after a statement of its
kind on a single row, in a transaction that is rolled back. Then the table is vacuumed. Results are medians.

What capture adds is the difference between the first two tables, which are both referenced by foreign keys. The cost of
these, a lookup in two tables for each row of a DELETE, is the difference between the last two:
``foreign_keys_us_per_row``. The UPDATEs change the text of six rows in seven, or another column.

* ``added_us_per_row``: by kind, microseconds per row at ``--rows``; goal 4 for COPY, INSERT and DELETE, 8 for others.
* ``size_ratio_max``: that, over the same at a hundredth of the rows, for the worst kind; goal 2.
* ``added_ms``: milliseconds that capture adds to a statement of 100 rows, for the worst kind; goal 1.
* ``plan_ratio_max``: a statement of ``--plan-rows`` rows runs as the first of its kind in a session, after one of 1
  row, and after one of 1,000 rows. The slowest over the fastest, for the worst kind; goal 3.
* ``marks_exact``: whether every statement marked each row whose text changed exactly once, and no other rows.
* ``writer_memory_mib`` and ``starved_p50_ms``: see `benchmarks.bulk_edit`; goals 64 and 500.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import bulk_edit, moments, server
from pg_semantic import SemanticIndex

SMALL = 100
BEFORE = (0, 1, 1000)  # rows of the previous statement
CAPTURED, UNCAPTURED, PLAIN = TABLES = ("captured", "uncaptured", "plain")
_NEW = "CASE WHEN {table}.id %% 7 = 0 THEN {table}.body ELSE 'anchor ' || {table}.body END"
_WANTED = "generate_series(1, %(rows)s) AS wanted (id)"
_TEXTS = "SELECT id, 'harbour candle meadow engine violin glacier ' || id, 0 FROM generate_series({}, {}) AS id"
# Each writes rows 1 to n, or n new rows.
KINDS: dict[str, LiteralString] = {
    "COPY": "COPY {table} FROM STDIN",
    "INSERT": "INSERT INTO {table} {new_rows}",
    "UPDATE": "UPDATE {table} SET body = {new} WHERE id <= %(rows)s",
    "UPDATE of another column": "UPDATE {table} SET hits = hits + 1 WHERE id <= %(rows)s",
    "ON CONFLICT": "INSERT INTO {table} SELECT id, '', 0 FROM {wanted} ON CONFLICT (id) DO UPDATE SET body = {new}",
    "MERGE": "MERGE INTO {table} USING {wanted} ON wanted.id = {table}.id WHEN MATCHED THEN UPDATE SET body = {new}",
    "DELETE": "DELETE FROM {table} WHERE id <= %(rows)s",
}
_SIX_IN_SEVEN = {"UPDATE", "ON CONFLICT", "MERGE"}  # these keep the text of every seventh row
_MARKED = "SELECT count(*), count(DISTINCT key), count(*) FILTER (WHERE CAST(key AS bigint) % 7 = 0) FROM semantic.mark"


class Base(orm.DeclarativeBase):
    """The tables, which have the same columns."""


class Captured(Base):
    """Rows with a semantic index."""

    __tablename__ = CAPTURED

    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    body: Mapped[str]
    hits: Mapped[int]

    semantic = SemanticIndex("body", encoder="hashed:32", lexical=None)


class Uncaptured(Base):
    """Rows with a semantic index that isn't kept in sync."""

    __tablename__ = UNCAPTURED

    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    body: Mapped[str]
    hits: Mapped[int]

    semantic = SemanticIndex("body", encoder="hashed:32", lexical=None)


class Plain(Base):
    """Rows without a semantic index."""

    __tablename__ = PLAIN

    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    body: Mapped[str]
    hits: Mapped[int]


@dataclass(slots=True)
class Bench:
    """Tables of ``rows`` rows each, and the number of statements that didn't mark exactly the right rows."""

    dsn: str
    engine: sa.Engine
    rows: int
    inexact: list[str] = field(default_factory=list)

    def fill(self) -> None:
        """Empties the tables and fills them again."""
        server.execute(self.engine, f"TRUNCATE {', '.join(TABLES)} CASCADE")
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for table in TABLES:
                filled = sql.SQL("INSERT INTO {} {}").format(sql.Identifier(table), _texts("1", "%(rows)s"))
                connection.execute(filled, {"rows": self.rows})
        server.execute(self.engine, "TRUNCATE semantic.mark", "VACUUM ANALYZE", "CHECKPOINT")

    def seconds(self, kind: str, table: str, *, before: int, check: bool = False) -> float:
        """Times a statement on all rows in a new session, after one of its kind on ``before`` rows."""
        with psycopg.connect(self.dsn) as connection:
            if before:
                _step(connection, kind, table, rows=before)()
                connection.rollback()
            taken = moments.taken(_step(connection, kind, table, rows=self.rows))
            if check and table == CAPTURED:
                self._check(connection, kind)
            connection.rollback()
        server.execute(self.engine, "TRUNCATE semantic.mark", f"VACUUM {table}")
        return taken

    def _check(self, connection: psycopg.Connection, kind: str) -> None:
        marks, keys, sevenths = connection.execute(_MARKED).fetchone() or (0, 0, 0)
        expected = {"UPDATE of another column": 0}.get(
            kind, self.rows - self.rows // 7 if kind in _SIX_IN_SEVEN else self.rows
        )
        if not marks == keys == expected or (kind in _SIX_IN_SEVEN and sevenths):
            self.inexact.append(f"{kind} of {self.rows} rows")


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Measures what capture adds to statements of every kind and size.")
    options.add_argument("--rows", type=int, default=1_000_000, help="number of rows of the largest statements")
    options.add_argument(
        "--plan-rows", type=int, default=20_000, help="number of rows of the statements that follow others"
    )
    options.add_argument("--rounds", type=int, default=5, help="number of statements of each kind, size and table")
    options.add_argument(
        "--bulk-rows", type=int, default=5_000_000, help="number of rows of the UPDATE whose memory is measured"
    )
    options.add_argument(
        "--starved-seconds", type=float, default=30, help="how long to time single edits after it, in seconds"
    )
    given = options.parse_args()
    with server.running() as postgres:
        result = _measure(postgres, rows=given.rows, plan_rows=given.plan_rows, rounds=given.rounds)
    with server.running() as postgres:
        result |= bulk_edit.measure(postgres, rows=given.bulk_rows, seconds=given.starved_seconds)
    print(json.dumps(result))


def _measure(postgres: server.Server, *, rows: int, plan_rows: int, rounds: int) -> dict[str, object]:
    engine = postgres.connect()
    Base.metadata.create_all(engine)
    server.execute(engine, f"ALTER TABLE {UNCAPTURED} DISABLE TRIGGER USER")
    small, medium, large = (
        _added(Bench(postgres.dsn, engine, size), rounds=times)
        for size, times in ((SMALL, 3 * rounds), (rows // 100, 3 * rounds), (rows, rounds))
    )
    plans = _plans(Bench(postgres.dsn, engine, plan_rows), rounds=rounds)
    engine.dispose()
    inexact = [*small.inexact, *medium.inexact, *large.inexact]
    ratios = {kind: us / max(medium.added_us[kind], 0.1) for kind, us in large.added_us.items()}
    return {
        "plan_ratio_max": max(plans.values()),
        "size_ratio_max": _rounded(max(ratios.values())),
        "added_us_per_row": large.added_us,
        "added_ms": _rounded(max(small.added_us.values()) * SMALL / 1000),
        "marks_exact": not inexact,
        "inexact": inexact,
        "plan_ratios": plans,
        "size_ratios": {kind: _rounded(ratio) for kind, ratio in ratios.items()},
        "foreign_keys_us_per_row": large.foreign_keys_us,
    }


@dataclass(frozen=True, slots=True)
class Added:
    """Returns what capture and foreign keys add to statements of a size, in microseconds per row, by kind."""

    added_us: dict[str, float]
    foreign_keys_us: dict[str, float]
    inexact: list[str]


def _added(bench: Bench, *, rounds: int) -> Added:
    bench.fill()
    added, foreign_keys = {}, {}
    for kind in KINDS:
        taken: dict[str, list[float]] = {table: [] for table in TABLES}
        for number in range(rounds):
            for table in TABLES if number % 2 else reversed(TABLES):
                taken[table].append(bench.seconds(kind, table, before=1, check=not number))
        captured, uncaptured, plain = (statistics.median(taken[table]) * 1e6 / bench.rows for table in TABLES)
        added[kind] = _rounded(captured - uncaptured)
        foreign_keys[kind] = _rounded(uncaptured - plain)
        print(f"{kind}, {bench.rows} rows: {plain:.2f} us per row, foreign keys {foreign_keys[kind]:+.2f}, ", end="")
        print(f"capture {added[kind]:+.2f}", flush=True)
    return Added(added, foreign_keys, bench.inexact)


def _plans(bench: Bench, *, rounds: int) -> dict[str, float]:
    """Returns, by kind, the slowest over the fastest time after different previous statements."""
    bench.fill()
    ratios = {}
    for kind in KINDS:
        taken: dict[int, list[float]] = {before: [] for before in BEFORE}
        for number in range(rounds):
            for before in BEFORE if number % 2 else reversed(BEFORE):
                taken[before].append(bench.seconds(kind, CAPTURED, before=before))
        medians = [statistics.median(seconds) for seconds in taken.values()]
        ratios[kind] = _rounded(max(medians) / min(medians))
        told = ", ".join(f"{median * 1e3:.0f}" for median in medians)
        print(f"{kind}, {bench.rows} rows after {BEFORE} rows: {told} ms", flush=True)
    return ratios


def _step(connection: psycopg.Connection, kind: str, table: str, *, rows: int) -> Callable[[], object]:
    name = sql.Identifier(table)
    statement = sql.SQL(KINDS[kind]).format(
        table=name,
        new=sql.SQL(_NEW).format(table=name),
        wanted=sql.SQL(_WANTED),
        new_rows=_texts("-%(rows)s", "-1"),
    )
    if kind != "COPY":
        return lambda: connection.execute(statement, {"rows": rows})
    data = "".join(f"{-number}\tharbour candle meadow engine violin {number}\t0\n" for number in range(1, rows + 1))

    def copy() -> None:
        with connection.cursor().copy(statement) as copying:
            copying.write(data)

    return copy


def _texts(first: LiteralString, last: LiteralString) -> sql.Composed:
    return sql.SQL(_TEXTS).format(sql.SQL(first), sql.SQL(last))


def _rounded(number: float) -> float:
    return round(number, 2)


if __name__ == "__main__":
    main()
