"""``pg-semantic verify`` and ``repair``: whether every vector is true to its row's text, and mending what is not."""

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
    list[str] | None, typer.Argument(metavar="[INDEX]...", help="Which semantic indexes. Default: all of them.")
]
KeysShown = Annotated[int, typer.Option("--keys", min=0, help="How many keys of each kind to show.")]


def verify(names: Names = None, keys: KeysShown = 10, json: options.Json = False, dsn: options.Dsn = None) -> None:
    """Compare every row's text with its vectors' provenance; exit with 1 unless all is as it should be.

    missing: has text, never synced. stale: synced with another text. damaged: its chunks are not those that were
    written. encoder: made by another one. orphan: has no row. failed: parked, see `pg-semantic retry`. uncaptured:
    tables without working triggers. Rows that wait for a worker are counted and are no fault.

    Reads all text inside the database, in pages; changes nothing.
    """
    with options.engine(dsn) as engine:
        reports = _go_through(engine, names, keys=keys, shown=not json, step=verifying.verify)
    _print(reports, json=json)
    if not all(report.clean for report in reports):
        if not json:
            output.say("Not clean. To mend it: `pg-semantic repair`, and `pg-semantic retry` for failed rows.")
        raise typer.Exit(_UNCLEAN)


def repair(
    names: Names = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be mended, as `verify` does.")] = False,
    keys: KeysShown = 10,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Mend what `pg-semantic verify` finds: mark rows for the worker, delete orphans, hang missing triggers.

    It works in pages of a thousand rows, beside writers and workers. Failed rows are left for `pg-semantic retry`.
    --dry-run exits as `verify` does, with 1 when there is something to mend.
    """
    if dry_run:
        verify(names, keys=keys, json=json, dsn=dsn)
        return
    with options.engine(dsn) as engine:
        reports = _go_through(engine, names, keys=keys, shown=not json, step=repairing.repair)
    _print(reports, json=json)
    if not json:
        marked = sum(r.missing + r.stale + r.damaged + r.wrong_encoder for r in reports)
        output.say(f"{marked} rows marked for the worker, {sum(r.orphan for r in reports)} orphans deleted.")
        if any(report.failed for report in reports):
            output.say("Rows that failed are left as they are: `pg-semantic retry`.")
    if any(report.trouble for report in reports):
        raise typer.Exit(_UNCLEAN)


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
    """One index; trouble with it, as a column that is gone, is its own and keeps no other from being looked at."""
    try:
        return step(engine, generation, keys_shown=keys, on_page=advance)
    except exc.DBAPIError as error:
        if database.is_connection_lost(error):
            raise
        return VerifyReport(generation.title, trouble=str(database.translate(error)))


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
    output.table(_COLUMNS, rows)
    for report in reports:
        for kind, keys in report.keys.items():
            output.say(output.escaped(f"{report.index}, {kind}: {', '.join(keys)}"))
        if report.trouble:
            output.say(output.escaped(f"{report.index}: {report.trouble}"))
        if report.uncaptured:
            output.say(output.escaped(f"{report.index}, uncaptured: {', '.join(report.uncaptured)}"))
