"""Many rows at once."""

import threading

import psycopg
import sqlalchemy as sa

from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests.db.library import jobs, rows

ROWS = 100_000


def test_a_copy_of_100_000_rows_marks_them_all_and_a_part_that_is_synced_is_true(articles: sa.Engine) -> None:
    with articles.begin() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor().copy("COPY article FROM STDIN") as copy:
            for number in range(ROWS):
                copy.write_row((number, f"title {number}", None, "en"))
    assert rows(articles, "SELECT count(*), count(DISTINCT key) FROM semantic.mark") == [(ROWS, ROWS)]
    stop = threading.Event()
    done = Worker(articles, Settings(), on_progress=lambda _: stop.set()).run(stop)
    assert 0 < done.rows < ROWS
    assert rows(articles, "SELECT count(*) FROM semantic.job WHERE state <> 'pending'") == [(0,)]
    assert rows(
        articles,
        "SELECT count(*), bool_and(chunk.content = article.title) FROM article "
        "JOIN article_semantic AS chunk USING (id) JOIN article_semantic_receipt USING (id) "
        "WHERE NOT EXISTS (SELECT FROM semantic.job WHERE key = article.id::text) "
        "AND NOT EXISTS (SELECT FROM semantic.mark WHERE key = article.id::text)",
    ) == [(done.rows, True)]
    assert len(jobs(articles)) == ROWS - done.rows
