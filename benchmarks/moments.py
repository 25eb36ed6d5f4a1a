"""Time in benchmarks: waiting for something with a limit, how long a step takes, and quantiles of that."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np


def until(reached: Callable[[], bool], *, seconds: float, what: str = "the end", every_seconds: float = 0.05) -> None:
    """Asks until the answer is yes; raises TimeoutError after ``seconds``."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"It took more than {seconds:g} s until {what}.")
        pause.wait(every_seconds)


def taken(step: Callable[[], object]) -> float:
    """Seconds that a step takes."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share (0 to 1) of the values does not exceed."""
    return float(np.quantile(values, share))
