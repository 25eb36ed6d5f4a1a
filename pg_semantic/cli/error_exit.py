"""Turns an exception into one line on standard error and an exit code."""

import sys
from collections.abc import Callable

from rich.console import Console

from pg_semantic import errors
from pg_semantic.cli import output


def run(app: Callable[[], object]) -> None:
    """Calls the command line. Prints a `PgSemanticError` as one line on standard error, wrapped on a terminal."""
    try:
        app()
    except errors.PgSemanticError as error:
        output.say(f"[red]error:[/] {output.escaped(error)}", to=Console(stderr=True, highlight=False, emoji=False))
        sys.exit(exit_code(error))


def exit_code(error: errors.PgSemanticError) -> int:
    """Returns the exit code of the process for an error."""
    if isinstance(error, errors.GenerationError) and error.not_better:
        return 4
    return 3 if isinstance(error, errors.DatabaseError) else 1
