"""Fills a semantic index: `fill` runs workers until its rows are synced, and builds what it then lacks."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa

from pg_semantic.fleet import index_state
from pg_semantic.fleet.index_state import IndexState
from pg_semantic.fleet.interrupts import Interrupts
from pg_semantic.fleet.watch import FillProgress, Patience, Watch
from pg_semantic.settings import Settings

_LOOK_SECONDS = 0.5


class Workers(Protocol):
    """Workers of one semantic index, on whatever machines.

    Attributes:
        engine: What places them, such as ``local``.
        count: How many there are.
    """

    engine: str
    count: int

    @property
    def failure(self) -> str | None:
        """How the last worker that ended did; None if none ended."""

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal stopped the workers."""

    def run(self, until: Callable[[], bool]) -> None:
        """Runs the workers, and replaces those that die.

        Ends when ``until``, which it calls about once a second, returns True, or at SIGTERM or SIGINT, once the workers
        have finished the work in progress.
        """


@dataclass(frozen=True, slots=True)
class FillTask:
    """What to do.

    Attributes:
        index: The name of the index, with or without its schema.
        builds: Whether to build what the index lacks once its rows are synced.
        patience_seconds: How long to wait while no row is synced, and a problem is on record or no worker is alive.
    """

    index: str
    builds: bool = True
    patience_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Filled:
    """A semantic index that was filled, or was being filled when a signal ended the command.

    Attributes:
        index: Its name with its schema.
        engine: What placed the workers.
        workers: How many there were; 0 if no row waited.
        seconds: How long it took.
        synced: Rows that are synced now, in all generations; for large tables, by the planner's estimate.
        waiting: Rows that wait now, such as edits of the last moments; None if that is unknown.
        failed: Rows that were given up after errors.
        vector_index: The state of the vector index of the live generation.
        interrupted: Whether a signal ended it before all was done.
    """

    index: str
    engine: str
    workers: int
    seconds: float
    synced: int
    waiting: int | None
    failed: int
    vector_index: str
    interrupted: bool


def fill(
    engine: sa.Engine,
    settings: Settings,
    task: FillTask,
    *,
    workers: Callable[[int | None], Workers],
    on_progress: Callable[[FillProgress], None] = lambda _: None,
) -> Filled:
    """Syncs all rows of a semantic index, in all its generations, and builds its vector indexes and statistics.

    Any number of these may run at once, and other workers too. Call it on the main thread, which receives signals.

    Args:
        engine: Connects to the database.
        settings: What an operator can change; for builds.
        task: What to do.
        workers: Returns the workers; called with the number of waiting rows (None if unknown) if any wait.
        on_progress: Called about once a second.

    Raises:
        errors.IndexNotFound: No index has the name, or it was dropped meanwhile.
        errors.GenerationError: No row was synced for ``task.patience_seconds``; the message has the reason.
        errors.DatabaseError: An index could not be built.
    """
    started = time.monotonic()
    crew: Workers | None = None
    patience = Patience(task.patience_seconds, lambda: crew.failure if crew else None)
    watch = Watch(engine, settings, task.index, patience=patience, on_progress=on_progress)
    with contextlib.closing(watch):
        if not watch.is_synced():
            crew = workers(watch.progress.total)
            crew.run(watch.is_synced)
        interrupted = (crew is not None and crew.was_interrupted) or (task.builds and not _built(watch))
    if watch.error is not None:
        raise watch.error
    seconds = round(time.monotonic() - started, 1)
    found = index_state.read(engine, task.index)
    return _filled(found, crew, seconds=seconds, interrupted=interrupted)


def _filled(found: IndexState, crew: Workers | None, *, seconds: float, interrupted: bool) -> Filled:
    return Filled(
        index=found.generations[0].qualified_name,
        engine=crew.engine if crew else "none",
        workers=crew.count if crew else 0,
        seconds=seconds,
        synced=found.synced,
        waiting=found.waiting,
        failed=found.failed,
        vector_index=found.statuses[0].vector_index,
        interrupted=interrupted,
    )


def _built(watch: Watch) -> bool:
    """Waits for builds. Returns False if a signal arrives first."""
    interrupts = Interrupts()
    while not watch.is_built():
        if interrupts.wait(_LOOK_SECONDS):
            return False
    return True
