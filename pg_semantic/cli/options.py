"""Options that several commands share."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import sqlalchemy as sa
import typer

from pg_semantic import database, errors, settings
from pg_semantic.index.spec import EncoderSpec

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="DSN",
        help="The database: postgresql://user@host/name, or embedded:PATH. Default: $PG_SEMANTIC_DSN.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation; for scripts.")]
QueryPrompt = Annotated[
    str | None, typer.Option(help="Prompt before each query, instead of the encoder's own; '' for none.")
]
DocumentPrompt = Annotated[
    str | None, typer.Option(help="Prompt before each document, instead of the encoder's own; '' for none.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts, instead of tables.")]


def warn_of_prompts(encoder: EncoderSpec) -> None:
    """Warns on standard error if an encoder looks like one that expects prompts, and none is declared."""
    if lacking := encoder.lacking:
        typer.echo(
            f"Warning: encoder {encoder.reference!r} looks like {lacking.family}, which expects prompts. If its files "
            f"don't define them, pass {lacking.options}, or '' for no prompt.",
            err=True,
        )


def confirm(question: str, *, yes: bool) -> None:
    """Asks for confirmation before something that cannot be undone.

    Args:
        question: What to ask.
        yes: Whether ``--yes`` was given: do not ask.

    Raises:
        typer.Abort: The answer was no.
        errors.ConfigurationError: Standard input ended without an answer, as in a script.
    """
    if yes:
        return
    try:
        agreed = typer.confirm(question)
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        raise errors.ConfigurationError("Standard input ended without an answer: pass --yes to proceed.") from None
    if not agreed:
        raise typer.Abort


def examples(*commands: str) -> str:
    """Returns the end of a command's help, with each example on a line of its own, which is never wrapped."""
    heading = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(["\b", heading, *(f"  {command}" for command in commands)])


@contextlib.contextmanager
def engine(dsn: str | None) -> Iterator[sa.Engine]:
    """Yields an engine until the command ends.

    Args:
        dsn: The value of ``--dsn``. If None, the setting ``PG_SEMANTIC_DSN``.
    """
    configured = settings.load(dsn=dsn).dsn
    made = database.connect(configured.get_secret_value() if configured else None)
    try:
        yield made
    finally:
        made.dispose()


@contextlib.contextmanager
def installed(dsn: str | None) -> Iterator[sa.Engine]:
    """Yields what `engine` yields, once it is sure that the database has the schema that this version needs.

    Raises:
        errors.NotInstalled: It does not.
    """
    with engine(dsn) as made:
        with made.connect() as connection:
            database.require_installed(connection)
        yield made
