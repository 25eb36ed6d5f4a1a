"""Searches in an AsyncSession, on each async driver: what is found is the same, and the event loop never waits."""

import asyncio
import contextlib
import dataclasses
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
import sqlalchemy as sa
from pgvector.asyncpg import register_vector
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pg_semantic import AsyncSearcher, Searcher, database, errors, search
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.rerankers import BatchingReranker, Scores, ScoreType
from pg_semantic.search import Convex, Diverse, Hit, Options, Rerank, scan_settings
from tests.conftest import copy_of
from tests.db.library import Article, Base, encoder, execute, sync
from tests.waiting import eventually

T = TypeVar("T")

ROWS = 200
WORDS = ("harbour", "candle", "meadow", "engine", "violin", "glacier", "pepper", "lantern", "anchor", "thistle")
TEXT = "harbour candle"
TICKS = 100
PATIENCE_SECONDS = 30
POOL_SECONDS = 60

SEARCHES: dict[str, dict[str, Any]] = {
    "dense": {},
    "exact": {"exact": True, "offset": 5},
    "lexical": {"mode": "lexical", "options": Options(match="all")},
    "hybrid": {"mode": "hybrid", "where": [Article.lang == "half", Article.id.in_(range(150))]},
    "convex": {"mode": "hybrid", "options": Options(fusion=Convex(dense=0.7), match="websearch", passages=2)},
    "diverse": {"mode": "hybrid", "options": Options(diverse=Diverse(relevance=0.3), snippets=True)},
    "filtered": {"where": [Article.lang == "rare", Article.title.is_not(None)], "limit": 50},
}


class Held(HashedEncoder):
    """Waits to be let go before it makes vectors of queries."""

    def __init__(self) -> None:
        super().__init__(32)
        self.begun, self.free = threading.Event(), threading.Event()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.begun.set()
        assert self.free.wait(PATIENCE_SECONDS)
        return super().encode_queries(texts)


class HeldReranker:
    """Prefers short passages, once it is let go."""

    reference = "held"
    score_type: ScoreType = "logit"

    def __init__(self) -> None:
        self.begun, self.free = threading.Event(), threading.Event()

    def score(self, query: str, passages: Sequence[str]) -> Scores:  # noqa: ARG002 - a Reranker
        self.begun.set()
        assert self.free.wait(PATIENCE_SECONDS)
        return np.array([-len(passage) for passage in passages], np.float32)


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Rows with words in common, every tenth of two chunks; not written to by any test here."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        random = np.random.default_rng(1)
        with Session(engine) as session:
            for number in range(1, ROWS + 1):
                body = " ".join(random.choice(WORDS, 400 if number % 10 == 0 else 6))
                lang = "rare" if number % 50 == 0 else "half" if number % 2 else "en"
                session.add(Article(id=number, title=" ".join(random.choice(WORDS, 3)), body=body, lang=lang))
            session.commit()
        sync(engine)
        execute(engine, "ANALYZE")  # now, so that no plan changes on the way
        yield engine
        engine.dispose()


@pytest.fixture(params=["psycopg", "asyncpg"])
def url(filled: sa.Engine, request: pytest.FixtureRequest) -> sa.URL:
    return of_driver(filled.url, request.param)


def of_driver(url: sa.URL, driver: str) -> sa.URL:
    return url.set(drivername=f"postgresql+{driver}")


def run(url: sa.URL, work: Callable[[AsyncEngine], Awaitable[T]], **pool: Any) -> T:
    """What the work gives on an engine of its own, in an event loop of its own."""

    async def whole() -> T:
        engine = create_async_engine(url, **pool)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(whole())


async def find(engine: AsyncEngine, searcher: AsyncSearcher, text: str = TEXT, **asked: Any) -> list[Hit[Article]]:
    async with AsyncSession(engine) as session:
        return await searcher.search(session, Article.semantic, text, **asked)


async def turn(times: int = TICKS) -> int:
    """Lets the event loop go round so many times."""
    ticks = 0
    for _ in range(times):
        await asyncio.sleep(0)
        ticks += 1
    return ticks


def checked_out(engine: AsyncEngine) -> int:
    count: int = engine.pool.checkedout()  # type: ignore[attr-defined]
    return count


def facts(hits: list[Hit[Article]]) -> list[tuple[Any, ...]]:
    return [(hit.entity.id, hit.score, hit.scores, hit.passages, hit.snippet) for hit in hits]


@pytest.mark.parametrize("which", SEARCHES)
def test_each_search_finds_what_it_finds_in_a_session(filled: sa.Engine, url: sa.URL, which: str) -> None:
    asked = SEARCHES[which]
    with Session(filled) as session:
        expected = facts(Searcher(encoder()).search(session, Article.semantic, TEXT, **asked))
    found = run(url, lambda engine: find(engine, AsyncSearcher(encoder()), **asked))
    assert len(expected) >= 4
    assert facts(found) == expected


def test_rows_like_others_are_the_same_in_both(filled: sa.Engine, url: sa.URL) -> None:
    vector = encoder().encode_queries(["violin"])[0]
    like = Article.semantic.similar_to(positive=[7, vector], negative=[8])
    with Session(filled) as session:
        expected = facts(Searcher().search(session, Article.semantic, like))

    async def found(engine: AsyncEngine) -> list[Hit[Article]]:
        async with AsyncSession(engine) as session:
            return await AsyncSearcher().search(session, Article.semantic, like)

    assert len(expected) == 10
    assert facts(run(url, found)) == expected


def statements() -> dict[str, "sa.Select[Article, float]"]:
    vector = encoder().encode_queries([TEXT])[0]
    return {
        "knn": search.knn(Article.semantic, vector).where(Article.lang == "half"),
        "short": search.knn(Article.semantic, vector).where(Article.lang == "rare"),
        "exact": search.exact(Article.semantic, vector).where(Article.lang == "half"),
        "lexical": search.lexical(Article.semantic, TEXT, match="phrase"),
        "hybrid": search.hybrid(Article.semantic, vector, TEXT, where=[Article.lang == "half"]),
        "distance": sa.select(Article, (1 - Article.semantic.distance(vector)).label("score")).order_by(
            Article.semantic.distance(vector), Article.id
        ),
    }


@pytest.mark.parametrize("which", statements())
def test_a_statement_gives_an_async_session_the_same_rows_at_once_and_in_a_stream(
    filled: sa.Engine, url: sa.URL, which: str
) -> None:
    statement = statements()[which]
    with Session(filled) as session:
        expected = [(article.id, score) for article, score in session.execute(statement)]

    async def found(engine: AsyncEngine) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        async with AsyncSession(engine) as session:
            at_once = [(article.id, score) for article, score in await session.execute(statement)]
            rows = await session.stream(statement)
            return at_once, [(article.id, score) async for article, score in rows]

    assert expected
    assert run(url, found) == (expected, expected)


def test_codecs_that_an_application_has_registered_with_asyncpg_change_nothing(filled: sa.Engine) -> None:
    vector = encoder().encode_queries(["violin"])[0]
    like = Article.semantic.similar_to(positive=[7, vector], negative=[8])
    vectors = sa.select(Article.semantic.Chunk.vector).order_by("id", "ordinal").limit(9)

    async def found(engine: AsyncEngine) -> list[Any]:
        async with AsyncSession(engine) as session:
            searcher = AsyncSearcher(encoder())
            hits = [
                facts(await searcher.search(session, Article.semantic, TEXT, **asked)) for asked in SEARCHES.values()
            ]
            hits.append(facts(await searcher.search(session, Article.semantic, like)))
            rows = [
                [(article.id, score) for article, score in await session.execute(statement)]
                for statement in statements().values()
            ]
            # In 16 bits, as they are stored: their text has fewer digits than their binary form.
            stored = np.asarray([list(one) for one in await session.scalars(vectors)], np.float16).tolist()
            return [*hits, *rows, stored]

    async def registered(engine: AsyncEngine) -> list[Any]:
        @sa.event.listens_for(engine.sync_engine, "connect")
        def connected(connection: Any, _record: object) -> None:
            connection.run_async(register_vector)

        return await found(engine)

    plain = of_driver(filled.url, "asyncpg")
    expected = run(plain, found)
    assert all(expected)
    assert run(plain, registered) == expected


def test_a_scoped_session_is_that_of_the_current_task(url: sa.URL) -> None:
    async def found(engine: AsyncEngine) -> tuple[list[Hit[Article]], list[Hit[Article]], bool]:
        scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
        hits = await AsyncSearcher(encoder()).search(scoped, Article.semantic, TEXT)
        own = all(hit.entity in scoped() for hit in hits)
        await scoped.remove()
        return hits, await find(engine, AsyncSearcher(encoder())), own

    hits, expected, own = run(url, found)
    assert own
    assert facts(hits) == facts(expected)


def test_a_scoped_session_of_the_other_kind_is_refused_by_both(filled: sa.Engine, url: sa.URL) -> None:
    async def refused(engine: AsyncEngine) -> None:
        scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
        with pytest.raises(errors.QueryError, match="takes a Session, not AsyncSession"):
            Searcher(encoder()).search(scoped, Article.semantic, TEXT)  # type: ignore[arg-type]
        await scoped.remove()

    run(url, refused)
    threads: scoped_session[Session] = scoped_session(sessionmaker(filled))
    with pytest.raises(errors.QueryError, match="takes an AsyncSession, not Session"):
        asyncio.run(AsyncSearcher(encoder()).search(threads, Article.semantic, TEXT))  # type: ignore[arg-type]
    assert len(Searcher(encoder()).search(threads, Article.semantic, TEXT)) == 10
    threads.remove()


def test_a_stream_gives_rows_a_few_at_a_time(filled: sa.Engine, url: sa.URL) -> None:
    statement = statements()["knn"].execution_options(yield_per=3)
    with Session(filled) as session:
        expected = [article.id for article in session.scalars(statement)]

    async def found(engine: AsyncEngine) -> list[list[int]]:
        async with AsyncSession(engine) as session:
            rows = await session.stream_scalars(statement)
            return [[article.id for article in part] async for part in rows.partitions()]

    assert run(url, found) == [expected[:3], expected[3:6], expected[6:9], expected[9:]]


def test_what_an_async_session_would_get_too_few_of_is_completed(
    filled: sa.Engine, url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("DEFAULT_EF_SEARCH", 10), ("_EF_SEARCH_FACTOR", 0), ("_MAX_SCAN_TUPLES", 1)):
        monkeypatch.setattr(scan_settings, name, value)
    few = Article.id * 1 > ROWS - 10  # the planner expects a third of the rows
    statement = search.knn(Article.semantic, encoder().encode_queries([TEXT])[0], limit=8).where(few)

    async def found(engine: AsyncEngine) -> tuple[int, int, int]:
        async with AsyncSession(engine) as session:
            await session.execute(sa.text("SET LOCAL enable_seqscan = off"))
            connection = await session.connection()
            bare = len((await connection.execute(statement)).all())
            streamed = [article.id async for article in await session.stream_scalars(statement)]
            return bare, len((await session.execute(statement)).all()), len(streamed)

    bare, *complete = run(url, found)
    assert bare < 8
    assert complete == [8, 8]


@pytest.mark.parametrize("which", statements())
def test_a_statement_is_explained_in_an_async_session(filled: sa.Engine, url: sa.URL, which: str) -> None:
    statement = statements()[which]
    with Session(filled) as session:
        expected = search.explain(session, statement)

    async def explained(engine: AsyncEngine) -> search.Plan:
        async with AsyncSession(engine) as session:
            return await session.run_sync(search.explain, statement)

    plan = run(url, explained)
    if url.get_driver_name() == "asyncpg":  # its query vector is read from a text by a subquery, once
        assert plan.cost == pytest.approx(expected.cost, rel=0.01)
        plan = dataclasses.replace(plan, cost=expected.cost, text=expected.text)
    assert plan == expected


def test_the_event_loop_goes_on_while_the_encoder_works(url: sa.URL) -> None:
    held = Held()

    async def found(engine: AsyncEngine) -> list[Hit[Article]]:
        searching = asyncio.create_task(find(engine, AsyncSearcher(held), mode="hybrid"))
        await asyncio.to_thread(held.begun.wait, PATIENCE_SECONDS)
        assert await turn() == TICKS  # the encoder is not let go before
        assert not searching.done()
        assert checked_out(engine) == 0
        held.free.set()
        return await searching

    assert len(run(url, found)) == 10


def test_the_event_loop_goes_on_while_the_reranker_works(url: sa.URL) -> None:
    held = HeldReranker()
    options = Options(rerank=Rerank(BatchingReranker(held), depth=20))

    async def found(engine: AsyncEngine) -> list[Hit[Article]]:
        searching = asyncio.create_task(find(engine, AsyncSearcher(encoder()), options=options))
        await asyncio.to_thread(held.begun.wait, PATIENCE_SECONDS)
        assert await turn() == TICKS
        assert not searching.done()
        held.free.set()
        return await searching

    hits = run(url, found)
    assert len(hits) == 10
    assert [hit.score for hit in hits] == sorted((-len(hit.passage) for hit in hits), reverse=True)


@contextlib.asynccontextmanager
async def locked(filled: sa.Engine) -> AsyncIterator[Callable[[], Coroutine[Any, Any, None]]]:
    """No search gets at the chunks inside; gives what returns once one waits for them."""
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'article_semantic'::regclass")

    async def one_waits() -> None:
        await asyncio.to_thread(eventually, lambda: connection.scalar(waiting), "a search to wait for the chunks")

    with filled.connect() as connection:
        connection.execute(sa.text("LOCK TABLE article_semantic"))
        yield one_waits


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_the_event_loop_goes_on_while_the_database_works(filled: sa.Engine, url: sa.URL, mode: str) -> None:
    async def found(engine: AsyncEngine) -> list[Hit[Article]]:
        async with locked(filled) as one_waits:
            searching = asyncio.create_task(find(engine, AsyncSearcher(encoder()), mode=mode))
            await one_waits()
            assert await turn() == TICKS
            assert not searching.done()
        return await searching

    assert len(run(url, found)) == 10


def test_a_search_needs_one_connection_whatever_its_mode(url: sa.URL) -> None:
    searcher = AsyncSearcher(encoder())
    asked = [SEARCHES[which] | {"text": f"{word} candle"} for which in SEARCHES for word in WORDS]
    opened: list[object] = []

    async def found(engine: AsyncEngine) -> list[list[Hit[Article]]]:
        sa.event.listen(engine.sync_engine, "connect", lambda *given: opened.append(given))
        return await asyncio.gather(*(find(engine, searcher, **one) for one in asked))

    every = run(url, found, pool_size=1, max_overflow=0, pool_timeout=POOL_SECONDS)
    assert len(every) == len(SEARCHES) * len(WORDS)
    assert len(opened) == 1


def test_a_search_cancelled_while_it_is_encoded_leaves_the_pool_whole(url: sa.URL) -> None:
    held = Held()
    searcher = AsyncSearcher(held)

    async def found(engine: AsyncEngine) -> list[Hit[Article]]:
        searching = asyncio.create_task(find(engine, searcher))
        await asyncio.to_thread(held.begun.wait, PATIENCE_SECONDS)
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        held.free.set()
        return await find(engine, searcher, text="lantern")

    assert len(run(url, found, pool_size=1, max_overflow=0, pool_timeout=POOL_SECONDS)) == 10


def test_a_search_cancelled_in_the_database_leaves_the_pool_whole(filled: sa.Engine, url: sa.URL) -> None:
    searcher = AsyncSearcher(encoder())

    async def found(engine: AsyncEngine) -> list[Hit[Article]]:
        async with locked(filled) as one_waits:
            searching = asyncio.create_task(find(engine, searcher, mode="hybrid"))
            await one_waits()
            searching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await searching
        assert checked_out(engine) == 0
        return await find(engine, searcher, mode="hybrid")

    assert len(run(url, found, pool_size=1, max_overflow=0, pool_timeout=POOL_SECONDS)) == 10


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_index_that_was_not_created_is_said_to_be_so_in_the_same_words(engine: sa.Engine, driver: str) -> None:
    with Session(engine) as session, pytest.raises(errors.IndexNotFound) as expected:
        Searcher(encoder()).search(session, Article.semantic, TEXT)
    with pytest.raises(errors.IndexNotFound) as failure:
        run(of_driver(engine.url, driver), lambda opened: find(opened, AsyncSearcher(encoder())))
    assert str(failure.value) == str(expected.value)
    assert "create_all" in str(failure.value)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_role_without_privileges_is_told_so_in_the_same_words(engine: sa.Engine, driver: str) -> None:
    Base.metadata.create_all(engine)
    stranger = f"stranger_{uuid.uuid4().hex}"
    execute(engine, f"CREATE ROLE {stranger} LOGIN")
    url = of_driver(engine.url, driver).set(username=stranger)
    with pytest.raises(
        errors.DatabaseError, match=r"^The role lacks privileges: permission denied .* grant SELECT on these"
    ):
        run(url, lambda opened: find(opened, AsyncSearcher(), mode="lexical"))
    execute(engine, f"DROP ROLE {stranger}")
