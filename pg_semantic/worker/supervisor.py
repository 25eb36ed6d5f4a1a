"""Several worker processes on one machine, one a device, kept going by a process that only watches them.

A worker ends with its supervisor, however that ends: each has a pipe from it as standard input, and stops as at SIGTERM
when the pipe closes. The kernel closes it for a supervisor that was killed, on any system; the other way,
PR_SET_PDEATHSIG, is Linux's alone and has to be asked for between fork and exec.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from pg_semantic.worker import signals

log = logging.getLogger("pg_semantic.supervisor")

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0
_GOOD_RUN_SECONDS = 60.0

_TO_STOP = {signal.SIGTERM, signal.SIGINT}


def wait_seconds(before: float, *, ran_seconds: float) -> float:
    """How long to wait before a worker that died is started again, given the wait before and how long it then ran.

    Twice as long each time, half a minute at most; short again after a good run.
    """
    good = not before or ran_seconds >= _GOOD_RUN_SECONDS
    return _FIRST_WAIT_SECONDS if good else min(2 * before, _LONGEST_WAIT_SECONDS)


class Supervisor:
    """Runs ``command(device)`` for each device; ``run`` is the whole of its life.

    Each command is given a pipe as standard input, and has to end when that closes. What ends is started again, with
    back-off, if ``restart``. ``environment`` comes on top of this process's own.
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
        self._told = 0

    def run(self) -> int:
        """Until all have ended: that is after SIGTERM or SIGINT, or when nothing is started again.

        The first signal has them finish what is in hand, a second give it back at once, a third kills them. Returns the
        worst exit code of those that ended for good, 128 and the signal for one that was killed.
        """
        heard = signals.listen(signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        for child in self._children:
            child.start()
        while any(child.is_running or child.due for child in self._children):
            self._obey(self._hear(heard))
            self._look_after()
        return max((child.code for child in self._children), default=0)

    def _hear(self, heard: socket.socket) -> int | None:
        """The next signal, or None when a worker is due before one comes."""
        due = [child.due for child in self._children if child.due]
        heard.settimeout(max(0.0, min(due) - time.monotonic()) if due else None)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            return heard.recv(1)[0]
        return None

    def _obey(self, number: int | None) -> None:
        if number not in _TO_STOP:
            return
        self._told += 1
        for child in self._children:
            child.due = None
            # Never SIGINT, which a worker that is still starting would answer with a traceback.
            child.send(signal.SIGTERM if self._told <= 2 else signal.SIGKILL)  # noqa: PLR2004 - the third

    def _look_after(self) -> None:
        for child in self._children:
            if child.due and child.due <= time.monotonic():
                child.start()
            elif (code := child.ended()) is not None:
                self._bury(child, code)

    def _bury(self, child: "_Child", code: int) -> None:
        if self._told and code == -signal.SIGTERM:
            return  # it was still starting, and had nothing in hand
        if self._restart and not self._told:
            wait = child.start_later()
            fields = {"event": "worker_died", "device": child.device, "code": code}
            log.warning("worker on %s ended with %d, again in %.1f s", child.device, code, wait, extra=fields)
            return
        child.code = code if code >= 0 else 128 - code


class _Child:
    """The place of one worker: its process of now, or when the next one is due."""

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
        """Whether there is a process whose end has not been seen."""
        return self._process is not None

    def start(self) -> None:
        """Starts a process, in a group of its own: Ctrl-C at a terminal reaches it by way of the supervisor alone."""
        self.due, self._started = None, time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            self._command, env=self._environment, stdin=subprocess.PIPE, process_group=0
        )
        fields = {"event": "worker_started", "device": self.device, "pid": self._process.pid}
        log.info("worker on %s is process %d", self.device, self._process.pid, extra=fields)

    def start_later(self) -> float:
        """Has the next process started after a while; how many seconds that is."""
        self._waited = wait_seconds(self._waited, ran_seconds=time.monotonic() - self._started)
        self.due = time.monotonic() + self._waited
        return self._waited

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if there is one."""
        if self._process:
            self._process.send_signal(number)

    def ended(self) -> int | None:
        """The exit code of a process that has ended since one was asked last."""
        if not self._process or (code := self._process.poll()) is None:
            return None
        with self._process:  # closes the pipe
            self._process = None
        return code
