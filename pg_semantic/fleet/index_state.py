"""How far a semantic index is filled, in all its generations, as our own tables say."""

from dataclasses import dataclass

import sqlalchemy as sa

from pg_semantic import jobqueue, registry, sql
from pg_semantic.database import transaction
from pg_semantic.operations import status
from pg_semantic.operations.status import IndexStatus
from pg_semantic.registry import Generation

_PATIENCE_SECONDS = 300.0  # after the backfill, for a moment without waiting edits, which may never stop coming


@dataclass(frozen=True, slots=True)
class IndexState:
    """How far a semantic index is filled.

    Attributes:
        generations: Its generations, the live one first.
        statuses: The status of each.
        is_synced: Whether every row is synced or failed for good. If edits keep coming, whether those rows are that the
            index lacked, from five minutes after the last one on.
        workers: How many workers of this database are alive, whatever they serve.
        paused: Why workers pause backfill.
    """

    generations: tuple[Generation, ...]
    statuses: tuple[IndexStatus, ...]
    is_synced: bool
    workers: int
    paused: tuple[str, ...]

    @property
    def waiting(self) -> int | None:
        """How many rows of all generations aren't synced yet; None while that is unknown."""
        if any(one.waiting is None or one.backfill_left is None for one in self.statuses):
            return None
        return sum(one.waiting or 0 for one in self.statuses)

    @property
    def synced(self) -> int:
        """How many rows have receipts, in all generations; for large tables, by the planner's estimate."""
        return sum(one.synced or 0 for one in self.statuses)

    @property
    def failed(self) -> int:
        """How many rows were given up after errors."""
        return sum(one.failed or 0 for one in self.statuses)

    @property
    def looked_at(self) -> int:
        """How many rows first backfills that are in progress have looked at."""
        return sum(one.backfill_rows or 0 for one in self.statuses)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the index isn't kept in sync, if a worker noticed it just now: it tries again every half a minute."""
        known = [problem for one in self.statuses for problem in one.problems if problem.kind == "sync"]
        return tuple(problem.reason for problem in known if problem.next_seconds > 0)


def read(engine: sa.Engine, name: str) -> IndexState:
    """Returns how far a semantic index is filled.

    Args:
        engine: Connects to the database.
        name: The name of the index, with or without its schema.

    Raises:
        errors.IndexNotFound: No index has the name, or several do.
    """
    with transaction.begin(engine) as connection:
        known = registry.copies(connection, name)
        found = status.read(connection)
        numbers = {one.id for one in known}
        return IndexState(
            generations=tuple(known),
            statuses=tuple(one for one in found.indexes if one.generation_id in numbers),
            is_synced=all(one.backfilled and not _waits(connection, one.id) for one in known),
            workers=found.workers,
            paused=tuple(found.paused),
        )


def _waits(connection: sa.Connection, generation_id: int) -> bool:
    """Whether a row of a generation waits; minutes after the backfill, whether one does that isn't an edit."""
    if not jobqueue.waiting(connection, generation_id, limit=1):
        return False
    long_backfilled = connection.scalar(sql.statement("registry", "backfilled_seconds"), {"id": generation_id})
    if (long_backfilled or 0) <= _PATIENCE_SECONDS:
        return True
    return jobqueue.waiting(connection, generation_id, limit=1, priority=jobqueue.BACKFILL) > 0
