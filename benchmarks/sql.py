"""Measures what it costs a SELECT to have its text encoded by a worker: plain SQL on a full PostgreSQL 17.

    make bench-sql

The data is 7,425 tldr pages with the real encoder's vectors. A worker process runs, dblink is set up as in
`docs/how-to/search-from-sql.md`, and an analyst without superuser privileges searches. Each text is used only once, so
that its vector isn't cached. ``added_p50_ms`` is the median time of ``SELECT semantic.embed(...)`` minus that of the
encoder alone on a similar text in this process; the two alternate. ``search_p50_ms`` is for a whole search for a new
text, ``cached_p50_ms`` for the same search again, and ``callers_p99_ms`` for fifty concurrent callers, each with a new
text and its own connection.
"""

import itertools
import json
import os
import shlex
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import sqlalchemy as sa
from sqlalchemy import orm

from benchmarks import moments, workers
from benchmarks.search import questions
from pg_semantic import database, encoders, settings
from pg_semantic.database import migrate
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Base, Page
from pg_semantic.worker.worker import Worker
from tests import documents

ROUNDS, CALLERS = 200, 50
EMBED = "SELECT semantic.embed('page_semantic', %s)"
SEARCH = "SELECT * FROM page_semantic_search(%s, 10)"
_SECRET = "bench"  # noqa: S105 - for a throw-away server


def main() -> None:
    """Prints the results, with JSON as the last line."""
    given = sa.make_url(os.environ["TEST_FULL_POSTGRES"])
    admin = given.set(database="bench")
    _administer(given, "CREATE ROLE app_owner LOGIN PASSWORD 'bench'", "CREATE ROLE analyst LOGIN PASSWORD 'bench'")
    _administer(given, "CREATE DATABASE bench OWNER app_owner")
    _administer(admin, "CREATE EXTENSION vector")
    owner = _dsn(admin.set(username="app_owner", password=_SECRET))
    engine = database.connect(owner)
    _fill(engine)
    _set_up_dblink(admin)
    with workers.running(engine, owner):
        figures = _figures(_dsn(admin.set(username="analyst", password=_SECRET)))
    engine.dispose()
    print(json.dumps(figures))


def _administer(url: sa.URL, *statements: str) -> None:
    with psycopg.connect(_dsn(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _dsn(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


def _fill(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(tldr_pages.pages())
        session.commit()
    with engine.begin() as connection:
        connection.execute(sa.text("GRANT SELECT ON page, page_semantic, page_semantic_receipt TO analyst"))
    Worker(engine, settings.load()).run(threading.Event(), once=True)


def _set_up_dblink(admin: sa.URL) -> None:
    page = documents.ROOT / "docs/how-to/search-from-sql.md"
    [written] = [sql for sql in documents.blocks(page, "sql") if "\\set owner" in sql]
    filled = written.replace("change-me", _SECRET).replace("\\set port 5432", f"\\set port {admin.port}")
    command = [*shlex.split(os.environ["TEST_FULL_PSQL"]), "-q", _dsn(admin)]
    subprocess.run(command, input=f"\\set ON_ERROR_STOP on\n{filled}", text=True, check=True)


def _figures(dsn: str) -> dict[str, float]:
    encoder, texts = encoders.load(Page.semantic.spec.encoder.reference), questions()
    alone, embedded, searched, again = [], [], [], []
    with psycopg.connect(dsn, autocommit=True) as connection:
        moments.until(lambda: _answers(connection, next(texts)), seconds=60, what="the worker answers")
        for _ in range(ROUNDS):
            alone.append(moments.taken(lambda: encoder.encode_queries([next(texts)])))
            embedded.append(moments.taken(lambda: connection.execute(EMBED, [next(texts)]).fetchall()))
            text = next(texts)
            searched.append(moments.taken(lambda text=text: connection.execute(SEARCH, [text]).fetchall()))  # type: ignore[misc]
            again.append(moments.taken(lambda text=text: connection.execute(SEARCH, [text]).fetchall()))  # type: ignore[misc]
    many = _callers(dsn, texts)
    figures = {
        "added_p50_ms": moments.quantile(embedded, 0.5) - moments.quantile(alone, 0.5),
        "embed_p50_ms": moments.quantile(embedded, 0.5),
        "embed_p99_ms": moments.quantile(embedded, 0.99),
        "encoder_p50_ms": moments.quantile(alone, 0.5),
        "search_p50_ms": moments.quantile(searched, 0.5),
        "cached_p50_ms": moments.quantile(again, 0.5),
        "callers_p50_ms": moments.quantile(many, 0.5),
        "callers_p99_ms": moments.quantile(many, 0.99),
    }
    return {name: round(seconds * 1000, 2) for name, seconds in figures.items()}


def _answers(connection: psycopg.Connection, text: str) -> bool:
    try:
        return bool(connection.execute(EMBED, [text]).fetchall())
    except psycopg.Error:
        return False


def _callers(dsn: str, texts: Iterator[str]) -> list[float]:
    ready = threading.Barrier(CALLERS)

    def call(text: str) -> float:
        with psycopg.connect(dsn, autocommit=True) as connection:
            ready.wait(60)
            return moments.taken(lambda: connection.execute(SEARCH, [text]).fetchall())

    with ThreadPoolExecutor(CALLERS) as threads:
        return list(threads.map(call, itertools.islice(texts, CALLERS)))


if __name__ == "__main__":
    main()
