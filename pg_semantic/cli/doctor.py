"""``pg-semantic doctor``: shows what is wrong with a database, why it matters, and how to fix it."""

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
        list[str] | None, typer.Option("--ignore", metavar="CHECK", help="Leave out a check; repeatable.")
    ] = None,
    long_seconds: Annotated[
        float,
        typer.Option(min=0, help="Report open transactions and waiting edits older than this many seconds."),
    ] = examining.LONG_SECONDS,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Find problems with versions, privileges, triggers, keys, indexes and workers; exit with 1 if there are any.

    Each finding says what is wrong, why it matters, and which statement or command fixes it. An `error` means that
    searches, syncing or writes go wrong now; a `warning`, that they will later.

    Reads the catalogs and the schema `semantic`, changes nothing and takes milliseconds. Run it as the role of the
    workers, whose privileges it checks too. To compare vectors with text, run `pg-semantic verify`; to find changes to
    the schema itself, `pg-semantic db check`.
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
    count = f"{output.counted(len(found), 'finding')}."
    output.say(count if found else "No problems found.")
