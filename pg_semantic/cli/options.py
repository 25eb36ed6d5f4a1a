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
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")]
QueryPrompt = Annotated[
    str | None, typer.Option(help="Put before queries, in place of the encoder's own prompt; '' for none.")
]
DocumentPrompt = Annotated[
    str | None, typer.Option(help="Put before documents, in place of the encoder's own prompt; '' for none.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of a table for a person.")]


def warn_of_prompts(encoder: EncoderSpec) -> None:
    """Says on standard error if an encoder looks like one that expects prompts and none is declared."""
    if lacking := encoder.lacking:
        typer.echo(
            f"Warning: encoder {encoder.reference!r} looks like {lacking.family}, which expects a prompt before texts, "
            f"unless its own files name one. Give {lacking.options}, or '' for no prompt.",
            err=True,
        )


def confirm(question: str, *, yes: bool) -> None:
    """Asks before something that cannot be undone, unless ``--yes`` was given.

    Raises:
        typer.Abort: The answer was no.
        errors.SettingsError: Standard input ended without an answer, as in a script.
    """
    if yes:
        return
    try:
        agreed = typer.confirm(question)
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        raise errors.SettingsError("Standard input ended without an answer: pass --yes to go ahead.") from None
    if not agreed:
        raise typer.Abort


def examples(*commands: str) -> str:
    """The end of a command's help: each example on a line of its own, which is never wrapped."""
    heading = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(["\b", heading, *(f"  {command}" for command in commands)])


@contextlib.contextmanager
def engine(dsn: str | None) -> Iterator[sa.Engine]:
    """An engine for ``--dsn``, or for the setting when it is not given, until the command ends."""
    configured = settings.load(dsn=dsn).dsn
    made = database.connect(configured.get_secret_value() if configured else None)
    try:
        yield made
    finally:
        made.dispose()


@contextlib.contextmanager
def installed(dsn: str | None) -> Iterator[sa.Engine]:
    """`engine`, for a database that has our schema as this version needs it."""
    with engine(dsn) as made:
        with made.connect() as connection:
            database.require_installed(connection)
        yield made
