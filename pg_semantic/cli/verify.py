"""``pg-semantic verify`` and ``repair``: find vectors that don't match the text of their row, and fix them."""

from collections.abc import Callable, Iterator
from typing import Annotated

import sqlalchemy as sa
import typer
from sqlalchemy import exc

from pg_semantic import database, registry
from pg_semantic.cli import options, output, progress
from pg_semantic.database import transaction
from pg_semantic.operations import repair as repairing
from pg_semantic.operations import verify as verifying
from pg_semantic.operations.verify import VerifyReport
from pg_semantic.registry import Generation

VERIFY_EXAMPLES = options.examples("pg-semantic verify", "pg-semantic verify article_semantic --json")
REPAIR_EXAMPLES = options.examples("pg-semantic repair --dry-run", "pg-semantic repair article_semantic")

_UNCLEAN = 1
_COLUMNS = ("index", "rows", "waiting", "missing", "stale", "damaged", "encoder", "orphan", "failed", "uncaptured")

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[INDEX]...", help="Names of semantic indexes. Default: all.")
]
KeysShown = Annotated[int, typer.Option("--keys", min=0, help="How many keys to show for each kind of finding.")]


def verify(names: Names = None, keys: KeysShown = 10, json: options.Json = False, dsn: options.Dsn = None) -> None:
    """Check that every vector matches the text of its row; exit with 1 if there is a fault.

    waiting: changed, and a worker will encode it; not a fault. missing: has text that was never synced. stale: synced
    with older text. damaged: its chunks don't match its receipt, or its lexemes its text. encoder: has vectors of
    another encoder. orphan: chunks or a receipt without a row. failed: given up after errors, see `pg-semantic retry`.
    uncaptured: tables without working triggers.

    Reads all text inside the database, in pages. Changes nothing.
    """
    with options.engine(dsn) as engine:
        reports = _go_through(engine, names, keys=keys, shown=not json, step=verifying.verify)
    _print(reports, json=json)
    if not all(report.clean for report in reports):
        if not json:
            output.say(" ".join(["Not clean.", *_advice(reports)]))
        raise typer.Exit(_UNCLEAN)


def repair(
    names: Names = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would fix, as `verify` does.")] = False,
    keys: KeysShown = 10,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Fix what `pg-semantic verify` finds: mark rows for the worker, delete orphans, add missing triggers.

    Works in pages of a thousand rows, while others write and workers run. For failed rows, use `pg-semantic retry`.
    --dry-run exits like `verify`, with 1 if there is something to fix.
    """
    if dry_run:
        verify(names, keys=keys, json=json, dsn=dsn)
        return
    with options.engine(dsn) as engine:
        reports = _go_through(engine, names, keys=keys, shown=not json, step=repairing.repair)
    _print(reports, json=json)
    if not json:
        marked = sum(r.missing + r.stale + r.damaged + r.wrong_encoder for r in reports)
        orphans = sum(r.orphan for r in reports)
        output.say(
            f"{output.counted(marked, 'row')} marked for the worker, {output.counted(orphans, 'orphan')} deleted."
        )
        if corrected := sum(report.prefixes for report in reports):
            output.say(f"{output.counted(corrected, 'prefix', plural='prefixes')} corrected.")
        if any(report.failed for report in reports):
            output.say("Failed rows are unchanged. Once the cause is fixed: `pg-semantic retry INDEX`.")
    if any(report.problem for report in reports):
        raise typer.Exit(_UNCLEAN)


def _advice(reports: list[VerifyReport]) -> Iterator[str]:
    """Yields what to do next, for each kind of finding."""
    if any(
        r.missing or r.stale or r.damaged or r.wrong_encoder or r.orphan or r.uncaptured or r.prefixes for r in reports
    ):
        yield "To fix it: `pg-semantic repair`."
    if any(report.failed for report in reports):
        yield "For failed rows, once the cause is fixed: `pg-semantic retry INDEX`."
    if any(report.problem for report in reports):
        yield "For each index with a message, do what the message says."


def _go_through(
    engine: sa.Engine, names: list[str] | None, *, keys: int, shown: bool, step: Callable[..., VerifyReport]
) -> list[VerifyReport]:
    with database.translated():
        with transaction.begin(engine) as connection:
            database.require_installed(connection)
            chosen = list(_chosen(connection, names))
        with progress.pages(engine, chosen, shown=shown) as advance:
            return [_step(step, engine, generation, keys=keys, advance=advance) for generation in chosen]


def _step(
    step: Callable[..., VerifyReport],
    engine: sa.Engine,
    generation: Generation,
    *,
    keys: int,
    advance: Callable[[verifying.CheckedPage], None],
) -> VerifyReport:
    """Verifies or repairs one index. A problem with it, such as a missing column, doesn't stop the others."""
    try:
        return step(engine, generation, keys_shown=keys, on_page=advance)
    except exc.DBAPIError as error:
        if database.is_connection_lost(error):
            raise
        return VerifyReport(generation.title, problem=str(database.translate(error)))


def _chosen(connection: sa.Connection, names: list[str] | None) -> Iterator[Generation]:
    if names:
        for name in names:
            yield from registry.copies(connection, name)
    else:
        yield from registry.generations(connection)


def _print(reports: list[VerifyReport], *, json: bool) -> None:
    if json:
        output.as_json(reports)
        return
    rows = [
        (
            r.index,
            r.rows,
            r.waiting,
            r.missing,
            r.stale,
            r.damaged,
            r.wrong_encoder,
            r.orphan,
            r.failed,
            len(r.uncaptured),
        )
        for r in reports
    ]
    output.table(_COLUMNS, rows, empty=output.NO_INDEXES)
    for report in reports:
        for kind, keys in report.keys.items():
            output.say(output.escaped(f"{report.index}, {kind}: {', '.join(keys)}"))
        if report.prefixes:
            chunks = output.counted(report.prefixes, "chunk")
            output.say(output.escaped(f"{report.index}: the prefixes of {chunks} are not those of their vectors"))
        if report.problem:
            output.say(output.escaped(f"{report.index}: {report.problem}"))
        if report.uncaptured:
            output.say(output.escaped(f"{report.index}, uncaptured: {', '.join(report.uncaptured)}"))
