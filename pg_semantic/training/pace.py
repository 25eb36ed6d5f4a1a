"""`Pace`: counts the steps of training, times the first ones, and stops training that cannot end in time."""

from collections.abc import Callable
from typing import Any, TypeAlias

from pg_semantic.training.time_limit import TimeLimit

OnStep: TypeAlias = Callable[[int, int], Any]
"""Called after each step, with how many steps are done and how many are planned at most."""

_TIMED = 6  # steps; the first one, which is slower, is not counted


class Pace:
    """The steps of training, which all take about the same time.

    Args:
        limit: How long training may take.
        least: How many steps the shortest useful training has.
        planned: How many steps are planned at most.
        on_step: See `OnStep`.
        before: How many steps were done before training was resumed. They don't count as the shortest training.
    """

    def __init__(self, limit: TimeLimit, *, least: int, planned: int, on_step: OnStep, before: int = 0) -> None:
        self.done = before
        self._before = before
        self._limit = limit
        self._least = least
        self._planned = planned
        self._on_step = on_step
        self._first = 0.0

    def step(self) -> None:
        """Counts a step.

        Raises:
            errors.ConfigurationError: The time limit is too short for any useful training.
        """
        self.done += 1
        timed = self.done - self._before
        if timed == 1:
            self._first = self._limit.elapsed
        if timed == (last := min(_TIMED, self._least)) > 1:
            each = (self._limit.elapsed - self._first) / (timed - 1)
            self._limit.require(each * (self._least - timed), what="one epoch")
        elif last <= timed <= self._least:  # later, a caller with something to keep ends training by itself
            self._limit.require_not_over(f"reading and {timed} of the first epoch's {self._least} steps")
        self._on_step(self.done, self._planned)
