"""``pg-semantic worker --devices``: a worker process for each of several devices."""

import logging
import sys
from collections.abc import Mapping, Sequence

import typer

from pg_semantic import settings
from pg_semantic.cli import options
from pg_semantic.encoders.local import devices
from pg_semantic.worker.supervisor import Supervisor

log = logging.getLogger("pg_semantic.supervisor")


def listed(text: str) -> list[str]:
    """The devices of ``cuda:0,cuda:1``; ``all`` is every CUDA device, or the CPU where there is none."""
    if text != "all":
        named = [name.strip() for name in text.split(",")]
        if not all(named):
            raise typer.BadParameter(
                "name them with a comma between, as cuda:0,cuda:1, or say all", param_hint="--devices"
            )
        return named
    if found := devices.cuda():
        return found
    log.warning("torch sees no CUDA device: one worker, on the CPU", extra={"event": "no_device"})
    return ["cpu"]


def run(names: Sequence[str], given: Mapping[str, object], *, once: bool, dsn: str | None) -> int:
    """Runs a worker with the ``given`` options for each device until all have ended; the worst exit code."""
    with options.engine(dsn):
        pass  # what no worker could connect to is said once, and an embedded server is started by one
    environment = {settings.variable("dsn"): dsn} if dsn else {}  # not as an option, which every user's `ps` shows

    def command(device: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "pg_semantic.cli",
            "worker",
            "--supervised",
            "--device",
            device,
            *_as_options(given),
        ]

    return Supervisor(names, command, restart=not once, environment=environment).run()


def _as_options(given: Mapping[str, object]) -> list[str]:
    words: list[str] = []
    for name, value in given.items():
        if value is True:
            words.append(name)
        elif value not in {None, False}:
            words += [name, str(value)]
    return words
