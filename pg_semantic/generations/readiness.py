"""Is a generation ready to be searched? The gate that a switch goes through."""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.database import transaction
from pg_semantic.operations import verify
from pg_semantic.operations.verify import CheckedPage, VerifyReport
from pg_semantic.registry import Generation
from pg_semantic.worker import late_indexes

_LATE_SECONDS = 60.0
_FEW = 100  # rows that may be in the making, or a hundredth of all if that is more


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far a generation is.

    ``current`` of ``rows`` are true to their text; a few that were edited in the last minute count as current, since
    there are always some: a hundred, or a hundredth of all. ``failed`` rows are parked. ``lacks`` names what is not
    built yet, of the vector index, the index on lexemes and the statistics of BM25. ``uncaptured`` are tables, the
    source or partitions of it, without working triggers.
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
        """Current rows as a share of all, 0 to 1; that of no rows is 1."""
        return self.current / self.rows if self.rows else 1.0

    def missing(self, least: float = 1.0) -> list[str]:
        """Why it is not ready to be switched to; ``least`` is the share of rows that has to be current."""
        found = [
            (not self.backfilled, "not all rows have been looked at yet"),
            (self.share < least, f"{self.share:.2%} of {self.rows} rows are current, not {least:.2%}"),
            (self.failed and least >= 1, f"{self.failed} rows failed (see `pg-semantic retry`)"),
            (self.faults and least >= 1, f"{self.faults} rows are not as they should be (see `pg-semantic verify`)"),
            (self.uncaptured, f"no working triggers on {', '.join(self.uncaptured)} (`pg-semantic repair`)"),
            (self.lacks, f"not built yet: {', '.join(self.lacks)}"),
        ]
        return [reason for holds, reason in found if holds]


def coverage(
    engine: sa.Engine, generation: Generation, *, on_page: Callable[[CheckedPage], None] = lambda _: None
) -> Coverage:
    """Compares every row with its vectors' provenance, as `verify` does, and looks at what is built; changes nothing.

    Reads all of the source's text inside the database, in pages.
    """
    with database.translated():
        report = verify.verify(engine, generation, keys_shown=0, on_page=on_page)
        with transaction.begin(engine) as connection:
            binds = {"generation": generation.id, "seconds": _LATE_SECONDS}
            late = min(report.waiting, connection.execute(sql.statement("registry", "late"), binds).scalar_one())
            lacks = tuple(_lacking(connection, generation))
    faults = report.missing + report.stale + report.damaged + report.wrong_encoder
    current = report.rows - faults - report.failed - _not_yet(report, late, backfilled=generation.backfilled)
    wrong = report.damaged + report.wrong_encoder + report.orphan
    uncaptured = tuple(report.uncaptured)
    return Coverage(report.rows, current, report.failed, wrong, generation.backfilled, lacks, uncaptured)


def _not_yet(report: VerifyReport, late: int, *, backfilled: bool) -> int:
    """Of the rows that wait for a worker, those that do not count as current."""
    if not backfilled:
        return report.waiting
    in_the_making = report.waiting - late
    return late + max(0, in_the_making - max(_FEW, report.rows // 100))


def _lacking(connection: sa.Connection, generation: Generation) -> list[str]:
    stored = generation.stored
    if not late_indexes.has_vectors(connection, stored):
        return []
    lacking = [str(index.name) for index in stored.late_indexes if late_indexes.state(connection, index) != "ready"]
    counted = connection.execute(sql.statement("lexicon", "state"), {"generation": generation.id}).one_or_none()
    if generation.spec.lexical is not None and counted is None:
        lacking.append("statistics of terms")
    return lacking
