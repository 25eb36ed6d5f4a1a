"""What came past capture: a worker looks at the catalogues every few seconds and has the tables compared that need it.

Rows can change without their triggers: they are disabled for a load, a partition is attached with its rows, a column is
rewritten. None of this is seen in a row; all of it is seen in the catalogues, where `semantic.captured` says how they
were. Then `backfill` compares the whole table, page by page, beside the edits. What a worker can put back by itself, as
triggers that are missing and foreign keys that went with a partition, it puts back first.
"""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, ddl, errors, sql
from pg_semantic.registry import Generation
from pg_semantic.sync import transaction

log = logging.getLogger("pg_semantic.worker")

_LOOK_SECONDS = 3.0
_QUERY_CANCELED = "57014"


class Detection:
    """Looks at the catalogues now and then; for one thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._look_at = 0.0
        self._said: dict[int, str | None] = {}

    def look(self, generations: Sequence[Generation], *, at_once: bool = False) -> None:
        """Looks, when it is time to or at once, at the indexes of these generations, and does what is to be done.

        Raises `errors.DatabaseError` when a subscription writes to tables of ours.
        """
        if not at_once and time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        live = {one.index_id: one for one in generations if one.role == "live" and not one.gone}
        for row in self._found():
            if generation := live.get(row.index_id):
                self._say(generation, row.trouble)
                self._isolated(generation, functools.partial(self._attend, generation, row))

    def _found(self) -> list[sa.Row[Any]]:
        """What the catalogues say; nothing for now if the server had no time to say."""
        try:
            with transaction.begin(self._engine) as connection:
                require_no_subscription(connection)
                return list(connection.execute(sql.statement("registry", "detect")))
        except exc.DBAPIError as error:
            if database.sqlstate(error) != _QUERY_CANCELED and not transaction.is_busy(error):
                raise
            return []

    def _attend(self, generation: Generation, row: sa.Row[Any]) -> None:
        if row.missing and generation.apart is None:
            self._run(*ddl.hang(generation.spec, functions=row.functions))
            self._log(generation, "capture_hung", f"triggers are put back: {row.trouble}")
        elif row.changes is not None:
            self._run(sql.statement("registry", "record_capture").bindparams(index=generation.index_id))
            self._log(generation, "reconcile_begun", f"all rows are compared: {row.changes}")
        if row.foreign_keys:
            self._run(sql.statement("registry", "restore_foreign_keys").bindparams(index=generation.index_id))
            self._log(generation, "foreign_keys_restored", "foreign keys were dropped and are put back")
        if row.doubtful:
            self._run(sql.statement("registry", "validate_foreign_keys").bindparams(index=generation.index_id))

    def _run(self, *steps: sa.Executable) -> None:
        with transaction.begin(self._engine) as connection:
            connection.execute(transaction.WAIT_FOR_NO_LOCK)
            for step in steps:
                connection.execute(step)

    def _isolated(self, generation: Generation, step: Callable[[], None]) -> None:
        """Takes a step; what the database refuses is logged, and tried again at the next look."""
        try:
            step()
        except exc.DBAPIError as error:
            if database.is_connection_lost(error):
                raise
            if not transaction.is_busy(error):
                self._log(generation, "reconcile_refused", str(database.translate(error)))

    def _say(self, generation: Generation, trouble: str | None) -> None:
        """Logs what keeps rows from being captured, once."""
        if trouble is not None and trouble != self._said.get(generation.index_id):
            self._log(generation, "uncaptured", trouble)
        self._said[generation.index_id] = trouble

    def _log(self, generation: Generation, event: str, said: str) -> None:
        fields = {"event": event, "index": generation.qualified_name}
        log.warning("%s: %s", generation.qualified_name, said, extra=fields)


def settle(connection: sa.Connection) -> None:
    """Makes sure that the jobs belong to this cluster, before a worker takes any.

    In a database that was restored or upgraded here from another cluster, all rows are compared again. Raises
    `errors.DatabaseError` when a subscription writes to tables of ours.
    """
    require_no_subscription(connection)
    if connection.scalar(sql.statement("registry", "settle")):
        log.warning(
            "the database came from another cluster: all rows are compared again", extra={"event": "cluster_changed"}
        )


def require_no_subscription(connection: sa.Connection) -> None:
    """Raises `errors.DatabaseError` when a subscription writes to tables of ours: workers elsewhere make these rows."""
    for row in connection.execute(sql.statement("registry", "subscriptions")):
        raise errors.DatabaseError(
            f"Subscription {row.subscription!r} writes to tables of semantic indexes ({row.relations}): their marks, "
            "jobs and vectors come from another cluster. Run workers there, or, to go on here, drop the subscription, "
            "or ALTER PUBLICATION on the other side so that it leaves these tables out, then ALTER SUBSCRIPTION "
            f"{row.subscription} REFRESH PUBLICATION."
        )
