"""A real server for the tests: one embedded Postgres a session, one database a test, copied from a template."""

import contextlib
import functools
import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from pg_semantic import database
from pg_semantic.database import embedded, migrate
from tests import documents
from tests.db.library import Base

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing in the tests may reach for the network
os.environ["PG_SEMANTIC_CACHE_FOLDER"] = str(documents.ROOT / ".pytest_cache" / "encoders")
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # torch, NumPy: a core per process, and no thread spins
    os.environ.setdefault(_threads, "1")

_TEMPLATE = "template_pg_semantic"
_ROOM = 8 * 2**30  # bytes
VERSION = int(os.environ.get("TEST_POSTGRES_VERSION", embedded.VERSION))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts with the files that take longest, so that no process ends long after the other."""
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("slow", "weights")))


def pytest_collection_finish() -> None:
    """Keeps what was imported and collected out of later searches for garbage, which take a second with it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def server() -> Iterator[sa.URL]:
    """A server of our own, without fsync: its data is thrown away. No lock is waited for longer than ten seconds.

    Not under pytest's temporary folder, which pytest closes to the user that the server runs as under root.
    """
    with tempfile.TemporaryDirectory(prefix="pg_semantic-", dir=_fast_folder()) as folder:
        data = Path(folder) / "data"
        url = sa.make_url(embedded.start(data, version=VERSION)).set(drivername="postgresql+psycopg")
        with _administrator(url) as connection:
            connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))
            connection.execute(sa.text("ALTER SYSTEM SET lock_timeout = '10s'"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        yield url
        _administrators(url).dispose()
        embedded.stop(data)


@pytest.fixture(scope="session")
def template(server: sa.URL) -> str:
    """A database with pgvector and our schema, to be copied."""
    with _administrator(server) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {_TEMPLATE}"))
    engine = database.connect(_dsn(server.set(database=_TEMPLATE)))
    migrate.upgrade(engine)
    engine.dispose()
    return _TEMPLATE


@pytest.fixture(scope="session")
def articles_template(server: sa.URL, template: str) -> Iterator[str]:
    """A database with the table article and its semantic index, both empty, to be copied."""
    with template_with(server, template, Base.metadata.create_all) as name:
        yield name


@pytest.fixture(scope="module")
def filled_template(server: sa.URL, articles_template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with what the module's function ``fill`` writes into the table article, to be copied."""
    with template_with(server, articles_template, request.module.fill) as name:
        yield name


@pytest.fixture
def dsn(server: sa.URL, template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The DSN of a database of the test's own, with our schema: a copy of the fullest template that is asked for."""
    fullest = next((name for name in ("filled_template", "articles_template") if name in request.fixturenames), None)
    with copy_of(server, request.getfixturevalue(fullest) if fullest else template) as made:
        yield made


@pytest.fixture
def bare_dsn(server: sa.URL) -> Iterator[str]:
    """The DSN of an empty database: no pgvector, no schema of ours."""
    with copy_of(server, "template1") as made:
        yield made


@pytest.fixture
def engine(dsn: str) -> Iterator[sa.Engine]:
    """An engine of the test's own database."""
    made = database.connect(dsn)
    yield made
    made.dispose()


@pytest.fixture
def articles(articles_template: str, engine: sa.Engine) -> sa.Engine:
    """A database with the table article and its semantic index, both empty."""
    return engine


@pytest.fixture
def filled(filled_template: str, engine: sa.Engine) -> sa.Engine:
    """A database with what the module's function ``fill`` writes into the table article."""
    return engine


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def copy_of(server: sa.URL, template: str) -> Iterator[str]:
    """The DSN of a database copied from another, dropped at the end."""
    name = f"test_{uuid.uuid4().hex}"
    with _administrator(server) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"))
    yield _dsn(server.set(database=name))
    with _administrator(server) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextlib.contextmanager
def template_with(server: sa.URL, template: str, fill: Callable[[sa.Engine], object]) -> Iterator[str]:
    """The name of a copy of a template that a function fills, to be copied itself."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        fill(engine)
        engine.dispose()
        yield str(engine.url.database)


def _fast_folder() -> Path | None:
    """A folder in memory, if there is one with enough room for two servers and the databases of their tests.

    A database is 330 files. ext4 doesn't use the inode of a deleted file again for minutes, and so looks at more and
    more of them for each new file: with a database per test, copying one takes 0.3 seconds there, and 0.02 in memory.
    """
    memory = Path("/dev/shm")  # noqa: S108
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM else None


@contextlib.contextmanager
def _administrator(url: sa.URL) -> Iterator[sa.Connection]:
    with _administrators(url).connect() as connection:
        yield connection


@functools.cache
def _administrators(url: sa.URL) -> sa.Engine:
    """An engine whose connection stays open, because making one takes longer than copying a database."""
    return sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1)


def _dsn(url: sa.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
