"""``pg-semantic doctor``: what is wrong with a database, why it matters, and what repairs it."""

from typing import Annotated

import typer

from pg_semantic.cli import options, output
from pg_semantic.operations import doctor as examining
from pg_semantic.operations.doctor import Finding

EXAMPLES = options.examples(
    "pg-semantic doctor",
    "pg-semantic doctor --json",
    "pg-semantic doctor --ignore long_transactions",
)

_FOUND = 1


def doctor(
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="CHECK", help="Leave out a check; may be given again.")
    ] = None,
    long_seconds: Annotated[
        float,
        typer.Option(min=0, help="From how many seconds on an open transaction, or a waiting edit, is reported."),
    ] = examining.LONG_SECONDS,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Find what is wrong with a database: versions, privileges, triggers, keys, indexes, workers; exit with 1 if any.

    Each finding says what is wrong, why it matters, and the statement or command that repairs it. An error is wrong
    now; a warning will be. Reads catalogs and the schema `semantic`, changes nothing and takes milliseconds: run it as
    the workers' role, whose rights it examines too. Whether each vector is true to its row is for `pg-semantic verify`,
    and whether the schema itself was altered for `pg-semantic db check`.
    """
    with options.engine(dsn) as engine:
        found = examining.examine(engine, ignore=ignore or (), long_seconds=long_seconds)
    if json:
        output.as_json(found)
    else:
        _print(found)
    if found:
        raise typer.Exit(_FOUND)


def _print(found: list[Finding]) -> None:
    for finding in found:
        output.say(f"[bold]{finding.severity}[/] {output.escaped(f'{finding.check}: {finding.subject}')}")
        output.record((("what", finding.what), ("why", finding.why), ("repair", finding.repair)), indent=2)
    count = "1 finding." if len(found) == 1 else f"{len(found)} findings."
    output.say(count if found else "Nothing is wrong with this database.")
