"""The Python interface to ``sql/jobqueue.sql``: fold, claim, hold, complete, release, fail.

docs/explanation/how-a-change-becomes-a-vector.md has a diagram of the states.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from pg_semantic import database, sql

EDIT, BACKFILL = 0, 1  # priorities
JOBS = sa.table(
    "job",
    sa.column("generation_id", sa.Integer),
    sa.column("key", sa.Text),
    sa.column("version", sa.BigInteger),
    sa.column("priority", sa.SmallInteger),
    sa.column("state", sa.Text),
    sa.column("claim", sa.Uuid),
    sa.column("lease_until", sa.DateTime(timezone=True)),
    sa.column("attempts", sa.Integer),
    schema="semantic",
)
_LONGEST_KEY = 2_600  # bytes, which the index on the job table can hold


class Job(NamedTuple):
    """A claimed job: the key of a row whose text changed, and the job's version at the time of the claim."""

    key: str
    version: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one generation that were claimed together.

    Attributes:
        generation_id: The generation.
        token: Identifies the claim.
        jobs: What was claimed, oldest first.
        priority: `EDIT` or `BACKFILL`.
        is_alone: Whether its only job may be what ended a worker, and must have the next one to itself. If there are no
            jobs, that job is the oldest, and waits until the worker holds no other claim.
    """

    generation_id: int
    token: uuid.UUID
    jobs: tuple[Job, ...]
    priority: int = EDIT
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Claimable:
    """A generation that has jobs of this priority to claim."""

    generation_id: int
    priority: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A parked job with its last error."""

    key: str
    attempts: int
    error: str


def fold(connection: sa.Connection, generation_id: int, *, priority: int = EDIT, marks: int = 5_000) -> None:
    """Folds up to ``marks`` marks of a generation and priority into jobs, oldest first."""
    binds = {"generation": generation_id, "priority": priority, "marks": marks}
    connection.execute(sql.statement("jobqueue", "fold"), binds)


def sweep(engine: sa.Engine) -> None:
    """Deletes marks and jobs left over from dropped generations, in short transactions.

    It stops at rows that are locked, or when the server is too slow. A worker sweeps again every few seconds.
    """
    left = True
    while left:
        try:
            with engine.begin() as connection:
                connection.execute(sql.statement("registry", "own_transaction"), {"local": True})
                connection.execute(sql.statement("jobqueue", "sweep_settings"))
                left = bool(connection.scalar(sql.statement("jobqueue", "sweep")))
        except exc.DBAPIError as error:
            if not database.is_busy_or_slow(error):
                raise
            return


def ready(connection: sa.Connection, generation_ids: Sequence[int]) -> list[Claimable]:
    """Returns those of these generations that have jobs to claim, marks to fold, or rows for a first backfill.

    The cost does not depend on how many are waiting.
    """
    found = connection.execute(sql.statement("jobqueue", "ready"), {"generations": list(generation_ids)})
    return [Claimable(row.id, row.priority) for row in found]


def claim(
    connection: sa.Connection,
    generation_id: int,
    *,
    rows: int,
    lease_seconds: float,
    priority: int = EDIT,
    holds_others: bool = False,
) -> Claim:
    """Claims pending jobs of one priority, oldest first. Commit before you work on them.

    Args:
        connection: A connection in a transaction.
        generation_id: The generation.
        rows: Maximum number of jobs.
        lease_seconds: How long the claim is valid without a heartbeat.
        priority: `EDIT` or `BACKFILL`.
        holds_others: Whether the worker holds other claims. A job that may have ended a worker waits until it doesn't.
    """
    token = uuid.uuid4()
    binds = {
        "generation": generation_id,
        "priority": priority,
        "rows": rows,
        "claim": token,
        "lease": lease_seconds,
        "holds_others": holds_others,
    }
    found = connection.execute(sql.statement("jobqueue", "claim"), binds).all()
    claimed = sorted((row for row in found if row.key is not None), key=lambda row: row.available_at)
    is_alone = any(row.claim_limit == 1 for row in found)
    return Claim(generation_id, token, tuple(Job(row.key, row.version) for row in claimed), priority, is_alone)


def hold(connection: sa.Connection, claimed: Claim, jobs: Sequence[Job]) -> set[str]:
    """Locks those of the claimed jobs that haven't changed, until the transaction ends, and returns their keys.

    A key is missing if its job has a newer version, belongs to another claim, or is locked by another worker.
    """
    return set(
        connection.scalars(
            sql.statement("jobqueue", "hold"),
            {
                "generation": claimed.generation_id,
                "claim": claimed.token,
                "keys": [job.key for job in jobs],
                "versions": [job.version for job in jobs],
            },
        )
    )


def complete(connection: sa.Connection, claimed: Claim, keys: Sequence[str]) -> None:
    """Completes jobs that this transaction holds."""
    connection.execute(sql.statement("jobqueue", "complete"), {"generation": claimed.generation_id, "keys": list(keys)})


def release(connection: sa.Connection, claimed: Claim, keys: Sequence[str], *, delay_seconds: float) -> list[str]:
    """Returns jobs to the queue, to be claimed again after the delay. Jobs of other claims don't change.

    Returns:
        Keys whose jobs are locked. Release these again: they may still belong to this claim.
    """
    binds = {
        "generation": claimed.generation_id,
        "claim": claimed.token,
        "keys": list(keys),
        "delay": delay_seconds,
    }
    return list(connection.scalars(sql.statement("jobqueue", "release"), binds))


def fail(
    connection: sa.Connection,
    claimed: Claim,
    job: Job,
    *,
    error: str,
    max_attempts: int,
    retry_seconds: float,
) -> bool:
    """Records that a job failed. It is retried with back-off, and parked after ``max_attempts``.

    Returns:
        Whether the failure was recorded: False if the job has a newer version, belongs to another claim, or is locked.
    """
    driver: Any = connection.connection.driver_connection
    recorded = connection.execute(
        sql.statement("jobqueue", "fail"),
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
    connection.execute(sql.statement("jobqueue", "heartbeat"), {"claims": list(tokens), "lease": lease_seconds})


def reap(connection: sa.Connection, *, max_attempts: int, retry_seconds: float) -> int:
    """Frees jobs whose lease has expired, and returns how many."""
    binds = {"max_attempts": max_attempts, "retry": retry_seconds}
    return connection.execute(sql.statement("jobqueue", "reap"), binds).rowcount


def enqueue(connection: sa.Connection, generation_id: int, keys: Sequence[str]) -> None:
    """Creates jobs for rows that have none, with lower priority than edits, and invalidates claims on the others."""
    connection.execute(sql.statement("jobqueue", "enqueue"), {"generation": generation_id, "keys": list(keys)})


def enqueue_claimed(
    connection: sa.Connection, generation_id: int, keys: "sa.Select[str]", *, lease_seconds: float
) -> Claim:
    """Creates jobs that are claimed from the start, for rows that have none. Commit before you read their text.

    Args:
        connection: A connection in a transaction.
        generation_id: The generation.
        keys: Selects the keys of the rows.
        lease_seconds: How long the claim is valid without a heartbeat.

    Returns:
        The claim, without the rows that have a job already.
    """
    token = uuid.uuid4()
    [key] = keys.subquery("wanted").c
    lease = sa.func.now() + sa.literal(timedelta(seconds=lease_seconds), sa.Interval)
    said = map(sa.literal, (BACKFILL, "processing", token))
    columns = [
        JOBS.c[name] for name in ("generation_id", "key", "priority", "state", "claim", "lease_until", "attempts")
    ]
    claimed = sa.select(sa.literal(generation_id), key, *said, lease, sa.literal(1))
    chosen = claimed.where(sa.func.octet_length(key) <= _LONGEST_KEY).order_by(sa.collate(key, "C"))
    created = postgresql.insert(JOBS).from_select(columns, chosen).on_conflict_do_nothing(index_elements=columns[:2])
    found = connection.execute(created.returning(JOBS.c.key, JOBS.c.version))
    return Claim(generation_id, token, tuple(map(Job._make, found)), BACKFILL)


def requeueing(generation_id: int, keys: Sequence[str]) -> sa.TextClause:
    """Returns the statement that creates jobs for rows to check again. It invalidates existing claims on them."""
    return sql.statement("jobqueue", "requeue").bindparams(generation=generation_id, keys=list(keys))


def retry(connection: sa.Connection, generation_id: int, keys: Sequence[str] | None = None) -> list[str]:
    """Puts parked jobs back into the queue, all or those with these keys, and returns their keys."""
    binds = {"generation": generation_id, "keys": None if keys is None else list(keys)}
    return list(connection.scalars(sql.statement("jobqueue", "retry"), binds))


def waiting(connection: sa.Connection, generation_id: int, *, limit: int, priority: int | None = None) -> int:
    """Counts pending and processing jobs of one priority or both, up to ``limit``."""
    bounds = {"generation": generation_id, "limit": limit, "priority": priority}
    return int(connection.execute(sql.statement("jobqueue", "waiting"), bounds).scalar_one())


def failures(connection: sa.Connection, generation_id: int, *, limit: int) -> list[Failure]:
    """Returns parked jobs with their errors, newest first."""
    rows = connection.execute(sql.statement("jobqueue", "failures"), {"generation": generation_id, "limit": limit})
    return [Failure(row.key, row.attempts, row.error) for row in rows]
