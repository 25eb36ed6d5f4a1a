"""``pg-semantic privileges``: lets the roles that can read a table search its index, and no others."""

from typing import Annotated

import typer

from pg_semantic import database
from pg_semantic.cli import options, output
from pg_semantic.worker.privileges import IndexPrivileges, close_schema, due, follow

EXAMPLES = options.examples("pg-semantic privileges --dry-run", "pg-semantic privileges")

_DIFFERENT = 1


def privileges(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the statements without running them.")] = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Grant the right to search a table to the roles that can read it, and revoke it from all others.

    Chunks and receipts contain the text of a table. The roles that can read its key and all text columns can read
    them, limited to the rows that row-level security shows them. Only the owner can write. A worker does this every
    minute.

    Exits with 1 if a statement failed or, with --dry-run, if there is one to run.
    """
    with options.installed(dsn) as engine, database.translated():
        found = due(engine) if dry_run else [close_schema(engine), *follow(engine)]
    if json:
        output.as_json(found)
    else:
        _print(found, dry_run=dry_run)
    if any(one.problem or (dry_run and one.statements) for one in found):
        raise typer.Exit(_DIFFERENT)


def _print(found: list[IndexPrivileges], *, dry_run: bool) -> None:
    for one in found:
        for statement in one.statements:
            output.verbatim(f"{statement};")
        if one.problem:
            output.say(output.escaped(f"{one.index}: {one.problem}"))
        elif one.said and not (dry_run and one.statements):  # true only once the privileges are up to date
            output.say(output.escaped(one.said))
