"""Whose turn it is: edits go ahead of backfill, and no semantic index keeps another waiting."""

from collections.abc import Sequence

from pg_semantic import jobqueue
from pg_semantic.jobqueue import Claimable

_BACKFILL_EVERY = 4  # one batch in so many is of backfill, however many edits wait


class Scheduler:
    """Picks the generation to serve next; the one that was served longest ago has the turn."""

    def __init__(self) -> None:
        self._turn = 0
        self._served: dict[Claimable, int] = {}

    def pick(self, ready: Sequence[Claimable]) -> Claimable:
        """One of those that have jobs; there must be one."""
        self._turn += 1
        edits = [one for one in ready if one.priority == jobqueue.EDIT]
        backfill = [one for one in ready if one.priority != jobqueue.EDIT]
        late = not edits or (backfill and self._turn % _BACKFILL_EVERY == 0)
        chosen = min(backfill if late else edits, key=lambda one: self._served.get(one, 0))
        self._served[chosen] = self._turn
        return chosen
