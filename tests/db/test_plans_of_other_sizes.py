"""Plans that a session keeps serve other sizes than those that they were made for: searches, deletes."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import jobqueue, search
from pg_semantic.settings import Settings
from pg_semantic.worker.held_claims import HeldClaims
from tests.db.conftest import MANY
from tests.db.library import Article, encoder, execute, generation_of, read_of, sync

TABLES = ("article", "article_semantic", "article_semantic_receipt")


def read(connection: sa.Connection) -> int:
    """Rows of the source, of chunks and of receipts that the session has read in its transaction."""
    return sum(read_of(connection, table) for table in TABLES)


def rows_read(engine: sa.Engine, *statements: sa.Executable) -> int:
    """Rows that the last of these statements reads, in a session that runs all of them."""
    before = 0
    with engine.connect() as connection, Session(connection) as session:
        for statement in statements:
            before = read(connection)
            session.execute(statement).all()
        return read(connection) - before


@pytest.mark.parametrize("before", ["half", "rare"])
@pytest.mark.parametrize("then", ["half", "rare"])
def test_a_search_that_the_driver_has_prepared_reads_what_it_would_in_a_new_session(
    many_articles: sa.Engine, before: str, then: str
) -> None:
    [vector] = encoder().encode_queries(["harbour candle"])

    def found(lang: str) -> sa.Select[tuple[int]]:
        hits = search.knn(Article.semantic, vector, limit=10)
        return hits.where(Article.lang == lang).with_only_columns(Article.id)

    application = sa.create_engine(many_articles.url)
    alone = rows_read(application, found(then))
    assert rows_read(application, *[found(before)] * 12, found(then)) <= 2 * alone
    application.dispose()


@pytest.mark.parametrize(("before", "then"), [(1, MANY), (MANY, 1), (0, 1), (1, 0)])
def test_a_search_function_reads_what_it_would_in_a_new_session(
    many_articles: sa.Engine, before: int, then: int
) -> None:
    def found(keys: int) -> sa.TextClause:
        some = sa.text("SELECT * FROM article_semantic_search('harbour', 10, 'lexical', keys => :keys)")
        return some.bindparams(keys=list(range(1, keys + 1)) or None)

    alone = rows_read(many_articles, found(then))
    assert rows_read(many_articles, *[found(before)] * 12, found(then)) <= 2 * alone


def test_deletes_find_their_chunks_by_key_in_a_session_that_has_deleted_when_there_were_none(
    articles: sa.Engine,
) -> None:
    execute(articles, "INSERT INTO article VALUES (0, 'title', NULL, 'en')")
    with articles.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    with articles.connect() as connection:
        connection.execute(sa.text("DELETE FROM article"))
        connection.commit()
        execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 3000) i")
        sync(articles)
        connection.execute(sa.text("DELETE FROM article WHERE id <= 100"))
        assert read_of(connection, "article_semantic") <= 300
        assert read_of(connection, "article_semantic_receipt") <= 300


@pytest.mark.parametrize("analyzed_at", [0, 1])
def test_a_worker_reads_no_more_of_the_queue_than_it_takes_whatever_the_statistics_say(
    articles: sa.Engine, analyzed_at: int
) -> None:
    sync(articles)
    execute(articles, f"INSERT INTO article SELECT i, 'one', NULL, 'en' FROM generate_series(1, {analyzed_at}) i")
    execute(articles, "ANALYZE semantic.mark, semantic.job")
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(2, 20001) i")
    in_hand, read = HeldClaims(articles, Settings()), []

    def count(connection: sa.Connection) -> None:
        read.append(read_of(connection, "mark") + read_of(connection, "job"))

    sa.event.listen(articles, "commit", count)
    try:
        for _ in range(3):
            with articles.connect() as connection:
                [*_, ready] = jobqueue.ready(connection, [generation_of(articles).id])
            assert ready.priority == jobqueue.BACKFILL
            claim = in_hand.take(ready, 500)
            assert claim is not None
            assert len(claim.jobs) == 500
            in_hand.give_back(claim)
    finally:
        sa.event.remove(articles, "commit", count)
    assert 500 < max(read) < 5_000
