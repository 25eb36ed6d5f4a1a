"""The claims that a worker holds: taken, kept alive by heartbeats, and given back if they aren't finished."""

import contextlib
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, jobqueue
from pg_semantic.database import transaction
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.jobqueue import Claim, Claimable
from pg_semantic.settings import Settings
from pg_semantic.worker import backfill, write_chunks
from pg_semantic.worker.turn_lock import TurnLock

_FOLDED_EDITS = 5_000  # at once, however few jobs are claimed: several marks of a row become one job
_LEASE_PARTS = 5  # a heartbeat waits for locks for one part of the lease


class HeldClaims:
    """The claims that a worker holds. Shared by the threads that read, write and send heartbeats.

    Attributes:
        claimed_jobs: How many jobs were claimed so far.
        reaped_jobs: How many jobs were freed so far whose lease had expired, whichever worker held them.

    Hold one of ``locks`` while a transaction locks jobs, or of ``edit_locks`` for edits that overtake a batch. A
    transaction skips jobs that are locked, and so does a heartbeat: without these locks, each would skip jobs that the
    other has locked for a moment.
    """

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self.locks = [TurnLock() for _ in range(settings.write_connections)]
        self.edit_locks = [TurnLock()]
        self.claimed_jobs = self.reaped_jobs = 0
        self._taking = threading.Lock()
        self._giving = threading.RLock()
        self._closed = False
        self._engine = engine
        self._settings = settings
        self._claims: dict[uuid.UUID, Claim] = {}
        self._left: dict[uuid.UUID, tuple[Claim, set[str]]] = {}  # to release once they are unlocked
        self._postponed: Claimable | None = None  # its oldest job must be alone, and waits until nothing is held

    def allowed(self, ready: Sequence[Claimable]) -> list[Claimable]:
        """Returns what this worker may claim now: nothing next to a job that must be alone, otherwise what is ready.

        If such a job had to wait for other claims, it is next when these are finished. Otherwise an index with a long
        queue would keep it waiting for as long as that lasts.
        """
        if self._postponed not in ready:  # claimed by another worker, or its index is no longer served
            self._postponed = None
        return [one for one in ready if self._may_take(one)]

    @property
    def held_jobs(self) -> int:
        """How many jobs the claims in progress had when they were taken."""
        return sum(len(claim.jobs) for claim in list(self._claims.values()))

    def take(self, of: Claimable, rows: int, *, tables: Tables | None = None) -> Claim | None:
        """Folds the marks of a generation and priority, then claims jobs.

        Args:
            of: The generation and priority.
            rows: The most jobs to claim.
            tables: The tables of the generation, to take rows of its first backfill if no job of that priority is left.

        Returns:
            The claim, or None if there are no jobs, `close` was called, or one job must be alone: the one that is held,
            or the oldest that is waiting while others are held.
        """
        with self._taking:
            if self._closed or not self._may_take(of):
                return None
            with transaction.begin(self._engine, by_index=True) as connection:
                marks = _FOLDED_EDITS if of.priority == jobqueue.EDIT else rows
                jobqueue.fold(connection, of.generation_id, priority=of.priority, marks=marks)
                claim = self._claim(connection, of, rows)
            if tables is not None and of.priority == jobqueue.BACKFILL and not (claim.jobs or claim.is_alone):
                lease = self._settings.lease_seconds
                unsynced = backfill.claim(self._engine, tables, of.generation_id, rows=rows, lease_seconds=lease)
                claim = unsynced or claim
            if claim.jobs:
                self._claims[claim.token] = claim
                self.claimed_jobs += len(claim.jobs)
            self._postpone(of, must_wait=claim.is_alone and not claim.jobs)
        return claim if claim.jobs else None

    def _may_take(self, of: Claimable) -> bool:
        claims = list(self._claims.values())
        if any(claim.is_alone for claim in claims):
            return False
        return bool(claims) or self._postponed in {None, of}

    def _postpone(self, of: Claimable, *, must_wait: bool) -> None:
        if must_wait:
            self._postponed = self._postponed or of
        elif of == self._postponed:
            self._postponed = None

    def close(self) -> None:
        """Releases all claims and takes no more."""
        self._closed = True
        with self._taking:
            self.give_back_all()

    def finish(self, claim: Claim) -> None:
        """Forgets a claim whose jobs are all finished or given back."""
        self._claims.pop(claim.token, None)

    def give_back(self, claim: Claim, *, at_once: bool = False) -> None:
        """Releases the remaining jobs of a claim. Locked jobs wait for the next `give_back_left`.

        Args:
            claim: A claim of this worker.
            at_once: Whether the jobs can be claimed again immediately, not after a short delay.
        """
        try:
            self.leave(claim, [job.key for job in claim.jobs], at_once=at_once)
        finally:
            self.finish(claim)

    @contextlib.contextmanager
    def giving_back_on_error(self, claim: Claim) -> Iterator[None]:
        """Releases a claim if the ``with`` block fails, unless the connection was lost: then its lease expires."""
        try:
            yield
        except exc.DBAPIError as error:
            if not database.is_connection_lost(error):
                with transaction.unless_busy():
                    self.give_back(claim)
            raise

    def leave(self, claim: Claim, keys: Iterable[str], *, at_once: bool = False) -> None:
        """Releases some jobs of a claim, as `give_back` does, and keeps the others."""
        with self._giving:
            _, known = self._left.get(claim.token, (claim, set()))
            wanted = known | set(keys)
            self._left[claim.token] = claim, wanted  # kept even if the release fails
            locked = write_chunks.give_back(self._engine, claim, sorted(wanted), at_once=at_once) if wanted else []
            if locked:
                self._left[claim.token] = claim, set(locked)
            else:
                del self._left[claim.token]

    def give_back_left(self) -> None:
        """Tries again to release jobs that were locked."""
        with self._giving:
            for claim, keys in list(self._left.values()):
                self.leave(claim, keys)

    def give_back_all(self) -> None:
        """Releases all claims at once, when the worker stops or has reconnected to the database."""
        left = [claim for claim, _ in self._left.values()]
        for claim in {claim.token: claim for claim in [*self._claims.values(), *left]}.values():
            self.give_back(claim, at_once=True)
        self.give_back_left()  # jobs that a heartbeat had locked

    def _claim(self, connection: sa.Connection, of: Claimable, rows: int) -> Claim:
        return jobqueue.claim(
            connection,
            of.generation_id,
            rows=rows,
            lease_seconds=self._settings.lease_seconds,
            priority=of.priority,
            holds_others=bool(self._claims),
        )

    def beat(self) -> None:
        """Extends the leases of all claims that the worker holds.

        Waits for transactions that are writing, but not so long that leases end. The jobs in a longer one are locked,
        so no worker can take them; the leases of all others are extended then.
        """
        lease = self._settings.lease_seconds
        with contextlib.ExitStack() as stack:
            locks = (*self.locks, *self.edit_locks)
            for lock in locks:
                if lock.acquire(seconds=lease / _LEASE_PARTS / len(locks)):
                    stack.callback(lock.release)
            connection = stack.enter_context(transaction.begin(self._engine, by_index=True))
            jobqueue.heartbeat(connection, [*self._claims, *self._left], lease_seconds=lease)

    def reap(self) -> None:
        """Frees jobs whose lease has expired, whichever worker held them."""
        settings = self._settings
        with transaction.begin(self._engine, by_index=True) as connection:
            freed = jobqueue.reap(connection, max_attempts=settings.max_attempts, retry_seconds=settings.retry_seconds)
        self.reaped_jobs += freed
