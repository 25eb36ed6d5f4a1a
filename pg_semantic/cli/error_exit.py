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
    codes: dict[type[errors.PgSemanticError], int] = {errors.DatabaseError: 3, errors.NotBetter: 4}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 1)
