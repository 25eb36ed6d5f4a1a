"""``pg-semantic worker --devices``: runs one worker process per device."""

import itertools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence

import typer

from pg_semantic import settings
from pg_semantic.cli import options
from pg_semantic.encoders.local import devices
from pg_semantic.worker.supervisor import Supervisor

_LAST_PORT = 65535

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


def run(
    names: Sequence[str],
    given: Mapping[str, object],
    *,
    once: bool,
    dsn: str | None,
    first_metrics_port: int | None = None,
) -> int:
    """Runs a worker with the ``given`` options on each device until all have ended. Returns the worst exit code.

    The metrics of the first one have the port ``first_metrics_port``, those of each further one the next port.
    """
    ports = _ports(first_metrics_port, len(names))
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
            *_as_options({**given, "--metrics-port": next(ports)}),
        ]

    return Supervisor(names, command, restart=not once, environment=environment).run()


def _ports(first: int | None, count: int) -> Iterator[int | None]:
    """Yields the port of each process, always the same after a restart, or None for each."""
    if first is not None and first + count - 1 > _LAST_PORT:
        raise typer.BadParameter(
            f"{count} processes need the ports {first} to {first + count - 1}, and the last one is {_LAST_PORT}",
            param_hint="--metrics-port",
        )
    return itertools.repeat(None) if first is None else iter(range(first, first + count))


def _as_options(given: Mapping[str, object]) -> list[str]:
    words: list[str] = []
    for name, value in given.items():
        if value is True:
            words.append(name)
        elif value not in {None, False}:
            words += [name, str(value)]
    return words
