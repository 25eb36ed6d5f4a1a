"""Measures a million rows on one machine: load, backfill, build, searches, status and verify, memory and WAL.

    make bench-million

Each row has eight words, and is encoded by the hashed encoder (384 dimensions), with BM25. The worker is a process of
its own with default settings. The graph and the vector index fit in the server's memory (``maintenance_work_mem``,
``shared_buffers``), as an operator would have it. The same is measured with a tenth of the rows, for the ratios.
``job_wal_bytes_a_row`` is the part of the job table and its indexes, over the first rows of the backfill, by
``pg_waldump``; ``wal_bytes_a_row`` is that of the whole backfill without the builds. ``job_bytes_peak`` includes the
table's indexes. The goals: at most 480 bytes of WAL for jobs a row, a job table under 16 MB, a status within a second,
and at 100,000 rows at least half the time of a dense search and 1/1.2 of the memory.
"""

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import footprint, moments, server, workers
from pg_semantic import Searcher, SemanticIndex, encoders, registry
from pg_semantic.database import embedded
from pg_semantic.operations import status, verify
from pg_semantic.search import Mode

ROWS, SHARE = 1_000_000, 10
SEARCHES, WARM_UP = 60, 10
WAL_ROWS = 50_000
SETTINGS = {"maintenance_work_mem": "3GB", "shared_buffers": "3GB"}
_PATIENCE_SECONDS = 3 * 3600
_TEXT = "(SELECT string_agg('w' || (hashint4(i * 8 + k) & 8191), ' ') FROM generate_series(1, 8) AS k)"
_FILL = f"INSERT INTO line SELECT i, i % 1000, i % 10, {_TEXT} FROM generate_series(1, :rows) AS i"  # noqa: S608


class Base(orm.DeclarativeBase):
    """The metadata."""


class Line(Base):
    """A row of eight words."""

    __tablename__ = "line"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    thousandth: Mapped[int]
    tenth: Mapped[int]
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:384")


class Place:
    """A database with a number of lines, and what was measured in it."""

    def __init__(self, postgres: server.Server, rows: int) -> None:
        self.figures: dict[str, float] = {}
        self._postgres, self._rows = postgres, rows
        self._engine = postgres.create(f"lines_{rows}")
        self._dsn = self._engine.url.render_as_string(hide_password=False)

    def run(self) -> dict[str, float]:
        """Takes all measurements."""
        self.figures["load_s"] = round(moments.taken(self._load), 1)
        Base.metadata.create_all(self._engine)
        with workers.running(self._engine, self._dsn) as process:
            self._backfill(process)
        self._searches()
        with self._engine.connect() as connection:
            self.figures["status_s"] = round(moments.taken(lambda: status.read(connection)), 3)
            generation = registry.find(connection, "line_semantic")
        self.figures["verify_s"] = round(moments.taken(lambda: _require_clean(self._engine, generation)), 1)
        self._engine.dispose()
        return self.figures

    def _load(self) -> None:
        Line.__table__.create(self._engine)  # type: ignore[attr-defined]
        with self._engine.begin() as connection:
            connection.execute(sa.text(_FILL), {"rows": self._rows})
        server.execute(self._engine, "VACUUM ANALYZE line")

    def _backfill(self, process: int) -> None:
        """Waits until every row is synced and the indexes are built. Watches the job table and the worker's memory."""
        began, begun_at = self._lsn(), self._one("SELECT extract(epoch FROM clock_timestamp())")
        peak, memory, window = 0.0, 0.0, ""

        def look(reached: str) -> Callable[[], bool]:
            def looked() -> bool:
                nonlocal peak, memory
                peak = max(peak, self._one("SELECT pg_total_relation_size('semantic.job')"))
                memory = max(memory, footprint.high_water(process))
                return bool(self._one(reached))

            return looked

        few = min(WAL_ROWS, self._rows // 2)
        seen = f"SELECT (backfill_rows >= {few})::int FROM semantic.generation"  # noqa: S608 - a number
        moments.until(look(seen), seconds=_PATIENCE_SECONDS)
        rows, window = self._one("SELECT backfill_rows FROM semantic.generation"), self._lsn()
        self.figures["job_wal_bytes_a_row"] = round(self._job_wal(began, window) / rows)
        synced = (
            "SELECT (backfilled_at IS NOT NULL AND NOT EXISTS (SELECT FROM semantic.job))::int FROM semantic.generation"
        )
        moments.until(look(synced), seconds=_PATIENCE_SECONDS)
        synced_at = self._one("SELECT extract(epoch FROM clock_timestamp())")
        self.figures["wal_bytes_a_row"] = round(self._bytes_between(began, self._lsn()) / self._rows)
        self.figures["backfill_rows_per_s"] = round(self._rows / (synced_at - begun_at))
        names = ", ".join(f"to_regclass('{index.name}')" for index in Line.semantic.tables.late_indexes)
        built = f"SELECT (count(*) = 2)::int FROM pg_index WHERE indisvalid AND indexrelid IN ({names})"  # noqa: S608
        moments.until(look(built), seconds=_PATIENCE_SECONDS)
        self.figures["build_s"] = round(self._one("SELECT extract(epoch FROM clock_timestamp())") - synced_at, 1)
        self.figures |= {"job_bytes_peak": peak, "memory_mib": round(memory)}

    def _searches(self) -> None:
        server.execute(self._engine, "VACUUM ANALYZE line_semantic, line_semantic_receipt, line")
        kinds: tuple[tuple[str, Mode, list[sa.ColumnElement[bool]]], ...] = (
            ("dense", "dense", []),
            ("filtered_01", "dense", [Line.thousandth == 7]),
            ("filtered_10", "dense", [Line.tenth == 7]),
            ("lexical", "lexical", []),
            ("hybrid", "hybrid", []),
        )
        searcher = Searcher(encoders.load("hashed:384"))
        with orm.Session(self._engine) as session:
            queries = list(session.scalars(sa.select(Line.text).order_by(Line.id).limit(SEARCHES + WARM_UP)))
            for name, mode, where in kinds:
                times = [
                    moments.taken(
                        lambda text=text, mode=mode, where=where: searcher.search(  # type: ignore[misc]
                            session, Line.semantic, " ".join(text.split()[:3]), mode=mode, where=where
                        )
                    )
                    for text in queries
                ]
                self.figures[f"{name}_p50_ms"] = round(1000 * moments.quantile(times[WARM_UP:], 0.5), 2)

    def _job_wal(self, start: str, end: str) -> float:
        """Returns how many bytes of WAL between two places belong to the job table and its indexes."""
        nodes = (
            "SELECT format('1663/%s/%s', (SELECT oid FROM pg_database WHERE datname = current_database()), "
            "pg_relation_filenode(oid)) FROM pg_class "
            "WHERE oid IN (SELECT 'semantic.job'::regclass UNION "
            "SELECT indexrelid FROM pg_index WHERE indrelid = 'semantic.job'::regclass)"
        )
        with self._engine.connect() as connection:
            found = list(connection.scalars(sa.text(nodes)))
        return sum(_wal_of(self._postgres.data, node, start=start, end=end) for node in found)

    def _lsn(self) -> str:
        with self._engine.connect() as connection:
            return str(connection.scalar(sa.text("SELECT pg_current_wal_insert_lsn()")))

    def _bytes_between(self, start: str, end: str) -> float:
        return self._one(f"SELECT pg_wal_lsn_diff('{end}', '{start}')")

    def _one(self, query: str) -> float:
        with self._engine.connect() as connection:
            return float(connection.scalar(sa.text(query)) or 0)


def _require_clean(engine: sa.Engine, generation: registry.Generation) -> None:
    if not verify.verify(engine, generation).clean:
        raise RuntimeError("The index is not clean.")


def _wal_of(data: Path, node: str, *, start: str, end: str) -> float:
    """Returns the bytes of WAL records of a relation, as the statistics of pg_waldump count them."""
    tool = str(embedded.psql(data).parent / "pg_waldump")
    command = [tool, "--path", str(data / "pg_wal"), "--start", start, "--end", end, "--stats", f"--relation={node}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return sum(_totals(done.stdout))


def _totals(printed: str) -> Iterator[float]:
    """Yields the sum of a table of statistics: the last number but for its share, as ``5723718 [100%]``."""
    for line in printed.splitlines():
        if line.startswith("Total"):
            yield float(line.split()[-2])


def main() -> None:
    """Prints the results, with JSON as the last line."""
    options = argparse.ArgumentParser(description="Measures a million rows on one machine.")
    options.add_argument("--rows", type=int, default=ROWS, help="number of rows")
    rows = options.parse_args().rows
    with server.running() as postgres:
        engine = postgres.connect()
        server.execute(engine, *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in SETTINGS.items()))
        engine.dispose()
        embedded.stop(postgres.data)
        embedded.start(postgres.data)
        free = shutil.disk_usage(postgres.data).free / 2**30
        print(f"{free:.0f} GB of disk are free")
        few = Place(postgres, rows // SHARE).run()
        print(json.dumps(few))
        many = Place(postgres, rows).run()
    ratios = {
        "dense_ratio": round(many["dense_p50_ms"] / few["dense_p50_ms"], 2),
        "memory_ratio": round(many["memory_mib"] / few["memory_mib"], 2),
    }
    print(json.dumps({"rows": rows} | many | ratios))


if __name__ == "__main__":
    main()
