"""Adapts a semantic index to an altered key: its tables get the types and collations of the source's key.

Vectors stay as they are. A worker adapts small tables by itself. For larger ones the operator chooses when, because
searches wait while the tables are rewritten.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, registry, sql
from pg_semantic.database import transaction
from pg_semantic.index import ddl, supported_tables
from pg_semantic.index.key_range import KeyRange
from pg_semantic.registry import Generation
from pg_semantic.worker import policy_column, problems

log = logging.getLogger("pg_semantic.worker")

P = ParamSpec("P")
R = TypeVar("R")

_PATIENCE = "2h"
_LOCK = 723628197  # an arbitrary number, the same as in ``add_foreign_keys_v1``
_LAST = sa.select(sa.func.set_config("idle_in_transaction_session_timeout", "0", True))  # noqa: FBT003 - local
_LONGEST_BEHIND_OTHERS_SECONDS = 60.0  # between attempts, while the tables are in use
_LONGEST_SECONDS = 3600.0  # between attempts, after the server refused
_SMALL_BYTES = 32_000_000  # tables that can be rewritten, with their indexes, in a second or two


@dataclasses.dataclass(frozen=True, slots=True)
class AlteredKey:
    """How the key of a generation's tables differs from the key of its source.

    Attributes:
        generation_id: The generation.
        said: The differences, in words.
        small: Whether the tables can be rewritten in a moment.
        dependents: The user's objects that keep the server from altering the key, in words; None if there are none.
        castable: Whether the server can cast the old key to the new one.
    """

    generation_id: int
    said: str
    small: bool
    dependents: str | None
    castable: bool


def altered_keys(connection: sa.Connection) -> list[AlteredKey]:
    """Returns the generations whose key columns have another type or collation than those of their source."""
    found = connection.execute(sql.statement("registry", "altered_keys"), {"small": _SMALL_BYTES})
    return [AlteredKey(*row) for row in found]


def _alone(refreshing: Callable[P, R]) -> Callable[P, R]:
    """Holds the lock of an index while it is refreshed; others take it before they restore foreign keys.

    The lock belongs to a transaction, so it also works behind a transaction pooler. The transaction may last for hours,
    but holds nothing that vacuum would wait for.
    """

    @functools.wraps(refreshing)
    def alone(*args: P.args, **named: P.kwargs) -> R:
        engine, generation = cast("tuple[sa.Engine, Generation]", args[:2])
        with transaction.begin(engine) as connection:
            connection.execute(_LAST)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK, generation.index_id)))
            return refreshing(*args, **named)

    return alone


@_alone
def refresh(engine: sa.Engine, generation: Generation, *, patient: bool = True) -> bool:
    """Gives all generations of a semantic index the key types and collations of their source.

    Args:
        engine: An engine whose role owns the tables.
        generation: The live generation of the index.
        patient: Whether to wait for tables that are in use, and to take as long as large tables need.

    Returns:
        Whether anything was different.

    Raises:
        sqlalchemy.exc.DBAPIError: The server refused, or the tables are in use.
        errors.DeclarationError: A semantic index cannot have the source's new key, or the server cannot cast the old
            keys to it.
    """
    with transaction.begin(engine) as connection:
        found = [one for one in altered_keys(connection) if one.generation_id == generation.id]
        if not found:
            return False
        if not found[0].castable:
            raise errors.DeclarationError(advice(generation, found[0]))
        key = supported_tables.key_of(connection, generation.spec.schema, generation.spec.table)
    as_json = json.dumps([dataclasses.asdict(column) for column in key])
    binds = {"generation": generation.id, "key": as_json}
    with _without_foreign_keys(engine, generation, patient=patient), _begin(engine, patient=patient) as connection:
        connection.execute(sql.statement("registry", "refresh_key"), binds)
    with transaction.begin(engine) as connection:
        for step in ddl.create_triggers(dataclasses.replace(generation.spec, key=key)):
            connection.execute(step)
        problems.forget(connection, [generation.id], "key")
    fields = {"event": "key_adapted", "index": generation.title}
    log.info("%s: adapted to the altered key of its table", generation.title, extra=fields)
    return True


@contextlib.contextmanager
def _begin(engine: sa.Engine, *, patient: bool) -> Iterator[sa.Connection]:
    """Begins a transaction that reads every row. Unless patient, it is for small tables and doesn't wait for locks."""
    if patient:
        with transaction.begin(engine, statement_timeout=_PATIENCE) as connection:
            yield connection
    else:
        with transaction.begin(engine) as connection:
            connection.execute(transaction.WAIT_FOR_NO_LOCK)
            yield connection


@contextlib.contextmanager
def _without_foreign_keys(engine: sa.Engine, generation: Generation, *, patient: bool) -> Iterator[None]:
    """Drops the foreign keys of an index and restores them, so that its source is locked only for moments."""
    binds = {"generation": generation.id}
    with transaction.begin(engine) as connection:
        if not patient:
            connection.execute(transaction.WAIT_FOR_NO_LOCK)
        connection.execute(sql.statement("registry", "unlink_key"), binds)
    try:
        yield
    finally:
        with transaction.begin(engine) as connection:
            connection.execute(sql.statement("registry", "link_key"), binds)
        with _begin(engine, patient=patient) as connection:
            for one in registry.generations(connection):
                if one.index_id == generation.index_id:
                    policy_column.follow(connection, one.tables, KeyRange(None, None).of)
            connection.execute(sql.statement("registry", "validate_key"), binds)


class KeyAdapter:
    """Checks at intervals whether keys were altered, and adapts the indexes where that takes only a moment.

    Args:
        engine: The worker's engine.
        look_seconds: Between two checks, and before the second attempt while the tables are in use.
        again_seconds: Before the second attempt after the server refused. Doubles each time.
    """

    def __init__(self, engine: sa.Engine, *, look_seconds: float = 5.0, again_seconds: float = 60.0) -> None:
        self._engine = engine
        self._look_seconds, self._again_seconds = look_seconds, again_seconds
        self._look_at = 0.0
        self._told: dict[int, str] = {}

    def look(self) -> bool:
        """Adapts what it can and logs once what it cannot. Returns whether anything was adapted."""
        if time.monotonic() < self._look_at:
            return False
        try:
            adapted = [self._adapt(generation, one) for generation, one in self._found()]
            return any(adapted)
        finally:
            self._look_at = time.monotonic() + self._look_seconds

    def _found(self) -> list[tuple[Generation, AlteredKey]]:
        """Returns what to try now, or nothing if the server is too busy."""
        try:
            with transaction.begin(self._engine) as connection:
                found = {one.generation_id: one for one in altered_keys(connection)}
                connection.execute(sql.statement("registry", "forget_keys"), {"altered": list(found)})
                known = registry.generations(connection) if found else []
                return [
                    (generation, found[generation.id])
                    for generation in known
                    if generation.role == "live"
                    and generation.id in found
                    and not problems.put_off(connection, generation.id, "key")
                ]
        except exc.DBAPIError as error:
            if not database.is_busy_or_slow(error):
                raise
            return []

    def _adapt(self, generation: Generation, one: AlteredKey) -> bool:
        if one.dependents or not (one.small and one.castable):
            self._tell(generation, advice(generation, one))
            return False
        try:
            return refresh(self._engine, generation, patient=False)
        except (exc.DBAPIError, errors.DeclarationError) as error:
            if isinstance(error, exc.DBAPIError) and database.is_connection_lost(error):
                raise
            self._put_off(generation, one, error)
            return False

    def _put_off(self, generation: Generation, one: AlteredKey, error: Exception) -> None:
        """Schedules another attempt, by any worker, and logs why this one failed."""
        busy = isinstance(error, exc.DBAPIError) and transaction.is_busy(error)
        reason = advice(generation, one, because=_reason(error))
        problems.note(
            self._engine,
            generation.id,
            "key",
            reason=reason,
            first_seconds=self._look_seconds if busy else self._again_seconds,
            most_seconds=_LONGEST_BEHIND_OTHERS_SECONDS if busy else _LONGEST_SECONDS,
        )
        self._tell(generation, reason)

    def _tell(self, generation: Generation, told: str) -> None:
        if told != self._told.get(generation.id):
            self._told[generation.id] = told
            log.warning("%s: %s", generation.title, told, extra={"event": "key_altered", "index": generation.title})


def advice(generation: Generation, one: AlteredKey, *, because: str | None = None) -> str:
    """Explains that an index doesn't have the key of its source, and what to run.

    Args:
        generation: The live generation of the index.
        one: What was altered.
        because: Why a worker could not adapt the index, if it tried.
    """
    said = f"the key of table {generation.spec.table} was altered: {one.said}"
    fail = "Rows whose key doesn't fit fail until"
    if not one.castable:
        return (
            f"{said}. The old keys cannot be cast to the new type, so the vectors no longer match any row: run "
            f"`pg-semantic index drop {generation.name}`, then create the index again."
        )
    run = f"`pg-semantic index refresh {generation.name}`, which doesn't encode any text again"
    if one.dependents:
        return f"{said}. {fail} you drop what depends on the key of the index ({one.dependents}) and run {run}."
    return f"{said}{f' ({because})' if because else ''}. {fail} you run {run}."


def _reason(error: Exception) -> str:
    return str(database.translate(error)) if isinstance(error, exc.DBAPIError) else str(error)
