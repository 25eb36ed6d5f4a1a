"""Records what keeps a semantic index from being synced or built, so that `status` shows it until it is over."""

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
class Problem:
    """Why a generation isn't kept in sync or built.

    Attributes:
        kind: ``sync`` if it isn't kept in sync, ``build`` if its indexes aren't built, ``capture`` if changes that
            bypassed capture cannot be repaired, ``foreign_key`` if its foreign keys cannot be validated, ``key`` if the
            key of its source was altered.
        reason: What happened and what to do next.
        failures: How many attempts failed; 0 if an operator must adapt the index to its key.
        seconds: How long ago the problem began.
        next_seconds: How long until the next attempt.
    """

    kind: Kind
    reason: str
    failures: int
    seconds: float
    next_seconds: float


def note(
    engine: sa.Engine, generation_id: int, kind: Kind, *, reason: str, first_seconds: float, most_seconds: float
) -> float:
    """Records a problem, if the database can be written to.

    Args:
        engine: The worker's engine.
        generation_id: The generation with the problem.
        kind: What could not be done.
        reason: What happened and what to do next, for an operator.
        first_seconds: How long to wait before the second attempt; the wait doubles before each later one.
        most_seconds: The longest wait.

    Returns:
        How many seconds to wait before the next attempt.
    """
    binds = {"generation": generation_id, "kind": kind, "reason": reason, "first": first_seconds, "most": most_seconds}
    with contextlib.suppress(exc.DBAPIError), transaction.begin(engine) as connection:
        seconds = connection.scalar(sql.statement("registry", "note_problem"), binds)
        return first_seconds if seconds is None else float(seconds)
    return first_seconds


def forget(connection: sa.Connection, generation_ids: Collection[int], kind: Kind) -> None:
    """Records that these generations no longer have a problem of this kind."""
    binds = {"generations": list(generation_ids), "kind": kind}
    connection.execute(sql.statement("registry", "forget_problem"), binds)


def put_off(connection: sa.Connection, generation_id: int, kind: Kind) -> float:
    """Returns the seconds until a retry is due, whichever worker failed; 0 if it may be tried now."""
    binds = {"generation": generation_id, "kind": kind}
    return max(0.0, connection.scalar(sql.statement("registry", "put_off"), binds) or 0.0)


def read(connection: sa.Connection) -> dict[int, list[Problem]]:
    """Returns the problems of each generation that has any; nothing for a role that may not read them."""
    may = sa.func.has_table_privilege("semantic.problem", "SELECT")
    if not connection.scalar(sa.select(may)):
        return {}
    found: dict[int, list[Problem]] = {}
    for number, *columns in connection.execute(sql.statement("registry", "problems")):
        found.setdefault(number, []).append(Problem(*columns))
    return found
