"""Keeps Python's garbage collector out of the way of a process that only syncs.

The settings are those of the whole process, so it is the process that applies them, not the `Worker`.
"""

import contextlib
import gc
from collections.abc import Iterator

_OBJECTS, _YOUNG_RUNS, _OLDER_RUNS = 20_000, 20, 100


def collect_rarely() -> None:
    """Collects garbage after 20,000 new objects instead of 700.

    All objects of a batch live until it is written, so looking through them finds nothing, and took a fifth of the
    worker's time (``make bench-feed``).
    """
    gc.set_threshold(_OBJECTS, _YOUNG_RUNS, _OLDER_RUNS)


@contextlib.contextmanager
def hiding_what_is_loaded() -> Iterator[None]:
    """Hides from the garbage collector what the block loads, such as an encoder: a full run would take .3 seconds.

    Also collects what was hidden earlier and is no longer used, and the hundred megabytes of garbage that loading an
    encoder leaves.
    """
    gc.unfreeze()
    gc.collect()
    try:
        yield
        gc.collect()
    finally:  # even if loading failed: the other encoders were unfrozen too
        gc.freeze()
