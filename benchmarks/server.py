"""A Postgres server for one benchmark: embedded, in a temporary folder that is deleted at the end.

It runs with Postgres's default settings, including `fsync` and `synchronous_commit`.
"""

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import sqlalchemy as sa

from pg_semantic import database
from pg_semantic.database import embedded, migrate


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its data folder and the DSN of its first database."""

    data: Path
    dsn: str

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.data / "log"

    @property
    def pgbench(self) -> Path:
        """The server's pgbench program."""
        return embedded.psql(self.data).with_name("pgbench")

    def connect(self) -> sa.Engine:
        """Returns an engine for the first database."""
        return database.connect(self.dsn)

    def create(self, name: str) -> sa.Engine:
        """Creates a database with our schema; returns an engine for it."""
        engine = self.connect()
        execute(engine, f"CREATE DATABASE {name}")
        engine.dispose()
        made = database.connect(sa.make_url(self.dsn).set(database=name).render_as_string(hide_password=False))
        migrate.upgrade(made)
        return made

    def kill(self) -> None:
        """Kills the postmaster and all its children (SIGKILL), and waits until they are gone.

        The postmaster is stopped first (SIGSTOP), so that it cannot fork a child that we miss.
        """
        postmaster = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        postmaster.suspend()
        doomed = [postmaster, *postmaster.children(recursive=True)]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _, alive = psutil.wait_procs(doomed, timeout=30)
        if alive:
            raise RuntimeError(f"These server processes outlived SIGKILL: {alive}")

    def restart(self) -> None:
        """Starts the server after `kill`, from a new process, because this one believes that it is still running."""
        command = [sys.executable, "-m", "pg_semantic.cli", "db", "current", "--dsn", f"embedded:{self.data}"]
        pause = threading.Event()
        for _ in range(30):  # crash recovery can take longer than one start waits for
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return
            pause.wait(1)
        raise RuntimeError(f"The server in {self.data} did not restart.")


@contextlib.contextmanager
def running(folder: Path | None = None) -> Iterator[Server]:
    """Runs a server whose first database has our schema. If a folder is given, its data is kept at the end."""
    with contextlib.ExitStack() as stack:
        parent = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg_semantic-")))
        data = parent / "data"
        server = Server(data, embedded.start(data))
        stack.callback(embedded.stop, data)
        engine = server.connect()
        migrate.upgrade(engine)
        engine.dispose()
        yield server


def execute(engine: sa.Engine, *statements: str) -> None:
    """Runs statements in autocommit mode, as VACUUM and CHECKPOINT require."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in statements:
            connection.execute(sa.text(statement))
