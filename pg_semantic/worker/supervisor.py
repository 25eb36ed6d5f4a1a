"""Runs several worker processes on one machine, one per device, and restarts those that die.

A worker ends with its supervisor, however that ends. Each worker has a pipe from the supervisor as standard input, and
stops as at SIGTERM when the pipe closes. The kernel closes it even for a supervisor that was killed, on any system. The
alternative, PR_SET_PDEATHSIG, exists only on Linux and must be set between fork and exec.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from pg_semantic.worker import unix_signals

log = logging.getLogger("pg_semantic.supervisor")

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0
_GOOD_RUN_SECONDS = 60.0
_LOOK_SECONDS = 1.0

_TO_STOP = {signal.SIGTERM, signal.SIGINT}


def wait_seconds(before: float, *, ran_seconds: float) -> float:
    """Returns how long to wait before restarting a worker that died.

    The wait doubles each time, up to half a minute, and starts over after a run of at least a minute.

    Args:
        before: The previous wait, in seconds; 0 if there was none.
        ran_seconds: How long the worker then ran.
    """
    good = not before or ran_seconds >= _GOOD_RUN_SECONDS
    return _FIRST_WAIT_SECONDS if good else min(2 * before, _LONGEST_WAIT_SECONDS)


class Supervisor:
    """Runs a command for each of several devices.

    Args:
        devices: The devices, one process each.
        command: Returns the command for a device. It gets a pipe as standard input, and must end when the pipe closes.
        restart: Whether to restart processes that end, with back-off.
        environment: Added to the environment of this process.
    """

    def __init__(
        self,
        devices: Sequence[str],
        command: Callable[[str], Sequence[str]],
        *,
        restart: bool,
        environment: Mapping[str, str],
    ) -> None:
        self._children = [_Child(device, command(device), environment) for device in devices]
        self._restart = restart
        self._signals = 0
        self._stopping = False
        self._last_death: str | None = None
        self._look_at = 0.0

    @property
    def last_death(self) -> str | None:
        """How the last process that was restarted had ended; None if none was."""
        return self._last_death

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal asked the processes to stop."""
        return self._signals > 0

    def run(self, until: Callable[[], bool] | None = None) -> int:
        """Runs until all processes have ended: after SIGTERM or SIGINT, or when none is restarted.

        The first signal asks them to finish the work in progress, the second to give it back at once, and the third
        kills them.

        Args:
            until: Called about once a second; when it returns True, the processes finish the work in progress and end.

        Returns:
            The worst exit code of the processes; for one that was killed, 128 plus the signal's number.
        """
        heard = unix_signals.listen(signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        for child in self._children:
            child.start()
        while any(child.is_running or child.due for child in self._children):
            self._obey(self._hear(heard, until))
            if until is not None and self._is_time_to_look() and until():
                self._stop()
            self._look_after()
        return max((child.code for child in self._children), default=0)

    def _hear(self, heard: socket.socket, until: Callable[[], bool] | None) -> int | None:
        """Returns the next signal, or None if a worker is due, or ``until`` should be called, before one arrives."""
        now = time.monotonic()
        due = [child.due for child in self._children if child.due]
        if until is not None and not self._stopping:
            due.append(self._look_at)
        heard.settimeout(max(0.0, min(due) - now) if due else None)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            return heard.recv(1)[0]
        return None

    def _is_time_to_look(self) -> bool:
        now = time.monotonic()
        if self._stopping or now < self._look_at:
            return False
        self._look_at = now + _LOOK_SECONDS
        return True

    def _obey(self, number: int | None) -> None:
        if number not in _TO_STOP:
            return
        self._signals += 1
        self._stop(signal.SIGTERM if self._signals <= 2 else signal.SIGKILL)  # noqa: PLR2004 - the third signal

    def _stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends a signal to all processes and restarts none. Never SIGINT: one that starts would print a traceback."""
        self._stopping = True
        for child in self._children:
            child.due = None
            child.send(number)

    def _look_after(self) -> None:
        for child in self._children:
            if child.due and child.due <= time.monotonic():
                child.start()
            elif (code := child.ended()) is not None:
                self._bury(child, code)

    def _bury(self, child: "_Child", code: int) -> None:
        if self._stopping and code == -signal.SIGTERM:
            return  # it was still starting and had claimed nothing
        if self._restart and not self._stopping:
            wait = child.start_later()
            self._last_death = f"the worker on {child.device} exited with {code}. Its log says why."
            fields = {"event": "worker_died", "device": child.device, "code": code}
            log.warning("worker on %s exited with %d, restarting in %.1f s", child.device, code, wait, extra=fields)
            return
        child.code = code if code >= 0 else 128 - code


class _Child:
    """The slot of one worker: its current process, or the time when the next one is due."""

    def __init__(self, device: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.device = device
        self.due: float | None = None
        self.code = 0
        self._command = command
        self._environment = os.environ | environment
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._waited = 0.0

    @property
    def is_running(self) -> bool:
        """Whether there is a process whose end hasn't been noticed."""
        return self._process is not None

    def start(self) -> None:
        """Starts a process in its own process group, so that Ctrl-C at a terminal only reaches the supervisor."""
        self.due, self._started = None, time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            self._command, env=self._environment, stdin=subprocess.PIPE, process_group=0
        )
        fields = {"event": "worker_started", "device": self.device, "pid": self._process.pid}
        log.info("worker on %s started as process %d", self.device, self._process.pid, extra=fields)

    def start_later(self) -> float:
        """Schedules the next process, and returns in how many seconds it is due."""
        self._waited = wait_seconds(self._waited, ran_seconds=time.monotonic() - self._started)
        self.due = time.monotonic() + self._waited
        return self._waited

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if there is one."""
        if self._process:
            self._process.send_signal(number)

    def ended(self) -> int | None:
        """Returns the exit code of a process that has ended since the last call, or None."""
        if not self._process or (code := self._process.poll()) is None:
            return None
        with self._process:  # closes the pipe
            self._process = None
        return code
