"""Batches computed side by side, each by its share of the cores.

When all cores work on one batch, each step waits for the slowest of them, which costs most where something else runs
on the machine. Side by side, batches wait for nobody.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pg_semantic.encoders.per_process import PerProcess

T = TypeVar("T")
R = TypeVar("R")

_MOST = 16
_thread = threading.local()


class CpuStreams:
    """Threads, one for each core."""

    def __init__(self) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.count = min(cores, _MOST)
        self._threads = PerProcess(lambda: ThreadPoolExecutor(self.count, "encoder", initializer=_mark))

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in order."""
        return self._threads.get().map(work, items)


def is_one() -> bool:
    """Whether the calling thread is one of several that share the cores."""
    return getattr(_thread, "is_one", False)


def _mark() -> None:
    _thread.is_one = True
