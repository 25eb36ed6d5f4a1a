"""What keeps a semantic index from being synced or built, written down for `status` until it is over."""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import sql
from pg_semantic.database import transaction

Kind = Literal["sync", "build", "capture", "foreign_key", "key"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a generation is not kept in sync (``sync``), or its indexes are not built (``build``).

    ``capture`` is when what came past capture cannot be put right, ``foreign_key`` when its foreign keys cannot be
    validated. A last kind, ``key``, says that the key of its source was altered; it has no attempts while an operator
    is to adapt the index. ``seconds`` is for how long that has been so, ``next_seconds`` when it is tried again.
    """

    kind: Kind
    reason: str
    failures: int
    seconds: float
    next_seconds: float


def note(
    engine: sa.Engine, generation_id: int, kind: Kind, *, reason: str, first_seconds: float, most_seconds: float
) -> float:
    """Writes down what went wrong, if the database can take that.

    Args:
        engine: The worker's.
        generation_id: The generation that it happened to.
        kind: What could not be done.
        reason: What happened and what to do next, for an operator.
        first_seconds: How long to wait before the second attempt; twice as long before each later one.
        most_seconds: The longest wait.

    Returns:
        How many seconds to wait before the next attempt.
    """
    binds = {"generation": generation_id, "kind": kind, "reason": reason, "first": first_seconds, "most": most_seconds}
    with contextlib.suppress(exc.DBAPIError), transaction.begin(engine) as connection:
        seconds = connection.scalar(sql.statement("registry", "note_trouble"), binds)
        return first_seconds if seconds is None else float(seconds)
    return first_seconds


def forget(connection: sa.Connection, generation_ids: Collection[int], kind: Kind) -> None:
    """Notes that the trouble of these generations is over."""
    binds = {"generations": list(generation_ids), "kind": kind}
    connection.execute(sql.statement("registry", "forget_trouble"), binds)


def put_off(connection: sa.Connection, generation_id: int, kind: Kind) -> float:
    """Seconds until something is tried again that failed, whichever worker tried it; 0 if it may be tried now."""
    binds = {"generation": generation_id, "kind": kind}
    return max(0.0, connection.scalar(sql.statement("registry", "put_off"), binds) or 0.0)


def read(connection: sa.Connection) -> dict[int, list[Trouble]]:
    """The trouble of each generation that has any; nothing for a role that may not read it."""
    may = sa.func.has_table_privilege("semantic.trouble", "SELECT")
    if not connection.scalar(sa.select(may)):
        return {}
    found: dict[int, list[Trouble]] = {}
    for number, *columns in connection.execute(sql.statement("registry", "troubles")):
        found.setdefault(number, []).append(Trouble(*columns))
    return found
