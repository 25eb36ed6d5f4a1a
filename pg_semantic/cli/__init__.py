"""The command ``pg-semantic``: parse, one call, print. Each file has a command or a group of them.

Exit codes: 0 done; 1 the command failed, and one line on standard error says what to do; 2 wrong usage;
3 the database can not be reached or is not set up; 130 interrupted before all was done.
"""

import sys

import typer
from rich.console import Console

from pg_semantic import errors
from pg_semantic.cli import (
    database,
    demo,
    doctor,
    encoder,
    explain,
    generation,
    index,
    output,
    recall,
    retry,
    search,
    serve,
    settings,
    status,
    verify,
    worker,
)

app = typer.Typer(
    name="pg-semantic",
    help="Keeps vectors of Postgres rows true to their text, and searches rows by meaning.",
    epilog="Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the database can not be reached or is not set up; "
    "130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it cuts words to fit its frames
)
app.add_typer(database.app, name="db")
app.add_typer(index.app, name="index")
app.add_typer(generation.app, name="generation")
app.add_typer(encoder.app, name="encoder")
for command, function, examples in (
    ("worker", worker.worker, worker.EXAMPLES),
    ("search", search.search, search.EXAMPLES),
    ("explain", explain.explain, explain.EXAMPLES),
    ("recall", recall.recall, recall.EXAMPLES),
    ("status", status.status, status.EXAMPLES),
    ("doctor", doctor.doctor, doctor.EXAMPLES),
    ("verify", verify.verify, verify.VERIFY_EXAMPLES),
    ("repair", verify.repair, verify.REPAIR_EXAMPLES),
    ("retry", retry.retry, retry.EXAMPLES),
    ("serve", serve.serve, serve.EXAMPLES),
    ("settings", settings.settings, settings.EXAMPLES),
    ("demo", demo.demo, demo.EXAMPLES),
):
    app.command(command, epilog=examples)(function)


def run() -> None:
    """Runs the command line; an error of ours is one line on standard error, wrapped on a terminal."""
    try:
        app()
    except errors.PgSemanticError as error:
        output.say(f"[red]error:[/] {output.escaped(error)}", to=Console(stderr=True, highlight=False))
        sys.exit(exit_code(error))


def exit_code(error: errors.PgSemanticError) -> int:
    """What the process exits with for an error."""
    return 3 if isinstance(error, errors.DatabaseError) else 1
