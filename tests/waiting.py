"""The one way in which a test waits for something that it can only look at."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.005  # between looks, so that what is waited for gets the core


def eventually(
    look: Callable[[], T],
    what: str,
    *,
    unless: Callable[[], bool] = lambda: False,
    seconds: float = PATIENCE_SECONDS,
) -> T:
    """Looks until the answer is true, and returns it.

    Args:
        look: Returns something true as soon as it holds.
        what: What the test waits for, for the error: "a worker to sign in".
        unless: Returns whether it can't happen any more, such as ``future.done``: the test then fails at once.
        seconds: How long to wait at most.
    """
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert not unless(), f"Waited in vain for {what}: it can't happen any more."
        assert time.monotonic() < ends, f"Waited {seconds:g} seconds in vain for {what}."
        time.sleep(_PAUSE_SECONDS)
    return found
