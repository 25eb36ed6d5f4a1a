"""Compares the forecast size of vector indexes, and of their graphs during a build, with what a server has.

    make bench-index-size

For vectors of 64, 384 and 1,536 dimensions as `halfvec` and `vector`, with m = 8, 16, 24, 32 and 48. Each index is
built with less memory than its graph needs: the server says after how many chunks it ran out. One process builds, and
then two. Another build, with enough memory, gives the size on disk. The last line is JSON: the largest relative errors
of the forecasts, and the bytes per chunk that were measured, on disk and in memory. The goal is 2%: levels are drawn at
random, and an index has only some hundred pages here.
"""

import argparse
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from pg_semantic.database import embedded
from pg_semantic.index import hnsw_size
from pg_semantic.index.hnsw_size import HnswShape
from pg_semantic.index.spec import Storage

GOAL = 0.02
VERSIONS = (18,)
STORAGES: tuple[Storage, ...] = ("halfvec", "vector")
DIMENSIONS = (64, 384, 1536)
EDGES = (8, 16, 24, 32, 48)
_MEGABYTES = 6
_MORE = 1.03  # chunks than fit into memory
_UNUSED = 4  # MB that a parallel build leaves of its memory
_OUTGROWN = re.compile(r"after (\d+) tuples")


@dataclass(slots=True)
class Measured:
    """What was measured so far."""

    per_chunk: dict[str, tuple[float, float]] = field(default_factory=dict)
    memory_error: float = 0.0
    disk_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Builder:
    """A connection that builds indexes, and the notices of the server."""

    connection: psycopg.Connection[Any]
    notices: list[str]

    def fill(self, shape: HnswShape, rows: int) -> None:
        """Creates a table with random vectors."""
        self.connection.execute("DROP TABLE IF EXISTS vectors")
        self.connection.execute(f"CREATE TABLE vectors (v {shape.storage}({shape.dimensions}))".encode())
        drawn = np.random.default_rng(1).standard_normal((rows, shape.dimensions)).astype(np.float32)
        with self.connection.cursor().copy("COPY vectors FROM STDIN") as copy:
            for vector in drawn:
                copy.write_row((f"[{','.join(f'{value:.4f}' for value in vector)}]",))

    def build(self, shape: HnswShape, rows: int, *, megabytes: int, processes: int) -> tuple[int, int | None]:
        """Builds an index of some rows.

        Returns:
            Its size in bytes, and after how many of them the server ran out of memory; None if it didn't.
        """
        self.notices.clear()
        helpers = processes - 1
        how = f"hnsw (v {shape.storage}_cosine_ops) WITH (m = {shape.m}, ef_construction = {2 * shape.m})"
        for statement in (
            "DROP TABLE IF EXISTS part",
            f"CREATE TABLE part WITH (parallel_workers = {helpers}) AS TABLE vectors LIMIT {rows}",
            f"SET max_parallel_maintenance_workers = {helpers}",
            f"SET maintenance_work_mem = '{megabytes}MB'",
            f"CREATE INDEX part_idx ON part USING {how}",
        ):
            self.connection.execute(statement.encode())
        [size] = self.connection.execute("SELECT pg_relation_size('part_idx')").fetchone() or [0]
        found = [int(match[1]) for notice in self.notices if (match := _OUTGROWN.search(notice))]
        return int(size), found[0] if found else None


@contextlib.contextmanager
def running(version: int) -> Iterator[Builder]:
    """Runs a server of a version, and connects."""
    with tempfile.TemporaryDirectory(prefix="pg_semantic-") as folder:
        data = Path(folder) / "data"
        dsn = embedded.start(data, version=version)
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("CREATE EXTENSION vector")
                builder = Builder(connection, [])
                connection.add_notice_handler(lambda notice: builder.notices.append(notice.message_primary or ""))
                yield builder
        finally:
            embedded.stop(data)


def measure(builder: Builder, shape: HnswShape, measured: Measured) -> None:
    """Measures the index and the graph of one shape, and prints both with the forecasts."""
    version = builder.connection.info.server_version
    for processes in (1, 2):
        room = (_MEGABYTES - (_UNUSED if processes > 1 else 0)) * 2**20
        one = hnsw_size.graph_bytes(100_000, shape, parallel=processes > 1, server_version=version) / 100_000
        _, fitted = builder.build(shape, int(room / one * _MORE) + 20, megabytes=_MEGABYTES, processes=processes)
        if fitted is None:
            raise RuntimeError(f"{shape}: the graph fit into memory, which is not in line with any forecast.")
        measured.memory_error = max(measured.memory_error, abs(fitted * one / room - 1))
        print(f"{version // 10000} {shape} {processes} processes: {room / fitted:.1f} B in memory, forecast {one:.1f}")
        if processes == 1:
            size, _ = builder.build(shape, fitted, megabytes=64, processes=1)
            forecast = hnsw_size.index_bytes(fitted, shape)
            measured.disk_error = max(measured.disk_error, abs(size / forecast - 1))
            key = f"{shape.storage}({shape.dimensions}) m={shape.m}"
            measured.per_chunk[key] = (round(size / fitted, 1), round(room / fitted, 1))
            print(f"{version // 10000} {shape}: {size / fitted:.1f} B on disk, forecast {forecast / fitted:.1f}")


def main() -> None:
    """Prints the results, with JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, nargs="*", default=VERSIONS)
    parser.add_argument("--edges", type=int, nargs="*", default=EDGES)
    given = parser.parse_args()
    measured = Measured()
    for version in given.versions:
        with running(version) as builder:
            for storage in STORAGES:
                for dimensions in DIMENSIONS:
                    smallest = HnswShape(dimensions, storage, min(given.edges))
                    one = hnsw_size.graph_bytes(1_000, smallest) / 1_000
                    builder.fill(smallest, int(_MEGABYTES * 2**20 / one * _MORE) + 20)
                    for m in given.edges:
                        measure(builder, HnswShape(dimensions, storage, m), measured)
    result = {"memory_error": round(measured.memory_error, 4), "disk_error": round(measured.disk_error, 4)}
    print(json.dumps(result | {"disk_and_memory_per_chunk": measured.per_chunk}))
    sys.exit(0 if max(measured.memory_error, measured.disk_error) <= GOAL else 1)


if __name__ == "__main__":
    main()
