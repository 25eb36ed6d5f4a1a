"""``pg-semantic db``: our schema in the database, and the embedded server."""

import dataclasses
from pathlib import Path
from typing import Annotated, assert_never

import typer

from pg_semantic import errors
from pg_semantic.cli import options, output
from pg_semantic.database import embedded, migrate
from pg_semantic.database.migrate import SchemaCheck

_NOT_AS_IT_SHOULD_BE = 1
_NOT_THERE = "The schema `semantic` is not there: run `pg-semantic db upgrade`."

app = typer.Typer(help="The schema `semantic`: registry, jobs and functions.", no_args_is_help=True)


@app.command(
    short_help="Create the schema `semantic`, or bring it to this version.",
    epilog=options.examples("pg-semantic db upgrade --dsn postgresql://app@localhost/shop"),
)
def upgrade(yes: options.Yes = False, dsn: options.Dsn = None) -> None:
    """Create the schema `semantic`, or bring it to this version; installs pgvector if the role may."""
    del yes  # nothing is asked
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
    short_help="Compare the schema with what this version makes.",
    epilog=options.examples("pg-semantic db check --json"),
)
def check(dsn: options.Dsn = None, json: options.Json = False) -> None:
    """Compare the schema with what this version makes; exit with 1 unless it is at the newest revision and unaltered.

    Tables, functions and rights are made anew in a transaction that is rolled back, and compared; so the role must
    own the schema.
    """
    with options.engine(dsn) as engine:
        found = migrate.check(engine)
    if json:
        output.as_json({**dataclasses.asdict(found), "ok": found.ok})
    else:
        output.say(output.escaped(_verdict(found)))
        for difference in found.differences:
            output.say(output.escaped(f"{difference.kind}: {difference.object}"))
    if not found.ok:
        raise typer.Exit(_NOT_AS_IT_SHOULD_BE)


def _verdict(found: SchemaCheck) -> str:
    match found.state:
        case "missing":
            return _NOT_THERE
        case "newer":
            return (
                f"The schema `semantic` is at revision {found.revision}, which this version does not know (it has "
                f"{found.newest}): install the version that upgraded it, or a newer one."
            )
        case "older":
            return f"The schema `semantic` is at revision {found.revision}: `pg-semantic db upgrade` to {found.newest}."
        case "current" if found.differences:
            return f"The schema `semantic` is at revision {found.revision}, and is not as the history makes it:"
        case "current":
            return f"The schema `semantic` is at revision {found.revision}, as it should be."
        case _:
            assert_never(found.state)


@app.command(
    short_help="Bring the schema back to what an earlier version made.",
    epilog=options.examples("pg-semantic db downgrade 0002 --yes"),
)
def downgrade(
    revision: Annotated[str, typer.Argument(help="The revision to go back to; `base` removes the schema.")],
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Bring the schema back to what an earlier version made; stop the workers first.

    Refused while a semantic index needs what would go: no vector is lost, and no write to a table fails.
    """
    with options.engine(dsn) as engine:
        options.confirm(f"Take the schema `semantic` back to revision {revision}?", yes=yes)
        reached = migrate.downgrade(engine, to=revision)
    output.say(f"The schema `semantic` is {f'at revision {reached}' if reached else 'removed'}.")


@app.command(epilog=options.examples("pg-semantic db stop .demo"))
def stop(path: Path, yes: options.Yes = False) -> None:
    """Stop the embedded server whose data is in PATH."""
    del yes  # nothing is asked
    if not (path / "PG_VERSION").exists():
        raise errors.SettingsError(f"{path} has no embedded server's data.")
    embedded.stop(path)
    output.say(f"The server in {output.escaped(path)} is stopped.")
