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
app.add_typer(generation.app, name="generation", short_help="Change a semantic index with no outage.")
app.add_typer(encoder.app, name="encoder")
for command, function, examples, summary in (
    ("worker", worker.worker, worker.EXAMPLES, "Encode rows whose text changed, until told to stop."),
    ("search", search.search, search.EXAMPLES, "Find the rows nearest in meaning to a text."),
    ("explain", explain.explain, explain.EXAMPLES, "Show the plan of a search, and which indexes it uses."),
    ("recall", recall.recall, recall.EXAMPLES, "Compare searches through the vector index with exact ones."),
    ("status", status.status, status.EXAMPLES, "Show each semantic index: rows, failures, indexes, workers."),
    ("doctor", doctor.doctor, doctor.EXAMPLES, "Find what is wrong with a database."),
    ("verify", verify.verify, verify.VERIFY_EXAMPLES, "Compare every row's text with its vectors' provenance."),
    ("repair", verify.repair, verify.REPAIR_EXAMPLES, "Repair what `verify` finds."),
    ("retry", retry.retry, retry.EXAMPLES, "Take rows that failed back into the queue."),
    ("grants", grants.grants, grants.EXAMPLES, "Open indexes to the roles that can read their tables."),
    ("serve", serve.serve, serve.EXAMPLES, "Serve embeddings, reranking and searches over HTTP."),
    ("settings", settings.settings, settings.EXAMPLES, "Show every setting: variable, value, default, meaning."),
    ("demo", demo.demo, demo.EXAMPLES, "Load, encode and search 7,425 tldr pages."),
):
    app.command(command, epilog=examples, short_help=summary)(function)


def run() -> None:
    """Runs the command line; an error of ours is one line on standard error, wrapped on a terminal."""
    try:
        app()
    except errors.PgSemanticError as error:
        output.say(f"[red]error:[/] {output.escaped(error)}", to=Console(stderr=True, highlight=False, emoji=False))
        sys.exit(exit_code(error))


def exit_code(error: errors.PgSemanticError) -> int:
    """What the process exits with for an error."""
    return 3 if isinstance(error, errors.DatabaseError) else 1
