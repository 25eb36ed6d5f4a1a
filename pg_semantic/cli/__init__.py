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
    grants,
    index,
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
    rich_markup_mode="markdown",
)
app.add_typer(database.app, name="db")
app.add_typer(index.app, name="index")
app.add_typer(generation.app, name="generation")
app.add_typer(encoder.app, name="encoder")
for command, function in (
    ("worker", worker.worker),
    ("search", search.search),
    ("explain", explain.explain),
    ("recall", recall.recall),
    ("status", status.status),
    ("doctor", doctor.doctor),
    ("verify", verify.verify),
    ("repair", verify.repair),
    ("retry", retry.retry),
    ("grants", grants.grants),
    ("serve", serve.serve),
    ("settings", settings.settings),
    ("demo", demo.demo),
):
    app.command(command)(function)


def run() -> None:
    """Runs the command line; an error of ours is one line on standard error."""
    try:
        app()
    except errors.PgSemanticError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]error:[/] {_escape(str(error))}")
        sys.exit(exit_code(error))


def exit_code(error: errors.PgSemanticError) -> int:
    """What the process exits with for an error."""
    return 3 if isinstance(error, errors.DatabaseError) else 1


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
