"""A worker as Ray calls it: `RayActor`. This module does not need Ray."""

import contextlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import pydantic

from pg_semantic import database, errors, settings
from pg_semantic.settings import Settings
from pg_semantic.worker import garbage_collection
from pg_semantic.worker.assignment import Assignment
from pg_semantic.worker.worker import Worker

_OF_A_MACHINE = frozenset({"dsn", "device", "cache_folder", "encoder_paths", "log_format"})


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker on another machine works on.

    Attributes:
        dsn: The database. Never in a repr, so in no log.
        index: The name of the index, with its schema.
        settings: Settings that take precedence over those of the machine.
    """

    dsn: pydantic.SecretStr
    index: str
    settings: Mapping[str, object] = field(repr=False)


def settings_for_others(given: Settings) -> dict[str, object]:
    """Returns the settings that were given to this process, without those that belong to its machine."""
    return {name: getattr(given, name) for name in given.model_fields_set - _OF_A_MACHINE}


class RayActor:
    """A worker in a process that Ray starts, and starts again elsewhere if it dies.

    Several threads call it: one works, and others make it stop. A process that was started again has forgotten both,
    so Ray repeats `run`, and the caller repeats `stop`.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._worker: Worker | None = None

    def is_ready(self) -> bool:
        """Answers once the actor has a place."""
        return self._worker is None

    def run(self, order: Order) -> str:
        """Works until `stop` is called. Returns how it ended."""
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(message)s")
        logging.getLogger("pg_semantic").setLevel(logging.INFO)
        garbage_collection.collect_rarely()
        try:
            engine = database.connect(order.dsn.get_secret_value())
            try:
                assigned = Assignment(order.index, rows_only=True)
                self._worker = Worker(engine, settings.load(**order.settings), assigned=assigned)
                done = self._worker.run(self._stop)
            finally:
                engine.dispose()
        except errors.PgSemanticError as error:
            return str(error)
        return f"stopped after {done.rows} rows."

    def stop(self) -> None:
        """Makes `run` finish the work in progress and return."""
        self._stop.set()

    def abandon(self) -> None:
        """Gives back all rows in progress, because the process is about to be killed."""
        self._stop.set()
        if self._worker is not None:
            with contextlib.suppress(errors.DatabaseError):
                self._worker.abandon()
