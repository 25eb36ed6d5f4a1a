"""The Python face of ``sql/jobs.sql``: fold, claim, hold, complete, release, fail. docs/queue.md draws the states."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, sql

EDIT, BACKFILL = 0, 1  # priorities


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job: the key of a row whose text changed, and the version of the change."""

    key: str
    version: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one generation taken together; the token proves that they are still ours."""

    generation_id: int
    token: uuid.UUID
    jobs: tuple[Job, ...]
    priority: int = EDIT


@dataclass(frozen=True, slots=True)
class Claimable:
    """A generation that has jobs of a priority to be claimed."""

    generation_id: int
    priority: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A parked job and why."""

    key: str
    attempts: int
    error: str


def fold(connection: sa.Connection, generation_id: int, *, priority: int = EDIT, marks: int = 5_000) -> None:
    """Turns up to ``marks`` marks of a generation and priority into jobs, oldest first."""
    binds = {"generation": generation_id, "priority": priority, "marks": marks}
    connection.execute(sql.statement("jobs", "fold"), binds)


def sweep(engine: sa.Engine) -> None:
    """Deletes the marks and jobs that copies which were dropped have left, in short transactions.

    What others have locked, or the server has no time for, is left for the sweep that a worker does every few seconds.
    """
    left = True
    while left:
        try:
            with engine.begin() as connection:
                connection.execute(sql.statement("registry", "own_transaction"), {"local": True})
                connection.execute(sql.statement("jobs", "sweep_settings"))
                left = bool(connection.scalar(sql.statement("jobs", "sweep")))
        except exc.DBAPIError as error:
            if not database.is_busy_or_slow(error):
                raise
            return


def ready(connection: sa.Connection, generation_ids: Sequence[int]) -> list[Claimable]:
    """Which of these generations have jobs to claim or marks to fold; costs the same however many wait."""
    found = connection.execute(sql.statement("jobs", "ready"), {"generations": list(generation_ids)})
    return [Claimable(row.id, row.priority) for row in found]


def claim(
    connection: sa.Connection, generation_id: int, *, rows: int, lease_seconds: float, priority: int = EDIT
) -> Claim:
    """Takes up to ``rows`` pending jobs of one priority, oldest first; commit before working on them."""
    token = uuid.uuid4()
    binds = {
        "generation": generation_id,
        "priority": priority,
        "rows": rows,
        "claim": token,
        "lease": lease_seconds,
    }
    found = sorted(connection.execute(sql.statement("jobs", "claim"), binds), key=lambda row: row.available_at)
    return Claim(generation_id, token, tuple(Job(row.key, row.version) for row in found), priority)


def hold(connection: sa.Connection, claimed: Claim, jobs: Sequence[Job]) -> set[str]:
    """Keys of those jobs that are as they were claimed, locked until the transaction ends.

    A key that is missing has a newer version, was taken from us, or is locked by another worker.
    """
    return set(
        connection.scalars(
            sql.statement("jobs", "hold"),
            {
                "generation": claimed.generation_id,
                "claim": claimed.token,
                "keys": [job.key for job in jobs],
                "versions": [job.version for job in jobs],
            },
        )
    )


def complete(connection: sa.Connection, claimed: Claim, keys: Sequence[str]) -> None:
    """Ends jobs that this transaction holds."""
    connection.execute(sql.statement("jobs", "complete"), {"generation": claimed.generation_id, "keys": list(keys)})


def release(connection: sa.Connection, claimed: Claim, keys: Sequence[str], *, delay_seconds: float) -> list[str]:
    """Gives jobs back, to be claimed again after the delay; those that are not ours any more stay as they are.

    Returns the keys that somebody has locked: try these again, since they may be ours still when they are let go.
    """
    binds = {
        "generation": claimed.generation_id,
        "claim": claimed.token,
        "keys": list(keys),
        "delay": delay_seconds,
    }
    return list(connection.scalars(sql.statement("jobs", "release"), binds))


def fail(
    connection: sa.Connection,
    claimed: Claim,
    job: Job,
    *,
    error: str,
    max_attempts: int,
    retry_seconds: float,
) -> bool:
    """Records that a job failed; it is tried again with back-off, and parked after ``max_attempts``.

    Returns whether it was recorded: not if the job has a newer version, was taken from us, or is locked.
    """
    driver: Any = connection.connection.driver_connection
    recorded = connection.execute(
        sql.statement("jobs", "fail"),
        {
            "generation": claimed.generation_id,
            "claim": claimed.token,
            "key": job.key,
            "version": job.version,
            "error": database.storable(error, driver),
            "max_attempts": max_attempts,
            "retry": retry_seconds,
        },
    )
    return recorded.rowcount > 0


def heartbeat(connection: sa.Connection, tokens: Sequence[uuid.UUID], *, lease_seconds: float) -> None:
    """Extends the leases of these claims."""
    connection.execute(sql.statement("jobs", "heartbeat"), {"claims": list(tokens), "lease": lease_seconds})


def reap(connection: sa.Connection, *, max_attempts: int, retry_seconds: float) -> None:
    """Frees jobs whose lease has run out."""
    binds = {"max_attempts": max_attempts, "retry": retry_seconds}
    connection.execute(sql.statement("jobs", "reap"), binds)


def enqueue(connection: sa.Connection, generation_id: int, keys: Sequence[str]) -> None:
    """Marks rows that have no job, behind all edits."""
    connection.execute(sql.statement("jobs", "enqueue"), {"generation": generation_id, "keys": list(keys)})


def requeueing(generation_id: int, keys: Sequence[str]) -> sa.TextClause:
    """The statement that makes jobs for rows that are to be looked at again; it voids claims on them."""
    return sql.statement("jobs", "requeue").bindparams(generation=generation_id, keys=list(keys))


def retry(connection: sa.Connection, generation_id: int, keys: Sequence[str] | None = None) -> list[str]:
    """Takes parked jobs back into the queue, all or those of some keys; returns their keys."""
    binds = {"generation": generation_id, "keys": None if keys is None else list(keys)}
    return list(connection.scalars(sql.statement("jobs", "retry"), binds))


def waiting(connection: sa.Connection, generation_id: int, *, limit: int, priority: int | None = None) -> int:
    """Jobs that are pending or being worked on, of one priority or of both, counted up to ``limit``."""
    bounds = {"generation": generation_id, "limit": limit, "priority": priority}
    return int(connection.execute(sql.statement("jobs", "waiting"), bounds).scalar_one())


def failures(connection: sa.Connection, generation_id: int, *, limit: int) -> list[Failure]:
    """Parked jobs with their errors, newest first."""
    rows = connection.execute(sql.statement("jobs", "failures"), {"generation": generation_id, "limit": limit})
    return [Failure(row.key, row.attempts, row.error) for row in rows]
