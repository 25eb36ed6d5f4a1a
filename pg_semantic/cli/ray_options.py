"""Options of ``pg-semantic backfill --engine ray``: `read` checks them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from pg_semantic import errors, settings
from pg_semantic.fleet import ray_workers
from pg_semantic.fleet.ray_workers import Placement

Address = Annotated[str | None, typer.Option(help="ray: the cluster. Default: $RAY_ADDRESS, or one on this machine.")]
Count = Annotated[
    str | None,
    typer.Option("--workers", help="ray: least:most workers, as there is work for, or a number. Default: 1."),
]
Gpus = Annotated[float | None, typer.Option(help="ray: GPUs of each worker; 0.5 if two share one. Default: 0.", min=0)]
Cpus = Annotated[float | None, typer.Option(help="ray: CPUs of each worker, and its threads. Default: 1.", min=0.01)]
RuntimeEnv = Annotated[
    str | None, typer.Option(help="ray: the runtime environment of the workers, as JSON or a file with JSON.")
]

_LIMITS = re.compile(r"([1-9][0-9]{0,5})(?::([1-9][0-9]{0,5}))?")
_SECRETS = ("dsn", "remote_api_key")


@dataclass(frozen=True, slots=True)
class RayGiven:
    """The options as a person gave them; None for those that were left out."""

    address: str | None = None
    workers: str | None = None
    gpus: float | None = None
    cpus: float | None = None
    runtime_env: str | None = field(default=None, repr=False)

    @property
    def first(self) -> str:
        """The first option that was given."""
        names = ("--address", "--workers", "--gpus-per-worker", "--cpus-per-worker", "--runtime-env")
        values = (self.address, self.workers, self.gpus, self.cpus, self.runtime_env)
        return next((name for name, value in zip(names, values, strict=True) if value is not None), "")


@dataclass(frozen=True, slots=True)
class RayOptions:
    """How many actors Ray should place, and where. The environment can have secrets, so it is not in the repr."""

    address: str
    least: int
    most: int
    gpus: float
    cpus: float
    runtime_env: Mapping[str, Any] = field(repr=False)

    def placement(self, waiting: int | None, *, rows_each: int) -> Placement:
        """Returns where to place how many actors.

        Args:
            waiting: How many rows wait; None if that is unknown.
            rows_each: How many rows a worker holds at a time.
        """
        count = ray_workers.count_for(waiting, least=self.least, most=self.most, rows_each=rows_each)
        return Placement(self.address, count=count, gpus=self.gpus, cpus=self.cpus, runtime_env=self.runtime_env)


def read(given: RayGiven) -> RayOptions:
    """Returns what these options mean.

    Raises:
        typer.BadParameter: ``workers`` has another form.
        errors.ConfigurationError: ``runtime_env`` cannot be read, or contains a secret that Ray would show.
        errors.MissingExtra: Ray isn't installed.
    """
    found = _LIMITS.fullmatch("1" if given.workers is None else given.workers)
    least = int(found[1]) if found else 0
    most = int(found[2] or found[1]) if found else 0
    if not found or most < least:
        raise typer.BadParameter(
            f"{given.workers!r}: write a number of workers, or the fewest and the most, such as 2:16",
            param_hint="--workers",
        )
    environment = _runtime_env(given.runtime_env) if given.runtime_env is not None else {}
    ray_workers.require()
    return RayOptions(
        given.address or "auto",
        least=least,
        most=most,
        gpus=given.gpus or 0,
        cpus=given.cpus or 1,
        runtime_env=environment,
    )


def _runtime_env(given: str) -> Mapping[str, Any]:
    """Reads a runtime environment. Messages don't quote it."""
    source = "the text" if given.lstrip().startswith("{") else given
    try:
        text = given if source == "the text" else Path(given).read_text("utf-8")
        found = json.loads(text)
    except OSError as error:
        raise errors.ConfigurationError(f"--runtime-env: cannot read {given}: {error.strerror}.") from error
    except ValueError as error:
        raise errors.ConfigurationError(f"--runtime-env: {source} is not valid JSON.") from error
    if not isinstance(found, dict) or not isinstance(found.get("env_vars", {}), dict):
        raise errors.ConfigurationError(f"--runtime-env: {source} must be a JSON object, and its env_vars too.")
    for name in map(settings.variable, _SECRETS):
        if name in found.get("env_vars", {}):
            raise errors.ConfigurationError(
                f"--runtime-env: {source} sets {name}, and Ray shows env_vars in its logs and its dashboard. Set it "
                "for this command, which passes it on as a secret."
            )
    return found
