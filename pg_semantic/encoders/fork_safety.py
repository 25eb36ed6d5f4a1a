"""Objects that each process must create for itself: threads and connections don't survive a fork."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Creates an object on first use, and again in a forked process."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Returns this process's object, and creates it if necessary."""
        process = os.getpid()
        if process not in self._made:
            self._made.setdefault(process, self._make())  # setdefault is atomic: all threads get the same object
        return self._made[process]

    @property
    def made(self) -> T | None:
        """This process's object, or None if it was never used."""
        return self._made.get(os.getpid())
