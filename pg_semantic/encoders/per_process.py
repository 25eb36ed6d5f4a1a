"""What a process has of its own: threads and connections do not survive a fork."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Makes a thing when it is first needed, and anew in a process that was forked off."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """This process's."""
        process = os.getpid()
        if process not in self._made:
            self._made.setdefault(process, self._make())  # atomic: of two threads one is first
        return self._made[process]

    @property
    def made(self) -> T | None:
        """This process's, if it was made."""
        return self._made.get(os.getpid())
