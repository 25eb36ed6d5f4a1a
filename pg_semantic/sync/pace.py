"""How much to take on at once: batches that an encoder needs about the same time for, so that edits never wait long."""

from dataclasses import dataclass

from pg_semantic.sync.source import MOST_CHARACTERS

_FEWEST_CHARACTERS = 1_000  # less says little of an encoder's speed
_FASTER_AT_MOST = 4  # times as much as the batch before
_SMOOTHING = 0.3


@dataclass(slots=True)
class Pace:
    """The pace of one generation: characters for a batch, and how long its rows are on average."""

    batch_seconds: float
    characters: int = 4 * _FEWEST_CHARACTERS
    characters_per_row: float = 100.0

    def rows(self, most: int) -> int:
        """Rows to claim for the next batch."""
        return max(1, min(most, round(self.characters / self.characters_per_row)))

    def learn_length(self, rows: int, characters: int) -> None:
        """Takes in how long the rows of a batch were."""
        if rows:
            self.characters_per_row += _SMOOTHING * (max(1, characters / rows) - self.characters_per_row)

    def learn_speed(self, characters: int, seconds: float) -> None:
        """Takes in how long so much text was encoded."""
        if seconds > 0 and (characters >= _FEWEST_CHARACTERS or seconds > self.batch_seconds):
            fitting = min(characters * self.batch_seconds / seconds, _FASTER_AT_MOST * self.characters)
            self.characters = round(min(max(fitting, _FEWEST_CHARACTERS), MOST_CHARACTERS))
