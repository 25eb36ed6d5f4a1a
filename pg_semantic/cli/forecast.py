"""``pg-semantic index forecast``: says what the build of a vector index takes, before it begins."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import sqlalchemy as sa
import typer

from pg_semantic import database, registry, settings
from pg_semantic.cli import options, output
from pg_semantic.database import transaction
from pg_semantic.operations import backfill_cost, build_speed
from pg_semantic.operations.backfill_cost import BackfillCost
from pg_semantic.registry import Generation
from pg_semantic.worker import build_forecast
from pg_semantic.worker.build_forecast import Basis, BuildForecast

EXAMPLES = options.examples(
    "pg-semantic index forecast article_semantic",
    "pg-semantic index forecast article_semantic --rows 10000000 --json",
)

Price = Annotated[
    float | None,
    typer.Option(
        help="Dollars per million tokens of a remote encoder. Default: PG_SEMANTIC_DOLLARS_PER_MILLION_TOKENS.", min=0
    ),
]

_SHORT = 1
_PATIENCE = "30min"  # counting a table that was never analyzed scans it
_BASIS: dict[Basis, str] = {
    "counted": "counted",
    "estimated": "estimated from statistics",
    "from rows": "as many per row as so far",
    "one per row": "one per row, because no row is encoded yet",
}


def forecast(
    name: Annotated[str, typer.Argument(help="The index, with its schema if the name is not unique.")],
    rows: Annotated[
        int | None, typer.Option(help="How many rows the table will have. Default: its rows now.", min=0)
    ] = None,
    memory: options.Memory = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Build a small index of a temporary table to estimate the time.")
    ] = False,
    price: Price = None,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Show what the build of a vector index takes: disk, memory, processes and time; exit with 1 if these are short.

    Works also before a row is encoded. Run it as the role of the workers. The size of /dev/shm and the free disk space
    are known only through a Unix socket. The time, of a graph that fits into memory, comes from a comparable build, or
    from --measure. For a remote encoder, adds the requests and tokens of rows that aren't encoded, from a sample.
    """
    configured = settings.load(maintenance_work_mem=memory)
    with options.installed(dsn) as engine, database.translated():
        with engine.connect() as connection:
            generation = registry.find(connection, name)
        measured = build_speed.measure(engine, generation) if measure else None
        with transaction.begin(engine, statement_timeout=_PATIENCE) as connection:
            found = build_forecast.of_generation(
                connection, generation, rows=rows, memory=configured.maintenance_work_mem
            )
            cost = _backfill(connection, generation, configured, rows=rows, price=price)
    found = found if measured is None else measured.applied_to(found)
    if json:
        _print_json(generation, found, cost)
    else:
        show(found, cost, is_measured=measure)
    if found.problems:
        raise typer.Exit(_SHORT)


def _print_json(generation: Generation, found: BuildForecast, cost: BackfillCost | None) -> None:
    described = {**dataclasses.asdict(found), "backfill": cost and dataclasses.asdict(cost)}
    output.as_json({"index": generation.qualified_name, "fits": found.fits, **described})


def _backfill(
    connection: sa.Connection,
    generation: Generation,
    configured: settings.Settings,
    *,
    rows: int | None,
    price: float | None,
) -> BackfillCost | None:
    """Returns what the backfill takes if the encoder is remote."""
    endpoint = configured.encoder_urls.get(generation.spec.encoder.reference)
    if endpoint is None:
        return None
    return backfill_cost.estimate(
        connection,
        generation,
        endpoint,
        rows=rows,
        batch=configured.remote_batch,
        dollars_per_million_tokens=configured.dollars_per_million_tokens if price is None else price,
    )


def show(found: BuildForecast, cost: BackfillCost | None = None, *, is_measured: bool = False) -> None:
    """Prints a forecast, then what is short."""
    output.record([*_lines(found, is_measured=is_measured), *_cost(cost)])
    for problem in found.problems:
        output.say(output.escaped(f"{problem}."))


def _lines(found: BuildForecast, *, is_measured: bool) -> Iterator[tuple[str, str]]:
    said = build_forecast.said
    memory = "fits into" if found.fits else "does not fit into"
    yield "chunks", f"{found.chunks} ({_BASIS[found.basis]})"
    parts = "" if found.partitions == 1 else f" in {found.partitions} partitions, built one after the other"
    yield "index", said(found.index_bytes) + parts
    if found.prefix_bytes:
        yield "prefixes", f"{said(found.prefix_bytes)} in the chunk table"
    yield "memory", f"{said(found.memory_bytes)}, {memory} maintenance_work_mem ({said(found.maintenance_work_mem)})"
    yield "processes", str(found.processes)
    if found.shared_memory_bytes:
        yield "shared memory", f"{said(found.shared_memory_bytes)} of {_known(found.shared_memory, 'df /dev/shm')}"
    yield "free disk", _known(found.disk_free, "df")
    if found.seconds is None:
        yield "time", "unknown: no comparable build is on record (--measure builds a sample)"
    else:
        source = "a sample" if is_measured else "an earlier build"
        yield "time", f"{build_forecast.duration(found.seconds)}, judging by {source}"


def _cost(cost: BackfillCost | None) -> Iterator[tuple[str, str]]:
    if cost is not None:
        dollars = "" if cost.dollars is None else f", ${cost.dollars:,.2f}"
        by = "the encoder's tokenizer" if cost.counted_by == "tokenizer" else "four characters each"
        yield "backfill", f"{cost.rows} rows, {cost.requests} requests, {cost.tokens} tokens ({by}){dollars}"


def _known(size: int | None, command: str) -> str:
    return f"an unknown size (run `{command}` on the server)" if size is None else build_forecast.said(size)
