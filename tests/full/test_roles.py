"""The roles that the document makes: each can do its work, and no more."""

import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa
import yaml
from sqlalchemy import orm

from pg_semantic import Searcher, database
from pg_semantic.database import migrate
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.operations import verify
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests import documents
from tests.db.library import Article, Base, execute, generation_of, rows, sync
from tests.full.conftest import PASSWORD, Place

ROLES = ("semantic_worker", "app", "analyst")


@pytest.fixture
def granted(place: Place) -> Iterator[Place]:
    """With the roles and grants of the document."""
    blocks = documents.blocks(documents.ROOT / "docs/how-to/deploy.md", "sql")
    [roles] = [block for block in blocks if "CREATE ROLE" in block]
    [grants] = [block for block in blocks if "GRANT" in block]
    filled = roles.replace("change-me", PASSWORD).replace("app_owner", place.owner)
    assert "ERROR" not in place.psql("postgres", f"\\set ON_ERROR_STOP on\n{filled}")
    with place.connect(place.owner) as connection:
        connection.execute(grants.encode())
    yield place
    with place.connect("postgres") as connection:
        connection.execute(f"DROP OWNED BY {', '.join(ROLES)}; DROP ROLE {', '.join(ROLES)}".encode())


def drain(place: Place) -> None:
    engine = database.connect(place.url("semantic_worker"))
    Worker(engine, Settings(), load=lambda *_, **__: HashedEncoder(32)).run(threading.Event(), once=True)
    engine.dispose()


def test_the_application_writes_and_searches_and_the_worker_keeps_up(granted: Place) -> None:
    with granted.connect(granted.owner) as connection:
        connection.execute(b"CREATE POLICY all_of_it ON article TO app USING (true)")
        connection.execute(b"DROP INDEX article_semantic_vector_idx")  # which the worker builds again
    engine = sa.create_engine(sa.make_url(granted.url("app")).set(drivername="postgresql+psycopg"))
    with orm.Session(engine) as session:
        session.add(Article(id=1000, title="a violet pear"))
        session.execute(sa.delete(Article).where(Article.id <= 10))
        session.commit()
        drain(granted)
        [hit] = Searcher(HashedEncoder(32)).search(session, Article.semantic, "violet pear", limit=1, mode="hybrid")
        assert hit.entity.id == 1000
    engine.dispose()
    owner = database.connect(granted.url(granted.owner))
    assert verify.verify(owner, generation_of(owner)).clean
    with owner.connect() as connection:
        built = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('article_semantic_vector_idx')"
        assert connection.scalar(sa.text(built)) is True
    owner.dispose()


@pytest.mark.parametrize("role", ["app", "analyst"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM semantic.job",
        "SELECT * FROM semantic.mark",
        "SELECT * FROM semantic.query_request",
        "INSERT INTO semantic.mark (generation_id, key) VALUES (1, '1')",
        "UPDATE semantic.generation SET role = 'next'",
        "UPDATE article_semantic SET content = 'something else'",
        "DELETE FROM semantic.chunks_1",
        "SELECT semantic.delete_generation_v1(1, true)",
        "SELECT semantic.unregister_index_v1('article_semantic')",
        "SELECT semantic.create_search_function_v1(1)",
        "CREATE TABLE semantic.mine (x integer)",
    ],
)
def test_who_only_writes_rows_or_searches_can_not_touch_what_the_worker_does(
    granted: Place, role: str, statement: str
) -> None:
    with granted.connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_an_analyst_writes_nothing(granted: Place) -> None:
    with granted.connect("analyst") as connection:
        for statement in ("UPDATE article SET title = 'x'", "DELETE FROM article_semantic", "TRUNCATE article"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


@pytest.fixture
def new(primary: sa.URL) -> Iterator[Place]:
    """A database with nothing in it, of a superuser who made it, as an image of Postgres leaves it."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(primary.render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE boss_{name} SUPERUSER LOGIN PASSWORD '{PASSWORD}'".encode())
        admin.execute(f"CREATE DATABASE {name} OWNER boss_{name}".encode())
        yield Place(primary.set(database=name), f"boss_{name}", "nobody")
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        admin.execute(f"DROP ROLE IF EXISTS boss_{name}, app_owner".encode())


def test_the_owner_that_the_compose_file_makes_is_no_superuser_and_needs_none(
    new: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = yaml.safe_load((documents.ROOT / "docker-compose.yml").read_text())["configs"]["owner"]["content"]
    monkeypatch.setenv("POSTGRES_PASSWORD", PASSWORD)
    assert not new.psql(new.owner, f"\\set ON_ERROR_STOP on\n{script}")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        new.connect(new.owner)
    engine = database.connect(new.url("app_owner"))
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO article SELECT i, 'apple ' || i, NULL, 'en' FROM generate_series(1, 9) AS i")
    sync(engine)
    assert rows(engine, "SELECT count(*) FROM article_semantic") == [(9,)]
    assert rows(engine, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
    engine.dispose()
