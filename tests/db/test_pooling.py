"""The whole of the work through a transaction pooler, where no two transactions of a client meet the same backend."""

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests.db import pooler
from tests.db.library import CLEAN, Article, encoder, execute, jobs, rows, sync, truth


@pytest.fixture
def pooled(articles: sa.Engine, dsn: str) -> Iterator[sa.Engine]:
    """An engine that comes to the database of `articles` through the pooler."""
    with pooler.running(dsn) as pooled_dsn:
        made = database.connect(pooled_dsn)
        yield made
        made.dispose()


def test_every_transaction_meets_another_backend_and_no_setting_is_carried_over(pooled: sa.Engine) -> None:
    who = sa.text("SELECT pg_backend_pid(), current_setting('application_name')")
    with pooled.connect() as connection:
        before, _ = connection.execute(who).one()
        connection.execute(sa.text("SET application_name = 'somebody'"))
        assert connection.execute(who).one() == (before, "somebody")
        connection.commit()
        after, name = connection.execute(who).one()
    assert after != before
    assert name != "somebody"


def test_rows_are_synced_indexed_and_found_through_a_pooler(pooled: sa.Engine, articles: sa.Engine) -> None:
    execute(pooled, "INSERT INTO article SELECT i, 'title ' || i, 'body', 'en' FROM generate_series(1, 300) i")
    assert sync(pooled, batch_rows=20).rows == 300
    execute(pooled, "UPDATE article SET title = 'harbour candle' WHERE id = 7")
    execute(pooled, "DELETE FROM article WHERE id = 8")
    assert sync(pooled).chunks_encoded == 1
    assert truth(articles) == CLEAN
    assert jobs(articles) == set()
    assert rows(articles, "SELECT indisvalid FROM pg_index WHERE indexrelid::regclass::text LIKE '%vector_idx'") == [
        (True,)
    ]
    with Session(pooled) as session:
        hits = Searcher(encoder()).search(session, Article.semantic, "harbour candle", limit=5)
    assert (hits[0].entity.id, len(hits)) == (7, 5)


def test_a_continuous_worker_goes_on_through_a_pooler(pooled: sa.Engine, articles: sa.Engine) -> None:
    stop, synced = threading.Event(), threading.Event()
    worker = Worker(pooled, Settings(poll_seconds=0.01, lease_seconds=1), on_progress=lambda _: synced.set())
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    for number in range(20):  # more often than the driver sends a statement before it would have it prepared
        execute(pooled, "INSERT INTO article VALUES (:number, 'title ' || :number, NULL, 'en')", number=number)
        assert synced.wait(20)
        synced.clear()
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert truth(articles) == CLEAN
    assert rows(articles, "SELECT count(*) FROM semantic.worker") == [(0,)]
