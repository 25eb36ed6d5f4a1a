"""``pg-semantic db``: manages the schema ``semantic`` and the embedded server."""

import dataclasses
from pathlib import Path
from typing import Annotated, assert_never

import typer

from pg_semantic import errors
from pg_semantic.cli import options, output
from pg_semantic.database import embedded, migrate, schema_check
from pg_semantic.database.schema_check import SchemaCheck

_DIFFERENT = 1
_NOT_THERE = "The schema `semantic` is not in this database: run `pg-semantic db upgrade`."

app = typer.Typer(help="Manage the schema `semantic`: registry, jobs and functions.", no_args_is_help=True)


@app.command(
    short_help="Create or upgrade the schema `semantic`.",
    epilog=options.examples("pg-semantic db upgrade --dsn postgresql://app@localhost/shop"),
)
def upgrade(yes: options.Yes = False, dsn: options.Dsn = None) -> None:
    """Create the schema `semantic`, or upgrade it to this version. Install pgvector if the role may."""
    del yes  # accepted as in the other commands: this one asks nothing
    with options.engine(dsn) as engine:
        revision = migrate.upgrade(engine)
    output.say(f"The schema `semantic` is at revision {revision}.")


@app.command(epilog=options.examples("pg-semantic db current --json"))
def current(dsn: options.Dsn = None, json: options.Json = False) -> None:
    """Show the revision that the database is at."""
    with options.engine(dsn) as engine:
        revision = migrate.current(engine)
    if json:
        output.as_json({"revision": revision})
    else:
        output.say(revision or _NOT_THERE)


@app.command(
    short_help="Check that the schema is up to date and unaltered.",
    epilog=options.examples("pg-semantic db check --json"),
)
def check(dsn: options.Dsn = None, json: options.Json = False) -> None:
    """Check the schema against this version; exit with 1 unless it is at the newest revision and unaltered.

    Builds the tables, functions and privileges again in a transaction that is rolled back, and compares. The role must
    own the schema.
    """
    with options.engine(dsn) as engine:
        found = schema_check.check(engine)
    if json:
        output.as_json({**dataclasses.asdict(found), "ok": found.ok})
    else:
        output.say(output.escaped(_verdict(found)))
        for difference in found.differences:
            output.say(output.escaped(f"{difference.kind}: {difference.object}"))
    if not found.ok:
        raise typer.Exit(_DIFFERENT)


def _verdict(found: SchemaCheck) -> str:
    match found.state:
        case "missing":
            return _NOT_THERE
        case "newer":
            return (
                f"The schema `semantic` is at revision {found.revision}, but this version of pg_semantic knows "
                f"revisions up to {found.newest}: install the version that upgraded it, or a newer one."
            )
        case "older":
            return (
                f"The schema `semantic` is at revision {found.revision}, but this version of pg_semantic needs "
                f"{found.newest}: run `pg-semantic db upgrade`."
            )
        case "current" if found.differences:
            return (
                f"The schema `semantic` is at revision {found.revision}, but differs from what that revision creates:"
            )
        case "current":
            return f"The schema `semantic` is at revision {found.revision}: up to date and unaltered."
        case _:
            assert_never(found.state)


@app.command(
    short_help="Take the schema back to an earlier revision.",
    epilog=options.examples("pg-semantic db downgrade base --yes"),
)
def downgrade(
    revision: Annotated[str, typer.Argument(help="The revision to go back to. `base` removes the schema.")],
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Take the schema back to an earlier revision. Stop the workers first.

    Refused while a semantic index depends on what it would remove: you lose no vectors, and no write to a table fails.
    """
    with options.engine(dsn) as engine:
        options.confirm(f"Take the schema `semantic` back to revision {revision}?", yes=yes)
        reached = migrate.downgrade(engine, to=revision)
    output.say(f"The schema `semantic` is {f'at revision {reached}' if reached else 'removed'}.")


@app.command(epilog=options.examples("pg-semantic db stop .demo"))
def stop(path: Path, yes: options.Yes = False) -> None:
    """Stop the embedded server that keeps its data in PATH."""
    del yes  # accepted as in the other commands: this one asks nothing
    if not (path / "PG_VERSION").exists():
        raise errors.ConfigurationError(f"{path} is not the data folder of an embedded server.")
    embedded.stop(path)
    output.say(f"Stopped the server in {output.escaped(path)}.")
