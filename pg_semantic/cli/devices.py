"""``pg-semantic worker --devices``: runs one worker process per device."""

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
    """Returns the devices that ``--devices`` names.

    Args:
        text: Torch devices separated by commas, such as ``cuda:0,cuda:1``; or ``all``, which means every CUDA device,
            or the CPU if there is none.

    Raises:
        typer.BadParameter: A name is empty.
    """
    if text != "all":
        named = [name.strip() for name in text.split(",")]
        if not all(named):
            raise typer.BadParameter(
                "separate devices with commas, as in cuda:0,cuda:1, or pass all", param_hint="--devices"
            )
        return named
    if found := devices.cuda():
        return found
    log.warning("torch finds no CUDA device: starting one worker, on the CPU", extra={"event": "no_device"})
    return ["cpu"]


def run(names: Sequence[str], given: Mapping[str, object], *, once: bool, dsn: str | None) -> int:
    """Runs a worker with the ``given`` options on each device until all have ended. Returns the worst exit code."""
    with options.engine(dsn):
        pass  # connect once here: one error if that fails, and only one process starts an embedded server
    environment = {settings.variable("dsn"): dsn} if dsn else {}  # not an option: `ps` shows those to every user

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
