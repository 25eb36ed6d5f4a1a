"""Decides whose turn it is: edits go before backfill, and no semantic index starves another."""

from collections.abc import Sequence

from pg_semantic import jobqueue
from pg_semantic.jobqueue import Claimable

_BACKFILL_EVERY = 4  # every fourth batch is backfill, however many edits are waiting


class Scheduler:
    """Picks the generation to serve next: the one that was served longest ago."""

    def __init__(self) -> None:
        self._turn = 0
        self._served: dict[Claimable, int] = {}

    def pick(self, ready: Sequence[Claimable]) -> Claimable:
        """Returns the next turn from ``ready``, which must not be empty."""
        self._turn += 1
        edits = [one for one in ready if one.priority == jobqueue.EDIT]
        backfill = [one for one in ready if one.priority != jobqueue.EDIT]
        late = not edits or (backfill and self._turn % _BACKFILL_EVERY == 0)
        chosen = min(backfill if late else edits, key=lambda one: self._served.get(one, 0))
        self._served[chosen] = self._turn
        return chosen
