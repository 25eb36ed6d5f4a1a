"""A lock whose waiters take turns: `TurnLock`."""

import threading


class TurnLock:
    """A lock that a waiting thread gets before its last holder gets it again. `threading.Lock` doesn't promise that."""

    def __init__(self) -> None:
        self._turn = threading.Lock()  # held by the thread that gets the lock next
        self._lock = threading.Lock()

    def acquire(self, *, seconds: float = -1) -> bool:
        """Waits for the lock, for up to ``seconds`` unless negative. Returns whether this thread has it now."""
        with self._turn:
            return self._lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
