"""How much to take on at once: batches that an encoder needs about the same time for."""

from dataclasses import dataclass

from pg_semantic.worker.changed_rows import MOST_CHARACTERS

_FEWEST_CHARACTERS = 1_000  # less says little of an encoder's speed
_FASTER_AT_MOST = 4  # times as fast as was thought before
_SMOOTHING = 0.3
_EDIT_SECONDS = 0.2


@dataclass(slots=True)
class BatchSizer:
    """The pace of one generation: characters a second, and how long its rows are on average."""

    batch_seconds: float
    speed: float = 5_000.0
    characters_per_row: float = 100.0

    @property
    def characters(self) -> int:
        """Characters for a batch."""
        return self._in(self.batch_seconds)

    @property
    def edit_characters(self) -> int:
        """Characters of edits that are seen to at a time beside a batch in hand."""
        return self._in(_EDIT_SECONDS)

    def rows(self, characters: int, *, most: int) -> int:
        """Rows to claim for so many characters."""
        return max(1, min(most, round(characters / self.characters_per_row)))

    def learn_length(self, rows: int, characters: int) -> None:
        """Takes in how long the rows of a batch were."""
        if rows:
            self.characters_per_row += _SMOOTHING * (max(1, characters / rows) - self.characters_per_row)

    def learn_speed(self, characters: int, seconds: float) -> None:
        """Takes in how long so much text was encoded."""
        if seconds > 0 and (characters >= _FEWEST_CHARACTERS or seconds > self.batch_seconds):
            slowest = _FEWEST_CHARACTERS / self.batch_seconds
            self.speed = max(slowest, min(characters / seconds, _FASTER_AT_MOST * self.speed))

    def _in(self, seconds: float) -> int:
        return round(min(max(self.speed * seconds, _FEWEST_CHARACTERS), MOST_CHARACTERS))
