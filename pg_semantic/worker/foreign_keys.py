"""Validates foreign keys alongside the sync, one at a time, because each validation reads a whole table.

A second thread watches, and cancels the validation when an application waits for one of the tables, for example to run
TRUNCATE or ALTER TABLE. The validation starts again later.
"""

import contextlib
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, sql
from pg_semantic.database import transaction
from pg_semantic.registry import Generation
from pg_semantic.worker import problems

log = logging.getLogger("pg_semantic.worker")

_WATCH_SECONDS = 0.2
_AGAIN_SECONDS = 5.0  # after the first failure; doubles each time
_LONGEST_WAIT_SECONDS = 3600.0
_LONGEST_WAIT_BEHIND_OTHERS_SECONDS = 60.0


class ForeignKeyValidator:
    """Validates the foreign keys of semantic indexes, one at a time, on a thread of its own.

    Attributes:
        failed: The generations whose last validation failed.
        refused: The errors of those that won't resolve by themselves, by generation.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._threads: ThreadPoolExecutor | None = None
        self._validating: Future[None] | None = None
        self._at: tuple[int | None, int | None] = (None, None)  # the server process and table being validated
        self._closing = False
        self.failed: set[int] = set()
        self.refused: dict[int, errors.DatabaseError] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a validation is running."""
        return self._validating is not None and not self._validating.done()

    def start(self, generations: Sequence[Generation]) -> None:
        """Starts to validate the foreign keys of these generations' indexes, unless a validation is running.

        Raises:
            sqlalchemy.exc.DBAPIError: The previous validation lost the connection to the database.
        """
        if self.is_busy or not generations:
            return
        if self._validating is not None:
            ended, self._validating = self._validating, None
            ended.result()  # raises if the connection was lost
        self._closing = False
        self._threads = self._threads or ThreadPoolExecutor(2)
        self._validating = self._threads.submit(self._validate, generations)
        self._threads.submit(self._watch, self._validating)

    def close(self) -> None:
        """Cancels the running validation; a worker starts it again."""
        self._closing = True
        if self._threads is not None:
            self._threads.shutdown()
        self._threads = self._validating = None

    def _validate(self, generations: Sequence[Generation]) -> None:
        """Validates one index after the other; a problem with one doesn't affect the others."""
        for generation in generations:
            self._validate_index(generation)

    def _validate_index(self, generation: Generation) -> None:
        binds = {"index": generation.index_id}
        try:
            with transaction.begin(self._engine) as connection:
                doubtful = connection.scalars(sql.statement("registry", "doubtful"), binds).all()
            for relation in doubtful:
                self._validate_one(generation, relation)
        except exc.DBAPIError as error:
            self._refused(generation, error)
        else:
            self.failed.discard(generation.id)
            self.refused.pop(generation.id, None)

    def _validate_one(self, generation: Generation, relation: int) -> None:
        if self._closing:
            return
        binds = {"index": generation.index_id, "relation": relation}
        with transaction.begin(self._engine, statement_timeout="0") as connection:
            self._at = (connection.scalar(sa.select(sa.func.pg_backend_pid())), relation)
            connection.execute(sql.statement("registry", "validate_foreign_key"), binds)

    def _refused(self, generation: Generation, error: exc.DBAPIError) -> None:
        if database.is_connection_lost(error):
            raise error
        if self._closing or transaction.is_busy(error):
            return
        self.failed.add(generation.id)
        has_orphans = database.fault(error) == "key"
        if has_orphans:  # the comparison deletes them
            self._compare(generation)
        gave_way = database.is_canceled(error)
        why = "another session is waiting for one of its tables" if gave_way else str(database.translate(error))
        said = f"its foreign keys could not be validated: {why}"
        seconds = problems.note(
            self._engine,
            generation.id,
            "foreign_key",
            reason=said,
            first_seconds=_AGAIN_SECONDS,
            most_seconds=_LONGEST_WAIT_BEHIND_OTHERS_SECONDS if gave_way else _LONGEST_WAIT_SECONDS,
        )
        name = generation.qualified_name
        if not (gave_way or has_orphans):
            self.refused[generation.id] = errors.DatabaseError(f"{name}: {said}")
        fields = {"event": "validation_failed", "index": name, "retry_seconds": round(seconds)}
        log.warning("%s: %s. Retrying in %.0f s.", name, said, seconds, extra=fields)

    def _compare(self, generation: Generation) -> None:
        binds = {"index": generation.index_id, "reason": "its foreign keys could not be validated"}
        with transaction.unless_busy(), transaction.begin(self._engine) as connection:
            connection.execute(sql.statement("registry", "compare"), binds)

    def _watch(self, validating: Future[None]) -> None:
        while not wait([validating], _WATCH_SECONDS).done:
            process, relation = self._at
            binds = {"pid": process, "relation": relation, "closing": self._closing}
            with contextlib.suppress(exc.DBAPIError), transaction.begin(self._engine) as connection:
                connection.execute(sql.statement("registry", "end_validation"), binds)
