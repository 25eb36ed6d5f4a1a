"""A source whose key was altered: the tables of its semantic index get the same types and collations.

Vectors stay as they are. A worker adapts by itself where the tables are small; otherwise the operator chooses when,
since searches wait while tables are written again.
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
from pg_semantic.index import ddl, table_requirements
from pg_semantic.registry import Generation
from pg_semantic.worker import policy_column, problems
from pg_semantic.worker.key_ranges import KeyRange

log = logging.getLogger("pg_semantic.worker")

P = ParamSpec("P")
R = TypeVar("R")

_PATIENCE = "2h"
_LOCK = 723628197  # of our own choosing, as in migration 0002
_LAST = sa.select(sa.func.set_config("idle_in_transaction_session_timeout", "0", True))  # noqa: FBT003 - local
_LOOK_SECONDS = 5.0
_LONGEST_BEHIND_OTHERS_SECONDS = 60.0  # between attempts, while the tables are in use
_AGAIN_SECONDS, _LONGEST_SECONDS = 60.0, 3600.0  # after the server refused
_SMALL_BYTES = 32_000_000  # tables that are written again, with their indexes, in a second or two


@dataclasses.dataclass(frozen=True, slots=True)
class AlteredKey:
    """How the key of a generation's tables differs from that of the source.

    ``small`` are tables that are written again in a moment; ``dependents`` of the user's keep the server from it;
    ``castable`` is a key of which the server can make the new one.
    """

    generation_id: int
    said: str
    small: bool
    dependents: str | None
    castable: bool


def altered_keys(connection: sa.Connection) -> list[AlteredKey]:
    """Generations whose key columns have another type or collation than those of their source."""
    found = connection.execute(sql.statement("registry", "altered_keys"), {"small": _SMALL_BYTES})
    return [AlteredKey(*row) for row in found]


def _alone(refreshing: Callable[P, R]) -> Callable[P, R]:
    """Keeps others from putting foreign keys of an index back while it is refreshed; they take this lock to do so.

    The lock is that of a transaction, so that it holds behind a transaction pooler too. It may last for hours, with
    nothing in it that vacuum would wait for.
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
    """Gives all copies of a semantic index the key types and collations that its source has.

    Args:
        engine: The worker's or the operator's; its role must own the tables.
        generation: The live generation of the index.
        patient: Whether to wait for tables that others use, and to take as long as large tables need.

    Returns:
        Whether anything was different.

    Raises:
        sqlalchemy.exc.DBAPIError: The server refused, or the tables are in use.
        errors.DeclarationError: A semantic index cannot have the key that the source has by now, or the server cannot
            cast the old keys to it.
    """
    with transaction.begin(engine) as connection:
        found = [one for one in altered_keys(connection) if one.generation_id == generation.id]
        if not found:
            return False
        if not found[0].castable:
            raise errors.DeclarationError(advice(generation, found[0]))
        key = table_requirements.key_of(connection, generation.spec.schema, generation.spec.table)
    as_json = json.dumps([dataclasses.asdict(column) for column in key])
    binds = {"generation": generation.id, "key": as_json}
    with _without_foreign_keys(engine, generation, patient=patient), _begin(engine, patient=patient) as connection:
        connection.execute(sql.statement("registry", "refresh_key"), binds)
    with transaction.begin(engine) as connection:
        for step in ddl.create_triggers(dataclasses.replace(generation.spec, key=key)):
            connection.execute(step)
        problems.forget(connection, [generation.id], "key")
    fields = {"event": "key_adapted", "index": generation.title}
    log.info("%s: adapted to the key that its table has by now", generation.title, extra=fields)
    return True


@contextlib.contextmanager
def _begin(engine: sa.Engine, *, patient: bool) -> Iterator[sa.Connection]:
    """A transaction that looks at every row: for a worker, which has others to see to, those of small tables."""
    if patient:
        with transaction.begin(engine, statement_timeout=_PATIENCE) as connection:
            yield connection
    else:
        with transaction.begin(engine) as connection:
            connection.execute(transaction.WAIT_FOR_NO_LOCK)
            yield connection


@contextlib.contextmanager
def _without_foreign_keys(engine: sa.Engine, generation: Generation, *, patient: bool) -> Iterator[None]:
    """Drops the foreign keys of an index and puts them back, so that its source is locked for moments alone."""
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
    """Looks now and then whether a source was altered, and adapts to it where that takes a moment."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._look_at = 0.0
        self._told: dict[int, str] = {}

    def look(self) -> bool:
        """Adapts what it can, and tells once of what it cannot; whether anything was adapted."""
        if time.monotonic() < self._look_at:
            return False
        try:
            adapted = [self._adapt(generation, one) for generation, one in self._found()]
            return any(adapted)
        finally:
            self._look_at = time.monotonic() + _LOOK_SECONDS

    def _found(self) -> list[tuple[Generation, AlteredKey]]:
        """What is to be tried now; nothing for now if the server had no time to say."""
        try:
            with transaction.begin(self._engine) as connection:
                found = {one.generation_id: one for one in altered_keys(connection)}
                connection.execute(sql.statement("registry", "forget_keys"), {"altered_keys": list(found)})
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
        """Has it tried again later, by whichever worker, and says why."""
        busy = isinstance(error, exc.DBAPIError) and transaction.is_busy(error)
        reason = advice(generation, one, because=_reason(error))
        problems.note(
            self._engine,
            generation.id,
            "key",
            reason=reason,
            first_seconds=_LOOK_SECONDS if busy else _AGAIN_SECONDS,
            most_seconds=_LONGEST_BEHIND_OTHERS_SECONDS if busy else _LONGEST_SECONDS,
        )
        self._tell(generation, reason)

    def _tell(self, generation: Generation, told: str) -> None:
        if told != self._told.get(generation.id):
            self._told[generation.id] = told
            log.warning("%s: %s", generation.title, told, extra={"event": "key_altered", "index": generation.title})


def advice(generation: Generation, one: AlteredKey, *, because: str | None = None) -> str:
    """What an operator is told of an index whose key is not that of its source, and why it was not adapted to."""
    said = f"the key of table {generation.spec.table} was altered: {one.said}"
    fail = "Rows whose key does not fit fail until"
    if not one.castable:
        return (
            f"{said}. The old keys cannot be cast to the new type, so no vector fits a row any more: "
            f"`pg-semantic index drop {generation.name}`, then create the index again."
        )
    run = f"`pg-semantic index refresh {generation.name}`, which encodes nothing again"
    if one.dependents:
        return f"{said}. {fail} you drop what depends on the key in the index ({one.dependents}), then run {run}."
    return f"{said}{f' ({because})' if because else ''}. {fail} you run {run}."


def _reason(error: Exception) -> str:
    return str(database.translate(error)) if isinstance(error, exc.DBAPIError) else str(error)
