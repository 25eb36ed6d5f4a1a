"""``pg-semantic db``: our schema in the database, and the embedded server."""

from pathlib import Path

import typer

from pg_semantic import embedded, errors, history
from pg_semantic.cli import options, output

app = typer.Typer(help="The schema `semantic`: registry, jobs and functions.", no_args_is_help=True)


@app.command(epilog="Example: pg-semantic db upgrade --dsn postgresql://app@localhost/shop")
def upgrade(dsn: options.Dsn = None) -> None:
    """Create the schema `semantic`, or bring it to this version; installs pgvector if the role may."""
    with options.engine(dsn) as engine:
        revision = history.upgrade(engine)
    output.say(f"The schema `semantic` is at revision {revision}.")


@app.command(epilog="Example: pg-semantic db current --json")
def current(dsn: options.Dsn = None, json: options.Json = False) -> None:
    """Show the revision that the database is at."""
    with options.engine(dsn) as engine:
        revision = history.current(engine)
    if json:
        output.as_json({"revision": revision})
    else:
        output.say(revision or "The schema `semantic` is not there: run `pg-semantic db upgrade`.")


@app.command(epilog="Example: pg-semantic db stop .demo")
def stop(path: Path) -> None:
    """Stop the embedded server whose data is in PATH."""
    if not (path / "PG_VERSION").exists():
        raise errors.SettingsError(f"{path} has no embedded server's data.")
    embedded.stop(path)
    output.say(f"The server in {output.escaped(path)} is stopped.")
