"""Helpers for time in benchmarks: waiting with a limit, timing a step, and quantiles."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np


def until(reached: Callable[[], bool], *, seconds: float, what: str = "the end", every_seconds: float = 0.05) -> None:
    """Polls until the condition is true; raises TimeoutError after ``seconds``."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Timed out after {seconds:g} s while waiting until {what}.")
        pause.wait(every_seconds)


def taken(step: Callable[[], object]) -> float:
    """Returns how long a step takes, in seconds."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def quantile(values: Sequence[float], share: float) -> float:
    """Returns the value that a share (0 to 1) of the values doesn't exceed."""
    return float(np.quantile(values, share))
