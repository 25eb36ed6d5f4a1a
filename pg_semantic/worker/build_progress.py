"""How far the build of a vector index is, as the server reports it, and a log of that for builds that take minutes."""

import contextlib
import logging
import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, sql
from pg_semantic.database import transaction
from pg_semantic.index.chunk_tables import Tables

log = logging.getLogger("pg_semantic.worker")

_LOG_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        pid: The server process that builds.
        phase: What the server does now, in its words, such as ``building index: loading tuples``.
        chunks: How many chunks are in the graph.
        share: The share of the chunk table that the present phase has read, 0 to 1; None in phases without a measure.
            If the table has partitions, chunks and share are those of the present one.
        partition: Which partition is being built, from 1; None if the table has none.
        partitions: How many there are.
    """

    pid: int
    phase: str
    chunks: int
    share: float | None
    partition: int | None = None
    partitions: int = 0


def read(connection: sa.Connection, tables: Tables) -> BuildProgress | None:
    """Returns how far the build of an index of the chunk table is; None if none is being built.

    The server tells other roles that a build is running, but only its own role, and members of ``pg_read_all_stats``,
    how far it is.
    """
    chunks = database.qualified_name(tables.chunks.schema, tables.chunks.name)
    row = connection.execute(sql.statement("vector_index", "progress"), {"chunks": chunks}).first()
    if row is None or row.phase is None:
        return None
    share = row.blocks_done / row.blocks_total if row.blocks_total else None
    return BuildProgress(row.pid, row.phase, row.tuples_done or 0, share, row.partition, row.partitions)


class ProgressLog:
    """Logs once a minute how far a build is, for as long as it is called.

    Args:
        engine: The worker's engine.
        tables: The tables whose index is built.
        title: What to call the semantic index.
        every_seconds: How long to wait between two lines, and before the first one.
    """

    def __init__(self, engine: sa.Engine, tables: Tables, title: str, *, every_seconds: float = _LOG_SECONDS) -> None:
        self._engine = engine
        self._tables = tables
        self._title = title
        self._every_seconds = every_seconds
        self._next = time.monotonic() + every_seconds

    def __call__(self) -> None:
        """Logs the progress if it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every_seconds
        with contextlib.suppress(exc.DBAPIError), transaction.begin(self._engine) as connection:
            found = read(connection, self._tables)
            if found is not None:
                self._log(found)

    def _log(self, found: BuildProgress) -> None:
        done = "" if found.share is None else f", {found.share:.0%}"
        part = "" if found.partition is None else f"partition {found.partition} of {found.partitions}, "
        fields = {"event": "index_progress", "index": self._title, "phase": found.phase, "chunks": found.chunks}
        log.info("%s: %s%s%s, %d chunks", self._title, part, found.phase, done, found.chunks, extra=fields)
