"""How much to take on at once: batches and slices that an encoder needs about the same time for."""

from dataclasses import dataclass

from pg_semantic.sync.source import MOST_CHARACTERS

_FEWEST_CHARACTERS = 1_000  # less says little of an encoder's speed
_FASTER_AT_MOST = 4  # times as fast as was thought before
_SMOOTHING = 0.3
_SLICE_SECONDS = 0.2
_SLOW, _LARGER = 1.5, 1.25  # a slice that took so many times too long; so many times larger is the next


@dataclass(slots=True)
class Pace:
    """The pace of one generation: characters a second, characters for a slice, and how long its rows are on average.

    A slice is what is encoded before looking whether there is something more urgent.
    """

    batch_seconds: float
    speed: float = 20_000.0
    characters_per_row: float = 100.0
    slice_characters: int = 4 * _FEWEST_CHARACTERS

    @property
    def characters(self) -> int:
        """Characters for a batch."""
        return round(min(max(self.speed * self.batch_seconds, _FEWEST_CHARACTERS), MOST_CHARACTERS))

    def rows(self, characters: int, *, most: int) -> int:
        """Rows to claim for so many characters."""
        return max(1, min(most, round(characters / self.characters_per_row)))

    def learn_length(self, rows: int, characters: int) -> None:
        """Takes in how long the rows of a batch were."""
        if rows:
            self.characters_per_row += _SMOOTHING * (max(1, characters / rows) - self.characters_per_row)

    def learn_slice(self, characters: int, seconds: float) -> None:
        """Takes in how long a slice was encoded: the next is larger as long as that is quick, smaller when it is not.

        Not in proportion to the speed: an encoder that takes as long for little text as for much is to get much.
        """
        if seconds > _SLOW * _SLICE_SECONDS:
            fitting = round(self.slice_characters * _SLICE_SECONDS / seconds)
            self.slice_characters = max(fitting, self.slice_characters // 2, _FEWEST_CHARACTERS)
        elif characters >= self.slice_characters / 2:
            self.slice_characters = min(round(self.slice_characters * _LARGER), MOST_CHARACTERS)

    def learn_speed(self, characters: int, seconds: float) -> None:
        """Takes in how long so much text was encoded."""
        if seconds > 0 and (characters >= _FEWEST_CHARACTERS or seconds > self.batch_seconds):
            slowest = _FEWEST_CHARACTERS / self.batch_seconds
            self.speed = max(slowest, min(characters / seconds, _FASTER_AT_MOST * self.speed))
