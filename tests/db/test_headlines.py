"""Headlines of hits: the row's first text column that isn't blank, read by the statement that finds the rows."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from pg_semantic import AsyncSearcher, Searcher
from pg_semantic.index import declare
from pg_semantic.search import Hit, Options, headlines
from tests.db.library import Article, encoder, execute, generation_of, sync

SHOWN = Options(headlines=True)
LONG = "harbour " * 1_250_000  # ten megabytes


@pytest.fixture
def written(articles: sa.Engine) -> sa.Engine:
    """Six rows that were synced, and edited since: hits need not have the text that was found."""
    execute(articles, "INSERT INTO article SELECT i, 'harbour', 'candle ' || i, 'en' FROM generate_series(1, 6) AS i")
    sync(articles)
    execute(articles, "UPDATE article SET title = E' The \\n harbour\\t' WHERE id = 1")
    execute(articles, "UPDATE article SET title = NULL WHERE id = 2")
    execute(articles, "UPDATE article SET title = E' \\n\\t ' WHERE id = 3")
    execute(articles, "UPDATE article SET title = '', body = NULL WHERE id = 4")
    execute(articles, "UPDATE article SET title = repeat('a', 120) WHERE id = 5")
    execute(articles, "UPDATE article SET title = repeat('a', 121) WHERE id = 6")
    return articles


@pytest.fixture
def session(articles: sa.Engine) -> Iterator[orm.Session]:
    with orm.Session(articles) as opened:
        yield opened


def found(session: orm.Session, index: Any = Article.semantic, **how: Any) -> dict[int, str | None]:
    hits: list[Hit[Any]] = Searcher(encoder()).search(session, index, "harbour", options=SHOWN, **how)
    return {hit.entity.id: hit.headline for hit in hits}


EXPECTED = {1: "The harbour", 2: "candle 2", 3: "candle 3", 4: None, 5: "a" * 120, 6: "a" * 119 + "…"}


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("exact", [False, True])
def test_the_first_column_that_is_not_blank_is_the_headline(
    written: sa.Engine, session: orm.Session, mode: str, exact: bool
) -> None:
    assert found(session, mode=mode, exact=exact) == EXPECTED
    assert found(session, Article.semantic.of(orm.aliased(Article)), mode=mode, exact=exact) == EXPECTED


def test_an_asynchronous_search_has_the_same_headlines(written: sa.Engine) -> None:
    async def search() -> dict[int, str | None]:
        engine = create_async_engine(written.url)
        async with AsyncSession(engine) as session:
            hits = await AsyncSearcher(encoder()).search(session, Article.semantic, "harbour", options=SHOWN)
        await engine.dispose()
        return {hit.entity.id: hit.headline for hit in hits}

    assert asyncio.run(search()) == EXPECTED


def test_without_the_option_there_is_no_headline(written: sa.Engine, session: orm.Session) -> None:
    assert {hit.headline for hit in Searcher(encoder()).search(session, Article.semantic, "harbour")} == {None}


def test_a_search_with_headlines_is_a_single_statement(written: sa.Engine, session: orm.Session) -> None:
    searcher = Searcher(encoder())
    index = declare.bind(generation_of(written).spec)
    searcher.search(session, index, "harbour", options=SHOWN)  # learns which generation is live
    ran: list[str] = []
    sa.event.listen(written, "before_cursor_execute", lambda *event: ran.append(event[2]))
    hits = searcher.search(session, index, "harbour", options=SHOWN, limit=5)
    assert {hit.entity.id: hit.headline for hit in hits}.items() <= EXPECTED.items()
    assert len(ran) == 1


def test_only_the_beginning_of_a_long_column_leaves_the_server(written: sa.Engine, session: orm.Session) -> None:
    execute(written, "UPDATE article SET title = :title", title=LONG)
    sizes: list[int] = []

    def measure(*event: Any) -> None:
        cursor: psycopg.Cursor[Any] = event[1]
        if result := cursor.pgresult:
            values = (
                result.get_value(row, column) for row in range(result.ntuples) for column in range(result.nfields)
            )
            sizes.append(sum(len(value or b"") for value in values))

    sa.event.listen(written, "after_cursor_execute", measure)
    headlines_found = found(session, declare.bind(generation_of(written).spec))
    assert headlines_found[1] == (LONG[: headlines.LENGTH - 1] + "…")
    assert max(sizes) < 10_000


def test_a_column_that_the_declaration_does_not_have_is_left_out(written: sa.Engine, session: orm.Session) -> None:
    spec = generation_of(written).spec
    bound = declare.bind(spec)
    for columns, expected in ((("lang", "body"), "candle 1"), (("lang",), None)):
        other = sa.text(
            "UPDATE semantic.generation SET spec = jsonb_set(spec, '{columns}', to_jsonb(CAST(:columns AS text[])))"
        )
        with written.begin() as connection:
            connection.execute(other.bindparams(columns=list(columns)))
        assert found(session, bound)[1] == expected
        session.rollback()


def test_a_row_that_a_policy_hides_lends_nobody_its_headline(written: sa.Engine) -> None:
    execute(written, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    execute(written, "CREATE POLICY shown ON article USING (id IN (1, 2))")
    execute(written, "CREATE ROLE reader_of_headlines")
    try:
        execute(written, "GRANT SELECT ON article, article_semantic, article_semantic_receipt TO reader_of_headlines")
        execute(written, "GRANT USAGE ON SCHEMA semantic TO reader_of_headlines")
        execute(written, "GRANT SELECT ON ALL TABLES IN SCHEMA semantic TO reader_of_headlines")
        limited = sa.create_engine(written.url, connect_args={"options": "-c role=reader_of_headlines"})
        with orm.Session(limited) as session:
            for mode in ("dense", "lexical", "hybrid"):
                assert found(session, mode=mode) == {1: "The harbour", 2: "candle 2"}
        limited.dispose()
    finally:
        execute(written, "DROP OWNED BY reader_of_headlines")
        execute(written, "DROP ROLE reader_of_headlines")
