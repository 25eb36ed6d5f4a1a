"""Decides how much to write in one transaction, so that source rows are locked for about the same time in each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pg_semantic.worker.batch import BatchRow

# Chunks and receipts per second: until a transaction was timed, and at least. A slower server would get transactions so
# small that they take as long as their round trips, and a worker would write a few rows per second.
_SPEED, _INDEXED_SPEED, _SLOWEST = 2_560.0, 1_280.0, 640.0
_FASTER_AT_MOST = 2.0  # times the previous estimate
_FULL = 0.5  # of what was allowed; a smaller transaction says little about the speed
_FEW = 32  # chunks and receipts, up to which a transaction takes about as long as an empty one
_SMOOTHING = 0.2


def chunks_of(rows: Sequence[BatchRow]) -> int:
    """Returns how many chunks and receipts are written for rows. Each row has one receipt."""
    return sum(1 + len(row.new) for row in rows)


@dataclass(slots=True)
class WriteSizer:
    """Estimates how fast the chunks of one generation are written.

    Attributes:
        seconds: How long the work of a transaction should take. What an empty one would take comes on top.
        is_indexed: Whether writes maintain a vector index, which makes them slower.
    """

    seconds: float
    is_indexed: bool = False
    _speeds: dict[bool, float] = field(default_factory=lambda: {False: _SPEED, True: _INDEXED_SPEED})
    _empty: float = 0.0

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

    def learn(self, chunks: int, seconds: float) -> None:
        """Updates the speed with a transaction: a slow one at once, a small one only what an empty one takes."""
        if chunks < _FEW:
            self._empty += _SMOOTHING * (seconds - self._empty)
            return
        work = max(seconds - self._empty, 1e-9)
        if work > self.seconds or chunks >= _FULL * self.chunks:
            known = self._speeds[self.is_indexed]
            self._speeds[self.is_indexed] = max(_SLOWEST, min(chunks / work, _FASTER_AT_MOST * known))
