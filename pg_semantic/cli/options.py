"""Options that several commands share."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import sqlalchemy as sa
import typer

from pg_semantic import database, settings

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of a table for a person.")]


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
