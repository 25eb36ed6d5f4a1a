"""What is read of stored chunks."""

import sqlalchemy as sa

from pg_semantic.worker import stored_chunks
from tests.db.library import execute, generation_of, read_of, sync

ROWS = 3000


def test_the_chunks_of_few_rows_are_read_alone_also_before_the_first_analyze(articles: sa.Engine) -> None:
    execute(
        articles,
        "INSERT INTO article (id, body, lang) SELECT i, 'text ' || i, 'en' FROM generate_series(1, :rows) i",
        rows=ROWS,
    )
    sync(articles)
    execute(articles, "DELETE FROM pg_statistic WHERE starelid = 'article_semantic'::regclass")
    keys = [str(number) for number in range(1000, 1050)]
    tables = generation_of(articles).tables
    with articles.connect() as connection:
        before = read_of(connection, "article_semantic")
        found = stored_chunks.read(connection, tables, keys)
        assert found.keys() == set(keys)
        assert all(len(chunks) == 1 for chunks in found.values())
        assert read_of(connection, "article_semantic") - before <= 2 * len(keys)
