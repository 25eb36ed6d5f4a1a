"""Decides how much to write in one transaction, so that source rows are locked for about the same time in each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pg_semantic.worker.batch import BatchRow

_SPEED, _INDEXED_SPEED = 2_560.0, 1_280.0  # chunks and receipts per second, until a transaction was timed
_FASTER_AT_MOST = 2.0  # times the previous estimate
_ROUND_TRIPS = 10  # of a transaction
_LONGER_AT_MOST = 1.1  # times the shortest round trip so far
_LEAST_WORK = 0.1  # of the time of a transaction
_FULL = 0.5  # of what was allowed; a smaller transaction says little about the speed


def chunks_of(rows: Sequence[BatchRow]) -> int:
    """Returns how many chunks and receipts are written for rows. Each row has one receipt."""
    return sum(1 + len(row.new) for row in rows)


@dataclass(slots=True)
class WriteSizer:
    """Estimates how fast the chunks of one generation are written.

    Attributes:
        seconds: How long the work of a transaction should take. Round trips to the server come on top: with fewer
            chunks, they would be as many.
        is_indexed: Whether writes maintain a vector index, which makes them slower.
    """

    seconds: float
    is_indexed: bool = False
    _speeds: dict[bool, float] = field(default_factory=lambda: {False: _SPEED, True: _INDEXED_SPEED})
    _round_trip: float = 0.0

    @property
    def chunks(self) -> int:
        """How many chunks and receipts to write in one transaction."""
        return max(1, round(self._speeds[self.is_indexed] * self.seconds))

    def share(self, rows: Sequence[BatchRow]) -> Sequence[BatchRow]:
        """Returns the first rows, as many as fit in one transaction, but at least one if there are any."""
        most, chunks = self.chunks, 0
        for number, row in enumerate(rows):
            chunks += 1 + len(row.new)
            if number and chunks > most:
                return rows[:number]
        return rows

    def learn_round_trip(self, seconds: float) -> None:
        """Updates the time of a statement that does next to nothing: the shortest so far, which grows slowly."""
        self._round_trip = min(seconds, _LONGER_AT_MOST * self._round_trip) if self._round_trip else seconds

    def learn(self, chunks: int, seconds: float) -> None:
        """Updates the speed with a transaction. A slow one counts at once; a small one doesn't, unless it was slow."""
        work = max(seconds - _ROUND_TRIPS * self._round_trip, _LEAST_WORK * seconds)
        if work > self.seconds or (work > 0 and chunks >= _FULL * self.chunks):
            known = self._speeds[self.is_indexed]
            self._speeds[self.is_indexed] = max(1.0, min(chunks / work, _FASTER_AT_MOST * known))
