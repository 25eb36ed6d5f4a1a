"""The claims that a worker has in hand: taken, kept alive, and given back when they are not finished."""

import threading
import uuid
from collections.abc import Iterable

import sqlalchemy as sa

from pg_semantic import jobqueue
from pg_semantic.database import transaction
from pg_semantic.jobqueue import Claim, Claimable
from pg_semantic.settings import Settings
from pg_semantic.worker import write_chunks

_FOLDED_EDITS = 5_000  # at once, however few are claimed: marks of one row are one job


class HeldClaims:
    """Claims in hand; reading, writing and beating threads share it.

    Hold ``locks`` while a transaction locks jobs, ``edit_locks`` while one does of edits that overtake a batch: a
    heartbeat at the same time would make the other skip them.
    """

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self.locks = threading.Lock()
        self.edit_locks = threading.Lock()
        self._taking = threading.Lock()
        self._giving = threading.RLock()
        self._closed = False
        self._engine = engine
        self._settings = settings
        self._claims: dict[uuid.UUID, Claim] = {}
        self._left: dict[uuid.UUID, tuple[Claim, set[str]]] = {}  # to be released as soon as nobody has it locked

    def take(self, of: Claimable, rows: int) -> Claim | None:
        """Claims jobs of a generation and priority, if there still are any; marks of the same are folded first."""
        with self._taking:
            if self._closed:
                return None
            with transaction.begin(self._engine, by_index=True) as connection:
                marks = _FOLDED_EDITS if of.priority == jobqueue.EDIT else rows
                jobqueue.fold(connection, of.generation_id, priority=of.priority, marks=marks)
                claim = self._claim(connection, of, rows)
            if claim.jobs:
                self._claims[claim.token] = claim
        return claim if claim.jobs else None

    def close(self) -> None:
        """Releases every claim and takes no more."""
        self._closed = True
        with self._taking:
            self.give_back_all()

    def finish(self, claim: Claim) -> None:
        """Forgets a claim whose jobs were all ended or left."""
        self._claims.pop(claim.token, None)

    def give_back(self, claim: Claim, *, at_once: bool = False) -> None:
        """Releases what is left of a claim; what somebody has locked waits for the next `give_back_left`."""
        try:
            self.leave(claim, [job.key for job in claim.jobs], at_once=at_once)
        finally:
            self.finish(claim)

    def leave(self, claim: Claim, keys: Iterable[str], *, at_once: bool = False) -> None:
        """Releases some jobs of a claim, as `give_back` does, while the others stay in hand."""
        with self._giving:
            _, known = self._left.get(claim.token, (claim, set()))
            wanted = known | set(keys)
            self._left[claim.token] = claim, wanted  # also when the release fails
            locked = write_chunks.give_back(self._engine, claim, sorted(wanted), at_once=at_once) if wanted else []
            if locked:
                self._left[claim.token] = claim, set(locked)
            else:
                del self._left[claim.token]

    def give_back_left(self) -> None:
        """Tries again to release what somebody had locked."""
        with self._giving:
            for claim, keys in list(self._left.values()):
                self.leave(claim, keys)

    def give_back_all(self) -> None:
        """Releases every claim at once: the worker stops, or comes back after it had lost the database."""
        left = [claim for claim, _ in self._left.values()]
        for claim in {claim.token: claim for claim in [*self._claims.values(), *left]}.values():
            self.give_back(claim, at_once=True)
        self.give_back_left()  # what a heartbeat had locked

    def _claim(self, connection: sa.Connection, of: Claimable, rows: int) -> Claim:
        lease = self._settings.lease_seconds
        return jobqueue.claim(connection, of.generation_id, rows=rows, lease_seconds=lease, priority=of.priority)

    def beat(self) -> None:
        """Extends the leases of all claims in hand."""
        with self.locks, self.edit_locks, transaction.begin(self._engine, by_index=True) as connection:
            jobqueue.heartbeat(connection, [*self._claims, *self._left], lease_seconds=self._settings.lease_seconds)

    def reap(self) -> None:
        """Frees the jobs of workers, this or others, whose leases have run out."""
        settings = self._settings
        with transaction.begin(self._engine, by_index=True) as connection:
            jobqueue.reap(connection, max_attempts=settings.max_attempts, retry_seconds=settings.retry_seconds)
