"""``pg-semantic reindex``: rebuilds a vector index while searches and writes continue."""

import dataclasses
from typing import Annotated

import sqlalchemy as sa
import typer

from pg_semantic import database, registry, settings
from pg_semantic.cli import forecast, options, output, progress
from pg_semantic.database import transaction
from pg_semantic.operations import reindex as rebuilding
from pg_semantic.registry import Generation
from pg_semantic.worker import build_forecast
from pg_semantic.worker.build_forecast import BuildForecast

EXAMPLES = options.examples(
    "pg-semantic reindex article_semantic --dry-run",
    "pg-semantic reindex article_semantic --memory 9GB",
)


def reindex(
    name: Annotated[str, typer.Argument(help="The index, with its schema if the name is not unique.")],
    memory: options.Memory = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would take, and leftovers that it would drop.")
    ] = False,
    yes: options.Yes = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Rebuild the vector index of a semantic index, while searches use the old one and writes continue.

    A vector index loses recall and grows when many of its rows change: see the drift in `status`. Shows a forecast
    first, and asks for confirmation only if memory or disk are short. First drops what an interrupted rebuild left
    behind. Workers can keep running. The rebuild is canceled if another session has to wait for the table; on Ctrl-C
    too. Run it as the owner of the table, and not through a transaction pooler.
    """
    given = settings.load(maintenance_work_mem=memory).maintenance_work_mem
    with options.installed(dsn) as engine, database.translated():
        with transaction.begin(engine) as connection:
            generation = registry.find(connection, name)
            rebuilding.require_ready(connection, generation)
            found = build_forecast.of_generation(connection, generation, memory=given)
            left = rebuilding.leftovers(connection, generation.stored)
        if not json:
            forecast.show(found)
        if dry_run:
            _print_plan(found, left, json=json)
            return
        options.confirm("Rebuild the index anyway?", yes=yes or not found.problems)
        _rebuild(engine, generation, found, memory=given, json=json)


def _rebuild(
    engine: sa.Engine, generation: Generation, found: BuildForecast, *, memory: str | None, json: bool
) -> None:
    with progress.index_build(found.chunks, shown=not json and output.console.is_terminal) as advance:
        done = rebuilding.reindex(engine, generation, memory=memory, on_progress=advance)
    if json:
        output.as_json({"index": generation.qualified_name, **dataclasses.asdict(done)})
        return
    for name in done.dropped:
        output.say(output.escaped(f"Dropped {name}, which an interrupted rebuild had left behind."))
    before, after = (build_forecast.said(size) for size in (done.bytes_before, done.bytes_after))
    took = build_forecast.duration(done.seconds)
    output.say(output.escaped(f"Rebuilt the vector index of {generation.qualified_name}: {before} to {after}, {took}."))


def _print_plan(found: BuildForecast, left: list[str], *, json: bool) -> None:
    if json:
        output.as_json({"fits": found.fits, **dataclasses.asdict(found), "leftovers": left})
        return
    for name in left:
        output.say(output.escaped(f"Would drop {name}, which an interrupted rebuild left behind."))
    output.say("Nothing was changed.")
