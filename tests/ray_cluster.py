"""A Ray cluster of one machine, for tests and the chaos benchmark: ``python -m tests.ray_cluster FOLDER CPUS``.

It has a process of its own, because Ray keeps threads, handlers of signals and settings in the process that starts it.
It prints its address and ends when its standard input does.
"""

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_END_SECONDS = 30
_SHORT = Path("/tmp")  # noqa: S108 - the paths of sockets must be short


@dataclass(frozen=True)
class Cluster:
    """A cluster: what a client must have in its environment, its process, and the folder with its logs."""

    environment: dict[str, str]
    process: psutil.Process
    folder: str

    def actors(self) -> list[psutil.Process]:
        """The processes of actors that work."""
        return [one for one in self.process.children(recursive=True) if _title(one).startswith("ray::RayActor")]


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()
    return ""


@contextlib.contextmanager
def running(*, cpus: int = 2) -> Iterator[Cluster]:
    """Runs a cluster that only holders of its token can use. None of its processes or files is left after the block."""
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "tests.ray_cluster"]
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir=_SHORT, ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [*command, folder, str(cpus)],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        family = psutil.Process(process.pid)
        try:
            address = process.stdout.readline().strip()
            assert address, "Ray did not start."
            yield Cluster(environment | {"RAY_ADDRESS": address}, family, folder)
        finally:
            _end(process, family.children(recursive=True))


def _end(process: "subprocess.Popen[str]", known: list[psutil.Process]) -> None:
    """Asks the cluster to end, then kills what is left of it."""
    assert process.stdin
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)
    process.kill()
    for one in known:
        with contextlib.suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(known, timeout=_END_SECONDS)


def _main() -> None:
    import ray

    folder, cpus = sys.argv[1:]
    ray.init(num_cpus=int(cpus), include_dashboard=False, _temp_dir=folder, object_store_memory=100_000_000)
    sys.stdout.write(f"{ray.get_runtime_context().gcs_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    _main()
