"""Finds changes that bypassed capture: checks the catalogs every few seconds, and reconciles affected tables.

Rows can change without firing triggers: the triggers are disabled for a load, a partition is attached with its rows, or
a column is rewritten. The rows don't show this, but the catalogs do, and `semantic.captured` records their last known
state. `backfill` then compares the whole table, page by page, alongside the edits. Before that, the worker restores
what it can: missing triggers, and foreign keys that were dropped with a partition.
"""

import functools
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, sql
from pg_semantic.database import transaction
from pg_semantic.index import ddl
from pg_semantic.registry import Generation
from pg_semantic.worker import problems
from pg_semantic.worker.foreign_keys import ForeignKeyValidator

log = logging.getLogger("pg_semantic.worker")

_LOOK_SECONDS = 3.0
_REST_FACTOR = 10  # times as long as it took to read the catalogs, which is long with many indexes
_AGAIN_SECONDS = 5.0  # after a step is first refused; doubles each time
_LONGEST_WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class _Found:
    """What the catalogs say about an index, and which steps are due."""

    generation: Generation
    row: sa.Row[Any]
    attend: bool
    validate: bool


class CatalogWatcher:
    """Checks the catalogs at intervals. Not thread-safe."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._look_at = 0.0
        self._looked_at: set[int] = set()
        self._said: dict[int, str | None] = {}
        self._refused: dict[int, errors.DatabaseError] = {}
        self._validator = ForeignKeyValidator(engine)

    def look(self, generations: Sequence[Generation], *, at_once: bool = False) -> None:
        """Checks the catalogs for problems with these generations, and takes the steps that are due.

        Does nothing if the last check was a few seconds ago.

        Args:
            generations: All generations in the registry.
            at_once: Whether to check now, and to retry steps that failed on other workers without waiting.

        Raises:
            errors.DatabaseError: A subscription writes to our tables.
        """
        if not at_once and time.monotonic() < self._look_at:
            return
        self._looked_at = {generation.id for generation in generations}
        began = time.monotonic()
        all_found = self._found(generations, at_once=at_once)
        ended = time.monotonic()
        self._look_at = ended + max(_LOOK_SECONDS, _REST_FACTOR * (ended - began))
        for found in all_found:
            self._say(found.generation, found.row.problem)
            if found.attend:
                self._isolated(found.generation, functools.partial(self._attend, found.generation, found.row))
        self._validator.start([found.generation for found in all_found if found.validate])

    @property
    def is_validating(self) -> bool:
        """Whether foreign keys are being validated on another thread."""
        return self._validator.is_busy

    @property
    def refused(self) -> list[errors.DatabaseError]:
        """The repairs that the database refused when last tried, for the indexes in the last check."""
        all_refused = [*self._refused.items(), *self._validator.refused.items()]
        return [error for number, error in all_refused if number in self._looked_at]

    def close(self) -> None:
        """Stops validating foreign keys on the other thread."""
        self._validator.close()

    def _found(self, generations: Sequence[Generation], *, at_once: bool) -> list[_Found]:
        """Reads the catalogs and forgets problems that are over. Returns nothing if the server is too busy."""
        live = {one.index_id: one for one in generations if one.role == "live" and not one.gone}
        try:
            with transaction.begin(self._engine) as connection:
                require_no_subscription(connection)
                rows = connection.execute(sql.statement("registry", "detect")).all()
                known = [(live[row.index_id], row) for row in rows if row.index_id in live]
                fine = {row.index_id for row in rows if not _needs_attention(row)}
                sound = {row.index_id for row in rows if not row.doubtful}
                problems.forget(connection, [one.id for one in generations if one.index_id in fine], "capture")
                problems.forget(connection, [one.id for one in generations if one.index_id in sound], "foreign_key")
                return [self._due(connection, *one, at_once=at_once) for one in known]
        except exc.DBAPIError as error:
            if not database.is_busy_or_slow(error):
                raise
            return []

    def _due(self, connection: sa.Connection, generation: Generation, row: sa.Row[Any], *, at_once: bool) -> _Found:
        """Decides which steps are due. ``at_once`` overrides the wait after failures on other workers."""

        def may(kind: problems.Kind, failed: Collection[int]) -> bool:
            anew = at_once and generation.id not in failed
            return anew or not problems.put_off(connection, generation.id, kind)

        return _Found(
            generation,
            row,
            attend=_needs_attention(row) and may("capture", self._refused),
            validate=row.doubtful and may("foreign_key", self._validator.failed),
        )

    def _attend(self, generation: Generation, row: sa.Row[Any]) -> None:
        """Takes every step that is due, even after one was refused; raises that error at the end."""
        steps = (
            (row.missing and generation.apart is None, functools.partial(self._create_triggers, generation, row)),
            (row.changes is not None, functools.partial(self._record, generation)),
            (row.foreign_keys, functools.partial(self._restore_foreign_keys, generation)),
        )
        refused: exc.DBAPIError | None = None
        for step in (step for is_due, step in steps if is_due):
            try:
                step()
            except exc.DBAPIError as error:
                if database.is_connection_lost(error) or transaction.is_busy(error):
                    raise
                refused = error
        if refused is not None:
            raise refused

    def _create_triggers(self, generation: Generation, row: sa.Row[Any]) -> None:
        self._run(*ddl.create_triggers(generation.spec, functions=row.functions))
        said = (row.problem or row.changes or "they were out of date").removesuffix(": pg-semantic repair")
        self._log(generation, "triggers_reinstalled", f"triggers reinstalled: {said}")

    def _record(self, generation: Generation) -> None:
        """Records the state of the catalogs, unless reinstalling the triggers already did."""
        changes = self._run(sql.statement("registry", "record_capture").bindparams(index=generation.index_id))
        if changes is not None:
            self._log(generation, "reconcile_begun", f"comparing all rows: {changes}")

    def _restore_foreign_keys(self, generation: Generation) -> None:
        if self._run(sql.statement("registry", "restore_foreign_keys").bindparams(index=generation.index_id)):
            self._log(generation, "foreign_keys_restored", "restored foreign keys that had been dropped")

    def _run(self, *steps: sa.Executable) -> Any:  # noqa: ANN401 - the result of the last step
        with transaction.begin(self._engine) as connection:
            connection.execute(transaction.WAIT_FOR_NO_LOCK)
            results = [connection.execute(step) for step in steps]
            return results[-1].scalar() if results[-1].returns_rows else None

    def _isolated(self, generation: Generation, step: Callable[[], None]) -> None:
        """Takes a step. If the database refuses it, logs why and tries again at growing intervals."""
        try:
            step()
        except exc.DBAPIError as error:
            if database.is_connection_lost(error):
                raise
            if not transaction.is_busy(error):
                said = str(database.translate(error))
                self._refused[generation.id] = errors.DatabaseError(f"{generation.qualified_name}: {said}")
                self._log(generation, "reconcile_refused", said)
                problems.note(
                    self._engine,
                    generation.id,
                    "capture",
                    reason=said,
                    first_seconds=_AGAIN_SECONDS,
                    most_seconds=_LONGEST_WAIT_SECONDS,
                )
        else:
            self._refused.pop(generation.id, None)

    def _say(self, generation: Generation, said: str | None) -> None:
        """Logs what keeps rows from being captured, once."""
        if said is not None and said != self._said.get(generation.index_id):
            self._log(generation, "uncaptured", said)
        self._said[generation.index_id] = said

    def _log(self, generation: Generation, event: str, said: str) -> None:
        fields = {"event": event, "index": generation.qualified_name}
        log.warning("%s: %s", generation.qualified_name, said, extra=fields)


def _needs_attention(row: sa.Row[Any]) -> bool:
    return bool(row.missing or row.foreign_keys or row.changes is not None)


def settle(connection: sa.Connection) -> None:
    """Makes sure that the jobs belong to this cluster, before a worker claims any.

    If the database was restored or upgraded here from another cluster, all rows are compared again.

    Raises:
        errors.DatabaseError: A subscription writes to our tables.
    """
    require_no_subscription(connection)
    if connection.scalar(sql.statement("registry", "settle")):
        log.warning(
            "the database came from another cluster: comparing all rows again", extra={"event": "cluster_changed"}
        )


def require_no_subscription(connection: sa.Connection) -> None:
    """Raises an error if a subscription writes to our tables, because workers elsewhere then maintain them.

    Raises:
        errors.DatabaseError: A subscription writes to our tables.
    """
    for row in connection.execute(sql.statement("registry", "subscriptions")):
        raise errors.DatabaseError(
            f"Subscription {row.subscription!r} writes to tables of semantic indexes ({row.relations}): their marks, "
            "jobs and vectors come from another cluster. Run workers there. To run them here, drop the subscription or "
            "remove these tables from the publication (ALTER PUBLICATION on the publisher) and then run ALTER "
            f"SUBSCRIPTION {row.subscription} REFRESH PUBLICATION here."
        )
