"""Checks whether a generation is ready to be searched, before a switch."""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from pg_semantic import database, jobqueue, registry, sql
from pg_semantic.database import transaction
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.operations import verify
from pg_semantic.operations.verify import CheckedPage, VerifyReport
from pg_semantic.registry import Generation
from pg_semantic.worker import create_index_concurrently

_LATE_SECONDS = 60.0
_FEW = 100  # how many rows may be waiting; 1% of all rows if that is more


@dataclass(frozen=True, slots=True)
class Coverage:
    """How complete a generation is.

    Attributes:
        rows: Rows of the source.
        current: How many of them have vectors that match their text. Rows edited in the last minute count too, up to
            100, or 1% of all rows if that is more, because a busy table always has some.
        failed: Parked rows.
        faults: Damaged rows, rows with vectors of another encoder, and orphans.
        backfilled: Whether all rows have been looked at.
        lacks: What is not built yet: the vector index, the lexical index, the BM25 statistics.
        uncaptured: The tables, the source or its partitions, without working triggers.
    """

    rows: int
    current: int
    failed: int
    faults: int
    backfilled: bool
    lacks: tuple[str, ...]
    uncaptured: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of rows that are current, 0 to 1. It is 1 if there are no rows."""
        return self.current / self.rows if self.rows else 1.0

    def missing(self, least: float = 1.0) -> list[str]:
        """Returns why the generation is not ready for a switch; nothing if it is.

        Args:
            least: The share of rows that must be current, 0 to 1. Below 1, failed and faulty rows are accepted.
        """
        found = [
            (not self.backfilled, "the backfill is not complete"),
            (self.share < least, f"{self.share:.2%} of {self.rows} rows are current, not {least:.2%}"),
            (
                self.failed and least >= 1,
                f"failed rows: {self.failed} (see `pg-semantic status`, then `pg-semantic retry`)",
            ),
            (
                self.faults and least >= 1,
                f"rows with damaged, wrong or orphaned vectors: {self.faults} (`pg-semantic repair`)",
            ),
            (self.uncaptured, f"no working triggers on {', '.join(self.uncaptured)} (`pg-semantic repair`)"),
            (self.lacks, f"not built yet: {', '.join(self.lacks)}"),
        ]
        return [reason for holds, reason in found if holds]


def coverage(
    engine: sa.Engine, generation: Generation, *, on_page: Callable[[CheckedPage], None] = lambda _: None
) -> Coverage:
    """Compares every row with its vectors, as `verify` does, and checks which indexes are built. Changes nothing.

    Reads all text of the source inside the database, in pages. Lexemes are compared with those of the live generation,
    and only computed again where they differ: a switch must not make them worse.
    """
    with database.translated():
        report = verify.verify(
            engine, generation, keys_shown=0, sister=_with_the_same_lexemes(engine, generation), on_page=on_page
        )
        with transaction.begin(engine) as connection:
            binds = {"generation": generation.id, "seconds": _LATE_SECONDS}
            late = min(report.waiting, connection.execute(sql.statement("registry", "late"), binds).scalar_one())
            lacks = tuple(_lacking(connection, generation))
    faults = report.missing + report.stale + report.damaged + report.wrong_encoder
    current = report.rows - faults - report.failed - _not_yet(report, late, backfilled=generation.backfilled)
    wrong = report.damaged + report.wrong_encoder + report.orphan + report.prefixes
    uncaptured = tuple(report.uncaptured)
    return Coverage(report.rows, current, report.failed, wrong, generation.backfilled, lacks, uncaptured)


def unfinished(engine: sa.Engine, generation: Generation) -> list[str]:
    """Returns what a worker has still to do before searches of a generation say anything; nothing if it is filled.

    Takes milliseconds whatever the size of the table, because it doesn't compare rows as `coverage` does.
    """
    with database.translated(), transaction.begin(engine) as connection:
        waiting = jobqueue.waiting(connection, generation.id, limit=_FEW + 1)
        lacks = _lacking(connection, generation)
    found = [
        (not generation.backfilled, "the backfill is not complete"),
        (waiting > _FEW, f"more than {_FEW} rows are waiting"),
        (lacks, f"not built yet: {', '.join(lacks)}"),
    ]
    return [reason for holds, reason in found if holds]


def _with_the_same_lexemes(engine: sa.Engine, generation: Generation) -> Tables | None:
    """Returns the tables of the live generation, unless its rows have other texts or lexemes."""
    with transaction.begin(engine) as connection:
        live = registry.of_role(connection, generation.qualified_name, "live")
    configs = [one.spec.lexical and one.spec.lexical.config for one in (live, generation)]
    is_same = configs[0] is not None and configs[0] == configs[1] and live.spec.columns == generation.spec.columns
    return live.tables if is_same and live.id != generation.id and not live.gone else None


def _not_yet(report: VerifyReport, late: int, *, backfilled: bool) -> int:
    """Returns how many of the waiting rows do not count as current."""
    if not backfilled:
        return report.waiting
    in_the_making = report.waiting - late
    return late + max(0, in_the_making - max(_FEW, report.rows // 100))


def _lacking(connection: sa.Connection, generation: Generation) -> list[str]:
    stored = generation.stored
    if not create_index_concurrently.has_vectors(connection, stored):
        return []
    lacking = [
        str(index.name)
        for index in stored.late_indexes
        if create_index_concurrently.state(connection, index) != "ready"
    ]
    counted = connection.execute(sql.statement("term_statistics", "state"), {"generation": generation.id}).one_or_none()
    if generation.spec.lexical is not None and counted is None:
        lacking.append("BM25 statistics")
    return lacking
