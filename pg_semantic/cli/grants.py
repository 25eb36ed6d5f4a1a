"""``pg-semantic grants``: whether semantic indexes can be used by those who can use their tables, and making it so."""

from typing import Annotated

import typer

from pg_semantic import database
from pg_semantic.cli import options, output
from pg_semantic.worker import privileges

EXAMPLES = options.examples("pg-semantic grants --dry-run", "pg-semantic grants")

_NOT_SO = 1


def grants(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be run, and run nothing.")] = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Give the roles that can read a table the right to search it, and take it from all others.

    Chunks and receipts hold a table's text. Roles that can read its key and all text columns can read them, and see the
    rows that row-level security shows them; only the owner writes. A worker does this every minute.

    Exits with 1 when a statement could not be run, and with --dry-run when there is one to run.
    """
    with options.installed(dsn) as engine, database.translated():
        found = privileges.due(engine) if dry_run else [privileges.close_schema(engine), *privileges.follow(engine)]
    if json:
        output.as_json(found)
    else:
        _print(found, dry_run=dry_run)
    if any(one.trouble or (dry_run and one.statements) for one in found):
        raise typer.Exit(_NOT_SO)


def _print(found: list[privileges.Rights], *, dry_run: bool) -> None:
    for one in found:
        for statement in one.statements:
            output.verbatim(f"{statement};")
        if one.trouble:
            output.say(output.escaped(f"{one.index}: {one.trouble}"))
        elif one.said and not (dry_run and one.statements):  # it is true of rights that are up to date
            output.say(output.escaped(one.said))
