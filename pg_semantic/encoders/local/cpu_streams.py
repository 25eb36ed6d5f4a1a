"""Computes batches in parallel streams, each on a share of the cores.

If all cores work on one batch, every step waits for the slowest core, which is expensive when the machine runs other
programs too. Parallel streams don't wait for each other.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pg_semantic.encoders.fork_safety import PerProcess

T = TypeVar("T")
R = TypeVar("R")

_MOST = 16
_thread = threading.local()


class CpuStreams:
    """A pool with one thread per core, up to 16."""

    def __init__(self) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.count = min(cores, _MOST)
        self._threads = PerProcess(lambda: ThreadPoolExecutor(self.count, "encoder", initializer=_mark))

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Applies ``work`` to each item in parallel, and yields the results in order."""
        return self._threads.get().map(work, items)


def is_one() -> bool:
    """Returns whether the calling thread belongs to a `CpuStreams` pool."""
    return getattr(_thread, "is_one", False)


def _mark() -> None:
    _thread.is_one = True
