"""Signals that ask this process to stop, counted: `Interrupts`."""

import contextlib
import signal

from pg_semantic.worker import unix_signals


class Interrupts:
    """Receives SIGTERM and SIGINT from now on. Create it on the main thread."""

    def __init__(self) -> None:
        self._heard = unix_signals.listen(signal.SIGTERM, signal.SIGINT)
        self.count = 0

    def wait(self, seconds: float) -> int:
        """Waits up to ``seconds`` for the next signal. Returns how many there were so far."""
        self._heard.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            self.count += len(self._heard.recv(1))
        return self.count
