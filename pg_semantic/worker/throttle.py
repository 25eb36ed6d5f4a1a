"""Pauses backfill while the server writes too much WAL, or its standbys or replication slots fall behind."""

import logging
import time

import sqlalchemy as sa

from pg_semantic import sql
from pg_semantic.settings import Settings

log = logging.getLogger("pg_semantic.worker")

_LOOK_SECONDS = 0.25
_LONGEST_SECONDS = 60.0  # that a burst of WAL, as of an index build, pauses backfill for
_MB = 1_000_000


class Throttle:
    """Decides whether a worker may do backfill. Edits are never paused.

    Attributes:
        reason: Why backfill is paused, for an operator; None if it isn't.
    """

    def __init__(self, settings: Settings) -> None:
        self.reason: str | None = None
        self._settings = settings
        self._look_at = 0.0
        self._looked_at = 0.0
        self._wal_bytes: int | None = None
        self._excess = 0.0  # bytes of WAL beyond the limit, which the time to come must make up for

    @property
    def is_limited(self) -> bool:
        """Whether any limit is set."""
        limits = self._settings
        return any(
            one is not None for one in (limits.max_wal_mb_s, limits.max_replay_lag_seconds, limits.max_slot_wal_mb)
        )

    def is_paused(self, connection: sa.Connection) -> bool:
        """Looks at the server four times a second, if a limit is set, and returns whether backfill is paused."""
        now = time.monotonic()
        if not self.is_limited or now < self._look_at:
            return self.reason is not None
        self._look_at = now + _LOOK_SECONDS
        found = connection.execute(sql.statement("registry", "replication")).one()
        reason = self._too_much_wal(int(found.wal_bytes), now) or self._lag(found) or self._retained(found)
        if (reason is None) != (self.reason is None):
            said = f"backfill is paused: {reason}" if reason else "backfill continues"
            log.info(said, extra={"event": "backfill_paused" if reason else "backfill_resumed"})
        self.reason = reason
        return reason is not None

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
