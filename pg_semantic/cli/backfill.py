"""``pg-semantic backfill``: fills an index with several workers, and exits."""

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import pydantic
import sqlalchemy as sa
import typer

from pg_semantic import database, fleet, registry, settings
from pg_semantic.cli import devices as several
from pg_semantic.cli import logs, options, output, progress, ray_options
from pg_semantic.cli.ray_options import RayGiven, RayOptions
from pg_semantic.fleet import Filled, FillTask, LocalWorkers, Workers, ray_actor
from pg_semantic.fleet.ray_actor import Order
from pg_semantic.fleet.ray_workers import RayWorkers
from pg_semantic.settings import Settings
from pg_semantic.worker import build_forecast

EXAMPLES = options.examples(
    "pg-semantic backfill article_semantic",
    "pg-semantic backfill article_semantic --devices cuda:0,cuda:1 --json",
    "pg-semantic backfill article_semantic --engine ray --workers 2:16 --gpus-per-worker 1",
    "pg-semantic backfill article_semantic --offline",
)

_INTERRUPTED = 130
_OFFLINE_WRITE_SECONDS = 0.6  # 1,500 chunks and receipts in the first transaction, then as many as fit
_BATCHES_HELD = 3  # by a worker: it reads one, encodes one and writes one
_OFFLINE = (
    "Transactions are long: until this command ends, DELETE, SELECT FOR UPDATE and changes of keys of the rows being "
    "written can wait for about a second. Searches don't wait."
)


class FillEngine(StrEnum):
    """Where the workers of a backfill run."""

    local = "local"
    ray = "ray"


Name = Annotated[str, typer.Argument(help="The index, with its schema if the name is not unique.")]
Engine = Annotated[FillEngine, typer.Option(help="Where workers run: on this machine, or on a Ray cluster.")]
Devices = Annotated[
    str | None, typer.Option(help="local: one worker process per device: cuda:0,cuda:1, or all. Default: all.")
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Write more per transaction; deletes of these rows wait for longer.")
]
RowsOnly = Annotated[
    bool, typer.Option("--rows-only", help="Exit once all rows are synced: another worker builds the vector index.")
]
Patience = Annotated[float, typer.Option(help="Seconds to wait while there is a problem and no row is synced.", min=1)]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log what the workers do.")]


def backfill(
    name: Name,
    engine: Engine = FillEngine.local,
    devices: Devices = None,
    address: ray_options.Address = None,
    workers: ray_options.Count = None,
    gpus_per_worker: ray_options.Gpus = None,
    cpus_per_worker: ray_options.Cpus = None,
    runtime_env: ray_options.RuntimeEnv = None,
    offline: Offline = False,
    rows_only: RowsOnly = False,
    patience: Patience = 120.0,
    verbose: Verbose = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Sync all rows of an index, in all its generations, build what it lacks, and exit.

    The workers serve only this index. Others can run too, and so can this command on other machines: each takes rows
    that no other has, and shows how far all of them are. On SIGTERM or Ctrl-C, workers finish the rows in progress; at
    a second signal, they return them to the queue. To resume, run the command again.

    --engine ray needs this package on each machine of the cluster; only settings are sent there. --offline suits a
    table that hardly anyone writes to. A worker that keeps running is still needed for edits.
    """
    ray = RayGiven(address, workers, gpus_per_worker, cpus_per_worker, runtime_env)
    placed = _placed_by(engine, devices=devices, ray=ray)
    configured = settings.load(**_offline() if offline else {})
    is_shown = output.console.is_terminal and not json
    logs.configure(style=configured.log_format, level=logging.WARNING if is_shown and not verbose else logging.INFO)
    if offline and not json:
        output.say(_OFFLINE)
    with options.installed(dsn) as connected, database.translated(), progress.backfill(shown=is_shown) as advance:
        with connected.connect() as connection:
            index = registry.find(connection, name).qualified_name
        task = FillTask(index, builds=not rows_only, patience_seconds=patience)
        places = _Places(connected, configured, index, devices=devices or "all", ray=placed, verbose=verbose)
        done = fleet.fill(connected, configured, task, workers=places, on_progress=advance)
    _print(done, json=json)


def _offline() -> dict[str, float]:
    """Returns settings for long transactions, unless they are even longer already."""
    return {"write_seconds": max(_OFFLINE_WRITE_SECONDS, settings.load().write_seconds)}


def _placed_by(engine: FillEngine, *, devices: str | None, ray: RayGiven) -> RayOptions | None:
    """Returns the options for Ray; None if the workers run on this machine.

    Raises:
        typer.BadParameter: An option of the other engine was given, or a value has another form.
    """
    if engine is FillEngine.ray:
        if devices is not None:
            raise typer.BadParameter("Ray chooses the devices: pass --gpus-per-worker", param_hint="--devices")
        return ray_options.read(ray)
    if ray != RayGiven():
        raise typer.BadParameter("only --engine ray has options of Ray", param_hint=ray.first)
    return None


@dataclass(frozen=True, slots=True)
class _Places:
    """Makes the workers, on this machine or on Ray."""

    engine: sa.Engine
    settings: Settings
    index: str
    devices: str
    ray: RayOptions | None
    verbose: bool

    def __call__(self, waiting: int | None) -> Workers:
        """Returns workers for the rows that wait; None if it isn't known how many."""
        dsn = self.engine.url.render_as_string(hide_password=False)
        if self.ray is None:
            changed = {"dsn": dsn, "write_seconds": str(self.settings.write_seconds)}
            environment = {settings.variable(name): value for name, value in changed.items()}
            listed = several.listed(self.devices)
            return LocalWorkers(listed, index=self.index, environment=environment, verbose=self.verbose)
        placement = self.ray.placement(waiting, rows_each=_BATCHES_HELD * self.settings.batch_rows)
        given = ray_actor.settings_for_others(self.settings) | ({} if placement.gpus else {"device": "cpu"})
        order = Order(pydantic.SecretStr(dsn), self.index, given)
        return RayWorkers(placement, order, drain_seconds=self.settings.drain_seconds, verbose=self.verbose)


def _print(done: Filled, *, json: bool) -> None:
    if json:
        output.as_json(done)
    else:
        synced, took = output.counted(done.synced, "row"), build_forecast.duration(done.seconds)
        said = "Interrupted after" if done.interrupted else "Done in"
        output.say(output.escaped(f"{said} {took}. {done.index}: {synced} synced, {done.failed} failed."))
        if done.failed:
            output.say("`pg-semantic status` shows why they failed.")
        if done.waiting:
            output.say(f"{output.counted(done.waiting, 'row')} still waiting: keep a `pg-semantic worker` running.")
    if done.interrupted:
        raise typer.Exit(_INTERRUPTED)
