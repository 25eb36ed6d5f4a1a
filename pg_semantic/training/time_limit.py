"""`TimeLimit`: how long training may take, as a promise."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pg_semantic import errors

T = TypeVar("T")

_CAUTION = 1.25  # a machine that is busy for a moment must not break the promise


class TimeLimit:
    """Keeps training within a number of seconds, counted from its creation.

    Args:
        seconds: The limit; None for no limit.
        clock: Returns the time in seconds.
    """

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._started = clock()
        self.reserved = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self._seconds is not None

    def allows(self, seconds: float) -> bool:
        """Returns whether another step of this length fits, before the time that is reserved for writing the result."""
        if self._seconds is None:
            return True
        return self.elapsed + _CAUTION * (seconds + self.reserved) <= self._seconds

    def require_not_over(self, what: str) -> None:
        """Checks that time is left after a part of the work that comes before training.

        Raises:
            errors.ConfigurationError: The time is over, or will be before the result is written.
        """
        if not self.allows(0.0):
            raise errors.ConfigurationError(
                f"seconds={self._seconds:g} is too short: {what} took {self.elapsed:.0f} s here. Allow several times "
                "as much, or train on less."
            )

    def parts(self, given: Sequence[T], *, what: str) -> Iterator[T]:
        """Yields parts of the same size, as long as the others fit into the time too.

        Args:
            given: The parts.
            what: What is done with all of them, for the message.

        Raises:
            errors.ConfigurationError: They don't fit.
        """
        started = self.elapsed
        for number, part in enumerate(given):
            if number:  # the first one is slower, but a promise must not be broken
                self.require((self.elapsed - started) / number * (len(given) - number), what=what)
            yield part

    def require(self, seconds: float, *, what: str) -> None:
        """Checks that the shortest useful training fits.

        Args:
            seconds: How long it takes, measured on its first steps.
            what: What it is, for the message.

        Raises:
            errors.ConfigurationError: It doesn't fit. The message says how long to allow.
        """
        if self.allows(seconds):
            return
        least = self.elapsed + _CAUTION * (seconds + self.reserved)
        raise errors.ConfigurationError(
            f"seconds={self._seconds:g} is too short: {what} takes about {seconds:.0f} s here, with reading and "
            f"writing {least:.0f} s. Allow at least {1.1 * least + 1:.0f} seconds, or train on less."
        )
