"""Pauses backfill while the server writes too much WAL, or its standbys or replication slots fall behind.

Backfill with remote encoders is also paused once the budget of the day is spent.
"""

import logging
import time

import sqlalchemy as sa

from pg_semantic import sql
from pg_semantic.settings import Settings
from pg_semantic.worker import daily_budget, token_usage

log = logging.getLogger("pg_semantic.worker")

_LOOK_SECONDS = 0.25
_LONGEST_SECONDS = 60.0  # that a burst of WAL, as of an index build, pauses backfill for
_LOG_SECONDS = 60.0  # between two pauses in the log: a limit on WAL pauses backfill after almost every batch
_MB = 1_000_000


class Throttle:
    """Decides whether a worker may do backfill. Edits are never paused.

    Args:
        settings: The limits.

    Attributes:
        server_reason: Why all backfill is paused, for an operator; None if it isn't.
        budget_reason: Why backfill with remote encoders is paused; None if it isn't.
        tokens_left: How many tokens may still be sent to remote encoders today; None if there is no such limit.

    Raises:
        errors.ConfigurationError: There is a budget in dollars, but no price.
    """

    def __init__(self, settings: Settings) -> None:
        self.server_reason: str | None = None
        self.budget_reason: str | None = None
        self.tokens_left: int | None = None
        self._settings = settings
        self._budget = daily_budget.of(settings)
        self._sent = 0
        self._look_at = 0.0
        self._log, self._budget_log = _PauseLog("backfill"), _PauseLog("backfill with remote encoders")
        self._looked_at = 0.0
        self._wal_bytes: int | None = None
        self._excess = 0.0  # bytes of WAL beyond the limit, which the time to come must make up for

    @property
    def reason(self) -> str | None:
        """Why backfill is paused, in part or in full; None if it isn't."""
        return "; ".join(one for one in (self.server_reason, self.budget_reason) if one is not None) or None

    @property
    def is_limited(self) -> bool:
        """Whether any limit on the server's load is set."""
        limits = self._settings
        return any(
            one is not None for one in (limits.max_wal_mb_s, limits.max_replay_lag_seconds, limits.max_slot_wal_mb)
        )

    def pauses(self, *, is_remote: bool) -> bool:
        """Returns whether backfill is paused, of an index with a remote encoder or with another one."""
        return self.server_reason is not None or (is_remote and self.budget_reason is not None)

    def look(self, connection: sa.Connection, *, sent: int = 0) -> None:
        """Looks at the server, and at the tokens of the day, four times a second, as far as limits are set.

        Args:
            connection: A connection of the worker.
            sent: How many tokens this worker has sent: when there are more, the tokens of the day are read at once.
        """
        now = time.monotonic()
        is_due = now >= self._look_at
        if is_due:
            self._look_at = now + _LOOK_SECONDS
        if self.is_limited and is_due:
            found = connection.execute(sql.statement("registry", "replication")).one()
            reason = self._too_much_wal(int(found.wal_bytes), now) or self._lag(found) or self._retained(found)
            self._log.note(reason, now)
            self.server_reason = reason
        if self._budget is not None and (is_due or sent != self._sent):
            spent = token_usage.today(connection)
            reason = self._budget.overspent(spent)
            self._budget_log.note(reason, now)
            self.budget_reason, self.tokens_left, self._sent = reason, max(0, self._budget.tokens - spent), sent

    def _too_much_wal(self, wal_bytes: int, now: float) -> str | None:
        if (limit := self._settings.max_wal_mb_s) is None:
            return None
        if self._wal_bytes is not None:
            written, room = wal_bytes - self._wal_bytes, limit * _MB * (now - self._looked_at)
            self._excess = min(max(0.0, self._excess + written - room), limit * _MB * _LONGEST_SECONDS)
        self._wal_bytes, self._looked_at = wal_bytes, now
        return f"the server writes more WAL than {limit:g} MB/s (max_wal_mb_s)" if self._excess else None

    def _lag(self, found: sa.Row[tuple[object, ...]]) -> str | None:
        if (limit := self._settings.max_replay_lag_seconds) is None:
            return None
        if found.hidden:
            return (
                "this role can't see how far the standbys are behind, so max_replay_lag_seconds can't be kept: "
                "GRANT pg_read_all_stats to it"
            )
        if found.lag is None or found.lag <= limit:
            return None
        return f"standby {found.standby} is {found.lag:.0f} s behind (max_replay_lag_seconds = {limit:g})"

    def _retained(self, found: sa.Row[tuple[object, ...]]) -> str | None:
        limit = self._settings.max_slot_wal_mb
        if limit is None or found.retained is None or found.retained <= limit * _MB:
            return None
        retained = found.retained / _MB
        return f"replication slot {found.slot} retains {retained:.0f} MB of WAL (max_slot_wal_mb = {limit:g})"


class _PauseLog:
    """Logs pauses of a kind of backfill: at most one in a minute, and the end of each one in the log."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._logged = False
        self._log_at = 0.0

    def note(self, reason: str | None, now: float) -> None:
        """Logs the reason for a pause, or its end."""
        if reason and not self._logged and now >= self._log_at:
            log.info("%s is paused: %s", self._what, reason, extra={"event": "backfill_paused"})
            self._logged, self._log_at = True, now + _LOG_SECONDS
        elif self._logged and not reason:
            log.info("%s continues", self._what, extra={"event": "backfill_resumed"})
            self._logged = False
