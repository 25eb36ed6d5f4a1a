"""Counts the tokens that the workers of a database send to remote encoders, and keeps them to a limit per minute.

The count and the pace are in the database, so they hold for all workers together and outlast a restart. The clock is
the server's, so the workers agree on it, and on when a day ends.

A request may be sent once those before it are paid for: each one postpones that moment by its share of a minute. So
there are no windows, at whose boundary twice as much could be sent, and idle workers save nothing up. Edits may be a
few seconds ahead of that moment, and the rate leaves room for it. So they overtake backfill, and no minute has more
tokens than the limit and those of a single request.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

import sqlalchemy as sa
from sqlalchemy import exc

from pg_semantic import sql
from pg_semantic.database import transaction
from pg_semantic.settings import Settings

_MINUTE = 60.0
_AHEAD_SECONDS = 5.0  # that edits and queries may be ahead of the pace
_MOST_SECONDS = 300.0  # that the pace can be ahead of the clock: after more than that, the clock was set back
_LONGEST_WAIT_SECONDS = 1.0  # before the database is asked again, because others may have sent less than they expected


class _ThreadPriority(threading.local):
    is_backfill = False


class TokenUsage:
    """The `TokenMeter` of one worker's remote encoders. Thread-safe.

    Args:
        engine: The worker's engine.
        settings: The limit per minute.
        wait: Waits for some seconds.

    Attributes:
        billed: How many tokens this worker has sent since it started, without attempts that the server refused.
    """

    def __init__(self, engine: sa.Engine, settings: Settings, *, wait: Callable[[float], object] = time.sleep) -> None:
        self.billed = 0
        self._engine = engine
        self._limit = settings.max_tokens_per_minute
        self._wait = wait
        self._priority = _ThreadPriority()
        self._lock = threading.Lock()
        self._unwritten, self._unpaid = 0, 0

    @property
    def largest_request(self) -> float:
        """See `TokenMeter.largest_request`. No more than edits may be ahead of the pace, so they wait for none."""
        if self._limit is None:
            return math.inf
        return self._limit * _AHEAD_SECONDS / (_MINUTE + _AHEAD_SECONDS)

    @contextlib.contextmanager
    def backfilling(self, is_backfill: bool) -> Iterator[None]:  # noqa: FBT001 - the name says what it is
        """Says whether what this thread sends in the ``with`` block is backfill, which edits overtake."""
        self._priority.is_backfill = is_backfill
        try:
            yield
        finally:
            self._priority.is_backfill = False

    def admit(self, tokens: int) -> None:
        """See `TokenMeter.admit`. Returns at once without a limit. A request larger than the limit is sent, too.

        Raises:
            sqlalchemy.exc.DBAPIError: The database failed.
        """
        if self._limit is None:
            return
        ahead = 0.0 if self._priority.is_backfill else _AHEAD_SECONDS
        while (seconds := self._ask(self._seconds(tokens), ahead)) > 0:
            self._wait(min(seconds, _LONGEST_WAIT_SECONDS))

    def record(self, *, admitted: int, used: int, billed: int) -> None:
        """See `TokenMeter.record`."""
        with self._lock:
            self.billed += billed
            self._unwritten += billed
            self._unpaid += used - admitted

    def settle(self) -> None:
        """See `TokenMeter.settle`. If the database fails, the counts are kept for the next time.

        The vectors have been paid for, so they must not be lost with the count.
        """
        with contextlib.suppress(exc.DBAPIError):
            self.write()

    def write(self) -> None:
        """Adds what was recorded to the counts in the database.

        Raises:
            sqlalchemy.exc.DBAPIError: The database failed. What was recorded isn't lost.
        """
        with self._lock:
            tokens, unpaid = self._unwritten, self._unpaid
            self._unwritten, self._unpaid = 0, 0
        if not tokens and not unpaid:
            return
        try:
            with self._begin() as connection:
                seconds = 0.0 if self._limit is None else self._seconds(unpaid)
                binds = {"tokens": tokens, "seconds": seconds, "most": _MOST_SECONDS}
                connection.execute(sql.statement("token_usage", "record"), binds)
        except exc.DBAPIError:
            with self._lock:
                self._unwritten += tokens
                self._unpaid += unpaid
            raise

    def _ask(self, seconds: float, ahead: float) -> float:
        """Returns 0 if a request is admitted, else the seconds until it may be."""
        binds = {"seconds": seconds, "ahead": ahead, "most": _MOST_SECONDS}
        try:
            with self._begin() as connection:
                return float(connection.execute(sql.statement("token_usage", "admit"), binds).scalar_one())
        except exc.DBAPIError as error:
            if not transaction.is_busy(error):
                raise
            return _LONGEST_WAIT_SECONDS

    def _seconds(self, tokens: int) -> float:
        """Returns what a number of tokens takes, at a rate that leaves room for what is ahead of the pace."""
        assert self._limit is not None  # noqa: S101 - called with a limit only
        return tokens / self._limit * (_MINUTE + _AHEAD_SECONDS)

    @contextlib.contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        """Begins a transaction that doesn't wait for the disk, because all workers update the same row."""
        with transaction.begin(self._engine) as connection:
            connection.execute(sql.statement("token_usage", "lazily"))
            yield connection


def today(connection: sa.Connection) -> int:
    """Returns how many tokens the workers of the database have sent to remote encoders today (UTC)."""
    tokens: int = connection.execute(sql.statement("token_usage", "today")).scalar_one()
    return tokens


def today_if_readable(connection: sa.Connection) -> int | None:
    """Returns the same, or None for a role that may not know."""
    return today(connection) if connection.scalar(sql.statement("token_usage", "may_read")) else None
