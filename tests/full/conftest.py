"""A full PostgreSQL 17, started by ``make test-17``: TCP, passwords, dblink, a hot standby, an owner of no rank."""

import os
import shlex
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
import sqlalchemy as sa

from pg_semantic import database
from pg_semantic.database import migrate
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests import documents
from tests.db.library import Base, execute, sync
from tests.waiting import eventually

PASSWORD = "of-the-tests"  # noqa: S105


@pytest.fixture(scope="session")
def primary() -> sa.URL:
    """The superuser's URL."""
    given = os.environ.get("TEST_FULL_POSTGRES")
    if not given:
        pytest.skip("run by `make test-17`")
    return sa.make_url(given)


@dataclass(frozen=True)
class Place:
    """A database of a role that is no superuser, with people who may search it."""

    admin: sa.URL
    owner: str
    analyst: str

    def url(self, role: str, *, standby: bool = False) -> str:
        """The DSN of a role."""
        port = sa.make_url(os.environ["TEST_FULL_STANDBY"]).port if standby else self.admin.port
        url = self.admin if role == "postgres" else self.admin.set(username=role, password=PASSWORD)
        return url.set(port=port).render_as_string(hide_password=False)

    def connect(self, role: str, *, standby: bool = False) -> psycopg.Connection:
        """A connection of a role, in AUTOCOMMIT."""
        return psycopg.connect(self.url(role, standby=standby), autocommit=True)

    def psql(self, role: str, script: str) -> str:
        """What psql prints for a script, errors included."""
        command = [*shlex.split(os.environ["TEST_FULL_PSQL"]), "--no-psqlrc", "-qAt", self.url(role)]
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr


@pytest.fixture
def place(primary: sa.URL) -> Iterator[Place]:
    """A database with our schema and the table article, 400 rows, synced; every eighth is for the analyst."""
    name = f"test_{uuid.uuid4().hex}"
    place = Place(primary.set(database=name), f"owner_{name}", f"analyst_{name}")
    roles = f"{place.owner}, {place.analyst}"
    with psycopg.connect(primary.render_as_string(hide_password=False), autocommit=True) as admin:
        run = admin.execute
        run(f"CREATE ROLE {place.owner} LOGIN PASSWORD '{PASSWORD}'".encode())
        run(f"CREATE ROLE {place.analyst} LOGIN PASSWORD '{PASSWORD}'".encode())
        run(f"CREATE DATABASE {name} OWNER {place.owner}".encode())
        with place.connect("postgres") as inside:
            inside.execute("CREATE EXTENSION vector")
        prepare(place)
        yield place
        run(f"DROP DATABASE {name} WITH (FORCE)".encode())
        run(f"DROP ROLE IF EXISTS {roles}, semantic_query".encode())


def prepare(place: Place) -> None:
    engine = database.connect(place.url(place.owner))
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO article SELECT i, 'apple ' || i, NULL, 'en' FROM generate_series(1, 400) AS i")
    execute(engine, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    execute(engine, f"CREATE POLICY own ON article TO {place.analyst} USING (id % 8 = 0)")
    execute(engine, f"GRANT SELECT ON article TO {place.analyst}")
    sync(engine)  # and so privileges that follow
    engine.dispose()


@pytest.fixture
def linked(place: Place) -> Place:
    """With dblink set up, as the document says."""
    page = documents.ROOT / "docs/how-to/search-from-sql.md"
    [set_up] = [block for block in documents.blocks(page, "sql") if "\\set owner" in block]
    filled = set_up.replace("app_owner", place.owner).replace("change-me", PASSWORD)
    filled = filled.replace("\\set port 5432", f"\\set port {place.admin.port}")
    said = place.psql("postgres", f"\\set ON_ERROR_STOP on\n{filled}")
    assert "ERROR" not in said, said
    return place


@pytest.fixture
def answering(linked: Place) -> Iterator[Place]:
    """With a worker that answers."""
    with working(linked):
        yield linked


@contextmanager
def working(place: Place, encoder: HashedEncoder | None = None) -> Iterator[None]:
    """A worker of the owner's, signed in."""
    engine, stop, known = database.connect(place.url(place.owner)), threading.Event(), encoder or HashedEncoder(32)
    thread = threading.Thread(target=Worker(engine, Settings(), load=lambda *_, **__: known).run, args=(stop,))
    thread.start()
    try:
        with place.connect(place.owner) as connection:
            signed_in = "SELECT count(*) FROM semantic.worker"
            eventually(
                lambda: connection.execute(signed_in).fetchone() != (0,),
                "the worker to sign in",
                unless=lambda: not thread.is_alive(),
            )
        yield
    finally:
        stop.set()
        thread.join(20)
        engine.dispose()
