"""Decides how much text to process at once, so that each batch takes an encoder about the same time."""

from dataclasses import dataclass

from pg_semantic.worker.read_changed_texts import MOST_CHARACTERS

_FEWEST_CHARACTERS = 1_000  # less says little about an encoder's speed
_FASTER_AT_MOST = 4  # times the previous estimate
_SMOOTHING = 0.3
_EDIT_SECONDS = 0.2


@dataclass(slots=True)
class BatchSizer:
    """Estimates the pace of one generation.

    Attributes:
        batch_seconds: How long a batch should take.
        speed: Characters encoded per second.
        characters_per_row: The average length of a row.
    """

    batch_seconds: float
    speed: float = 5_000.0
    characters_per_row: float = 100.0

    @property
    def characters(self) -> int:
        """The target size of a batch, in characters."""
        return self._in(self.batch_seconds)

    @property
    def edit_characters(self) -> int:
        """How many characters of edits to process at a time alongside another batch."""
        return self._in(_EDIT_SECONDS)

    def rows(self, characters: int, *, most: int) -> int:
        """Returns how many rows to claim for about ``characters`` characters, from 1 to ``most``."""
        return max(1, min(most, round(characters / self.characters_per_row)))

    def learn_length(self, rows: int, characters: int) -> None:
        """Updates the average length of a row with the rows of a batch."""
        if rows:
            self.characters_per_row += _SMOOTHING * (max(1, characters / rows) - self.characters_per_row)

    def learn_speed(self, characters: int, seconds: float) -> None:
        """Updates the speed with a batch that was encoded. Ignores small batches, unless they were slow."""
        if seconds > 0 and (characters >= _FEWEST_CHARACTERS or seconds > self.batch_seconds):
            slowest = _FEWEST_CHARACTERS / self.batch_seconds
            self.speed = max(slowest, min(characters / seconds, _FASTER_AT_MOST * self.speed))

    def _in(self, seconds: float) -> int:
        return round(min(max(self.speed * seconds, _FEWEST_CHARACTERS), MOST_CHARACTERS))
