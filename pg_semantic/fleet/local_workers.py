"""Workers as processes on this machine, one per device: `LocalWorkers`."""

import sys
from collections.abc import Callable, Mapping, Sequence

from pg_semantic.worker.supervisor import Supervisor


class LocalWorkers:
    """Runs a worker process for each device, which serves one semantic index and builds nothing.

    Args:
        devices: Torch devices, such as ``cuda:0``.
        index: The name of the index, with its schema.
        environment: Settings of the workers as variables, with the database: the arguments of a process aren't secret.
        verbose: Whether workers log their progress.
    """

    engine = "local"

    def __init__(
        self, devices: Sequence[str], *, index: str, environment: Mapping[str, str], verbose: bool = False
    ) -> None:
        self.count = len(devices)
        options = ["--index", index, "--rows-only", "--supervised", *(["--verbose"] if verbose else [])]
        command = [sys.executable, "-m", "pg_semantic.cli", "worker", *options, "--device"]
        self._supervisor = Supervisor(devices, lambda device: [*command, device], restart=True, environment=environment)

    @property
    def failure(self) -> str | None:
        """How the last worker that ended did; None if none ended."""
        return self._supervisor.last_death

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal stopped the workers."""
        return self._supervisor.was_interrupted

    def run(self, until: Callable[[], bool]) -> None:
        """Runs the workers, and restarts those that die, until ``until`` returns True or a signal arrives."""
        self._supervisor.run(until)
