"""``pg-semantic retry``: puts parked rows back into the queue."""

from typing import Annotated

import typer

from pg_semantic import database, jobqueue, registry
from pg_semantic.cli import options, output
from pg_semantic.database import transaction

EXAMPLES = options.examples(
    "pg-semantic retry article_semantic",
    "pg-semantic retry article_semantic --key 42 --key 43",
)


def retry(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    key: Annotated[
        list[str] | None, typer.Option(help="The key of a row, as `status` shows it; repeatable. Default: all.")
    ] = None,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Put failed rows back into the queue, in all generations. Fix the cause first."""
    with options.engine(dsn) as engine, database.translated(), transaction.begin(engine) as connection:
        database.require_installed(connection)
        known = registry.copies(connection, index)
        retried = sorted({found for one in known for found in jobqueue.retry(connection, one.id, key)})
    others = sorted(set(key or ()) - set(retried))
    if json:
        output.as_json({"retried": retried, "not_parked": others})
    else:
        output.say(f"{output.counted(len(retried), 'row')} put back into the queue.")
        if others:
            output.say(output.escaped(f"Not parked: {', '.join(others)}"))
