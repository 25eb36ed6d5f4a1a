"""The three stages of a worker, read, encode and write, with what happens if one of them fails.

`pipeline` overlaps them, and `fast_lane` runs them one after the other. A failure affects only its own index: the
worker skips that index for a while, and the jobs of the batch go back to the queue.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import database, errors, jobqueue
from pg_semantic.database import transaction
from pg_semantic.encoders import Encoder
from pg_semantic.jobqueue import Claim, Claimable, Job
from pg_semantic.settings import Settings
from pg_semantic.worker import encode_chunks, read_rows, write_chunks
from pg_semantic.worker.batch import LONG_CHARACTERS, Batch
from pg_semantic.worker.batch_log import Progress, ProgressReporter
from pg_semantic.worker.batch_size import BatchSizer
from pg_semantic.worker.held_claims import HeldClaims
from pg_semantic.worker.prefixes import Basis
from pg_semantic.worker.read_changed_texts import ReadLimits
from pg_semantic.worker.served_indexes import ServedGeneration, ServedIndexes
from pg_semantic.worker.token_usage import TokenUsage
from pg_semantic.worker.turn_lock import TurnLock
from pg_semantic.worker.vector_cache import VectorCache
from pg_semantic.worker.write_size import WriteSizer

_FEWEST_BESIDE = 16  # rows to claim alongside a batch: the first may be too long, and others may be waiting behind them


class Stages:
    """Reads, encodes and writes batches.

    Attributes:
        batch_sizes: How much text a batch of each generation should have.
        write_sizes: How much of a batch of each generation one transaction should write.
    """

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        *,
        served: ServedIndexes,
        held: HeldClaims,
        usage: TokenUsage,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.batch_sizes: dict[int, BatchSizer] = defaultdict(lambda: BatchSizer(settings.batch_seconds))
        self.write_sizes: dict[int, WriteSizer] = defaultdict(lambda: WriteSizer(settings.write_seconds))
        self._engine = engine
        self._settings = settings
        self._served = served
        self._held = held
        self._usage = usage
        self._reporter = ProgressReporter(on_progress)
        self._vectors = VectorCache()
        self._bases: dict[int, Basis] = {}
        self._moved: Counter[tuple[int, Job]] = Counter()  # how often a row could not be written because of its key

    @property
    def reporter(self) -> ProgressReporter:
        """What was done so far."""
        return self._reporter

    def forget_bases(self) -> None:
        """Forgets the bases of prefixes, which a server that was restored or failed over may not have."""
        self._bases.clear()

    def ready(self, connection: sa.Connection) -> list[Claimable]:
        """Returns what can be claimed, or nothing if the server is too busy."""
        try:
            return jobqueue.ready(connection, list(self._served.served))
        except exc.DBAPIError as error:
            if not database.is_busy_or_slow(error):
                raise
            return []

    def read(self, turn: Claimable, limits: ReadLimits, *, on_long: Callable[[], None] = lambda: None) -> Batch | None:
        """Claims jobs, then reads and chunks their rows.

        Args:
            turn: The generation and priority to claim.
            limits: How much text to read.
            on_long: Called before rows are chunked, if that takes so long that no edit should wait for it.

        Returns:
            The batch, or None if there was nothing to claim, or the index cannot be read.

        Raises:
            sqlalchemy.exc.DBAPIError: The connection was lost.
        """
        with self._served.isolating_failures(turn.generation_id):
            served = self._served.served.get(turn.generation_id)
            if served is None:  # dropped, or refused by the other thread, meanwhile
                return None
            claim = self._held.take(turn, self._rows_to_claim(turn, limits), tables=served.tables)
            if claim is not None:
                with self._held.giving_back_on_error(claim), self._reporter.timing("read"):
                    return self._read_claimed(served, claim, limits, on_long=on_long)
        return None

    def read_edits(self, turn: Claimable) -> Batch | None:
        """Claims and reads a few short edits, as `read` does."""
        characters = self.batch_sizes[turn.generation_id].edit_characters
        return self.read(turn, ReadLimits(characters, self._settings.batch_bytes, LONG_CHARACTERS))

    def _rows_to_claim(self, turn: Claimable, limits: ReadLimits) -> int:
        fewest = 1 if limits.longest is None else min(_FEWEST_BESIDE, self._settings.batch_rows)
        size = self.batch_sizes[turn.generation_id]
        return max(fewest, size.rows(limits.characters, most=self._settings.batch_rows))

    def _read_claimed(
        self, served: ServedGeneration, claim: Claim, limits: ReadLimits, *, on_long: Callable[[], None]
    ) -> Batch | None:
        batch, rows = read_rows.look(self._engine, served.tables, claim, room=limits)
        self._held.leave(claim, batch.later, at_once=True)
        self._held.leave(claim, batch.long)
        if not batch.claim.jobs:
            self._held.finish(claim)
            return None
        if any(row.characters > LONG_CHARACTERS for row in rows):
            on_long()
        read_rows.cut(self._engine, batch, rows, counter=served.encoder, sisters=self._served.sisters(served))
        self.batch_sizes[claim.generation_id].learn_length(len(batch.claim.jobs), batch.characters)
        return batch

    def reuse_vectors(self, batch: Batch) -> None:
        """Gives a batch the vectors that were recently computed for the same texts."""
        self._vectors.fill(batch, self._served.encoder(batch.tables.spec.encoder.id))

    def encode(self, batch: Batch, run: Callable[[Callable[[], None]], object] = lambda encode: encode()) -> bool:
        """Computes the missing vectors of a batch, unless the encoder is unavailable.

        If it is, gives the batch back. No attempt is counted then, and the vectors computed so far are kept.

        Args:
            batch: The batch.
            run: Calls the function that it is given, by default on this thread, and raises what that raises.

        Returns:
            Whether the batch can be written.
        """
        if not self._served.is_left_alone(batch.claim.generation_id):
            number = batch.tables.spec.encoder.id
            encoder = self._served.encoder(number)
            try:
                run(functools.partial(self._encode, batch, encoder))
            except (errors.EncoderUnavailable, errors.EncoderMismatch) as error:
                self._served.refuse_encoder(number, error)
            else:
                return True
            finally:
                self._vectors.store(batch, encoder)
        self._give_back(batch)
        return False

    def _encode(self, batch: Batch, encoder: Encoder) -> None:
        is_backfill = batch.claim.priority != jobqueue.EDIT
        with self._reporter.timing("encode"), self._usage.backfilling(is_backfill):
            encode_chunks.encode(batch, encoder)

    def write(self, batch: Batch, locks: Sequence[TurnLock]) -> None:
        """Writes a batch, and gives back the jobs that could not be finished.

        Args:
            batch: The batch, encoded.
            locks: One is held during each transaction, which locks jobs: those in `HeldClaims`, for edits or others.

        Raises:
            sqlalchemy.exc.DBAPIError: The connection was lost.
        """
        number = batch.claim.generation_id
        tries = {job.key: self._moved.pop((number, job), 0) for job in batch.claim.jobs} if self._moved else {}
        batch.stubborn = {key for key, count in tries.items() if count >= self._settings.max_attempts}
        try:
            with self._served.isolating_failures(number), self._reporter.timing("write"):
                size = self.write_sizes[number]
                write_chunks.write(
                    self._engine, batch, settings=self._settings, size=size, locks=locks, bases=self._bases
                )
            moved = [job for job in batch.claim.jobs if job.key in batch.moved]
            self._moved.update({(number, job): tries.get(job.key, 0) + 1 for job in moved})
            if batch.written < len(batch.claim.jobs):
                self._give_back(batch)
            else:
                self._held.finish(batch.claim)
        finally:
            if batch.written or batch.recorded or batch.moved:  # not if the connection was lost before that
                self._reporter.report(batch)

    def _give_back(self, batch: Batch) -> None:
        self._reporter.returned(batch)
        with transaction.unless_busy():
            self._held.give_back(batch.claim)
