"""Rows ranked by meaning: complete, in a certain order, and part of any statement."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pg_semantic import AsyncSearcher, Searcher, database, encoders, errors, registry, search
from pg_semantic.index import declare
from pg_semantic.operations import create_index
from pg_semantic.search import Options, scan_settings
from tests.conftest import copy_of
from tests.db.library import Article, Base, encoder, execute, generation_of, rows, sync

ROWS = 2000
WORDS = ("harbour", "candle", "meadow", "engine", "violin", "glacier", "pepper", "lantern", "anchor", "thistle")


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Two thousand rows with words in common, every tenth of two chunks; not written to by any test here."""

    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        random = np.random.default_rng(1)
        with Session(engine) as session:
            for number in range(1, ROWS + 1):
                words = " ".join(random.choice(WORDS, 6))
                body = " ".join(random.choice(WORDS, 400)) if number % 10 == 0 else f"{words} {number % 37}"
                lang = "rare" if number % 500 == 0 else "half" if number % 2 else "en"
                session.add(Article(id=number, title=words, body=body, lang=lang))
            session.commit()
        sync(engine)
        yield engine
        engine.dispose()


@pytest.fixture
def session(filled: sa.Engine) -> Iterator[Session]:
    with Session(filled) as opened:
        yield opened


def vector(text: str) -> NDArray[np.float32]:
    found: NDArray[np.float32] = encoder().encode_queries([text])[0]
    return found


FILTERS = {
    "all": (sa.true(), ROWS),
    "half": (Article.lang == "half", ROWS // 2),
    "one in 500": (Article.lang == "rare", ROWS // 500),
    "none": (Article.lang == "none", 0),
}


@pytest.mark.parametrize("which", FILTERS)
@pytest.mark.parametrize("limit", [1, 10, 150])
@pytest.mark.parametrize("offset", [0, 50])
def test_a_search_gives_as_many_rows_as_there_are(session: Session, which: str, limit: int, offset: int) -> None:
    condition, matching = FILTERS[which]
    hits = Searcher(encoder()).search(
        session, Article.semantic, "harbour candle", limit=limit, offset=offset, where=[condition]
    )
    assert len(hits) == min(limit, max(0, matching - offset))
    assert len({hit.entity.id for hit in hits}) == len(hits)


def test_hits_are_in_order_of_score_then_key_and_the_same_every_time(session: Session) -> None:
    def found() -> list[tuple[float, int]]:
        hits = Searcher(encoder()).search(session, Article.semantic, "violin glacier", limit=100)
        return [(-round(hit.score, 6), hit.entity.id) for hit in hits]

    assert found() == sorted(found())


def test_the_vector_index_finds_nearly_what_computing_every_distance_finds(session: Session) -> None:
    shared = 0
    for text in ("harbour candle", "violin", "pepper pepper anchor", "thistle meadow 12"):
        near = [row for row, _ in session.execute(search.knn(Article.semantic, vector(text), limit=50))]
        exact = [row for row, _ in session.execute(search.exact(Article.semantic, vector(text), limit=50))]
        shared += len({row.id for row in near} & {row.id for row in exact})
    assert shared >= 0.95 * 4 * 50


def test_a_row_of_several_chunks_is_found_once_by_its_best_chunk(session: Session) -> None:
    hits = Searcher(encoder()).search(
        session, Article.semantic, "anchor", limit=20, where=[Article.id % 10 == 0], exact=True
    )
    best = dict(
        rows(
            session.get_bind().engine,
            "SELECT id, max(1 - (vector <=> CAST(:q AS halfvec))) FROM article_semantic WHERE id % 10 = 0 GROUP BY id",
            q=str(vector("anchor").tolist()),
        )
    )
    assert [hit.entity.id for hit in hits] == sorted(best, key=lambda row: (-best[row], row))[:20]
    for hit in hits:
        assert hit.score == pytest.approx(best[hit.entity.id])
        assert hit.scores == {"dense": hit.score}
        assert hit.passage in f"{hit.entity.title}\n\n{hit.entity.body}"


def test_the_vector_index_gives_a_row_of_several_chunks_once(session: Session) -> None:
    several = sa.select(Article.semantic.Chunk.ordinal).where(Article.semantic.Chunk.ordinal > 0)
    assert session.scalars(sa.select(sa.func.count()).select_from(several.subquery())).one() >= ROWS / 10
    where = Article.id % 10 == 0
    near = session.scalars(search.knn(Article.semantic, vector("anchor"), limit=50).where(where)).all()
    exact = session.scalars(search.exact(Article.semantic, vector("anchor"), limit=50).where(where)).all()
    assert len({row.id for row in near}) == 50
    assert len({row.id for row in near} & {row.id for row in exact}) >= 48


@pytest.fixture
def gives_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans of the vector index that end after a few chunks."""
    monkeypatch.setattr(scan_settings, "DEFAULT_EF_SEARCH", 10)
    monkeypatch.setattr(scan_settings, "_EF_SEARCH_FACTOR", 0)
    monkeypatch.setattr(scan_settings, "_MAX_SCAN_TUPLES", 1)


FEW = Article.id * 1 > ROWS - 10  # the planner expects a third of the rows


@pytest.mark.usefixtures("gives_up_at_once")
def test_what_a_session_would_get_too_few_of_is_completed(session: Session) -> None:
    statement = search.knn(Article.semantic, vector("anchor"), limit=8).where(FEW)
    exact = search.exact(Article.semantic, vector("anchor"), limit=8).where(FEW)
    assert len(session.connection().execute(statement).all()) < 8
    assert session.scalars(statement).all() == session.scalars(exact).all()
    assert len(session.execute(statement.options(orm.defer(Article.body))).all()) == 8
    assert len(session.scalars(statement.with_only_columns(Article.id)).all()) == 8
    assert len(Searcher(encoder()).search(session, Article.semantic, "anchor", limit=8, where=[FEW])) == 8


@pytest.mark.usefixtures("gives_up_at_once")
def test_a_limit_that_was_changed_is_the_one_to_reach(session: Session) -> None:
    statement = search.knn(Article.semantic, vector("anchor"), limit=1).where(FEW)
    walked = len(session.connection().execute(statement.limit(8)).all())
    assert 1 <= walked < 8
    assert len(session.execute(statement.limit(8)).all()) == 8


@pytest.mark.usefixtures("gives_up_at_once")
def test_the_dense_leg_of_a_hybrid_search_is_completed(session: Session) -> None:
    hits = Searcher(encoder()).search(
        session, Article.semantic, "zebra anchor", limit=8, where=[FEW], mode="hybrid", options=Options(depth=8)
    )
    assert len([hit for hit in hits if "dense" in hit.scores]) == 8


def test_the_statement_composes_with_filters_joins_options_and_columns(session: Session) -> None:
    half = sa.select(Article.id).where(Article.lang == "half").subquery()
    statement = (
        search.knn(Article.semantic, vector("meadow"), limit=5)
        .join(half, half.c.id == Article.id)
        .where(Article.id > 100, Article.title.contains("meadow"))
        .options(orm.defer(Article.body))
    )
    found = session.execute(statement).all()
    assert len(found) == 5
    for row, score in found:
        assert row.lang == "half"
        assert row.id > 100
        assert "body" in sa.inspect(row).unloaded
        assert -1 <= score <= 1
    columns = statement.with_only_columns(Article.id)
    assert session.scalars(columns).all() == [row.id for row, _ in found]
    counted = sa.select(sa.func.count()).select_from(columns.subquery())
    assert session.scalar(counted) == 5


def test_pages_follow_each_other_without_gap_or_repeat(session: Session) -> None:
    searcher = Searcher(encoder())
    whole = searcher.search(session, Article.semantic, "lantern", limit=60, exact=True)
    pages = [
        hit.entity.id
        for offset in (0, 20, 40)
        for hit in searcher.search(session, Article.semantic, "lantern", limit=20, offset=offset, exact=True)
    ]
    assert pages == [hit.entity.id for hit in whole]


def test_knn_walks_the_vector_index_and_a_rare_filter_comes_first(session: Session) -> None:
    def plan(statement: "sa.Select[Article, float]") -> str:
        compiled = statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        return "\n".join(session.scalars(sa.text(f"EXPLAIN {compiled}".replace(":", r"\:"))))

    execute(session.get_bind().engine, "ANALYZE article")
    statement = search.knn(Article.semantic, vector("meadow"), limit=5)
    assert "article_semantic_vector_idx" in plan(statement)
    assert "article_semantic_vector_idx" not in plan(statement.where(Article.id == 1))
    assert "article_semantic_vector_idx" not in plan(search.exact(Article.semantic, vector("meadow")))


def test_the_settings_of_a_search_end_with_its_transaction(session: Session) -> None:
    setting = sa.select(sa.func.current_setting("hnsw.iterative_scan", True))
    session.execute(search.knn(Article.semantic, vector("meadow"), limit=5)).all()
    assert session.scalar(setting) == "strict_order"
    session.rollback()
    assert session.scalar(setting) != "strict_order"


def test_in_autocommit_a_search_is_complete_too(filled: sa.Engine) -> None:
    with Session(filled.execution_options(isolation_level="AUTOCOMMIT")) as session:
        found = session.execute(search.knn(Article.semantic, vector("meadow"), limit=100)).all()
        assert len(found) == 100


def test_a_search_can_be_the_part_of_a_larger_statement(session: Session) -> None:
    ranked = search.knn(Article.semantic, vector("meadow"), limit=30).with_only_columns(Article.id, Article.lang)
    part = ranked.cte("ranked")
    per_lang = sa.select(part.c.lang, sa.func.count()).group_by(part.c.lang)
    assert sum(count for _, count in session.execute(per_lang)) == 30


def test_the_async_searcher_finds_the_same(filled: sa.Engine, session: Session) -> None:
    expected = Searcher(encoder()).search(session, Article.semantic, "anchor", limit=7)

    async def find() -> list[search.Hit[Article]]:
        engine = create_async_engine(filled.url)
        async with AsyncSession(engine, expire_on_commit=False) as opened:
            hits = await AsyncSearcher(encoder()).search(opened, Article.semantic, "anchor", limit=7)
        await engine.dispose()
        return hits

    hits = asyncio.run(find())
    assert [(hit.entity.id, hit.score) for hit in hits] == [(hit.entity.id, hit.score) for hit in expected]


def test_an_index_known_only_to_the_database_is_searched_the_same(filled: sa.Engine, session: Session) -> None:
    bound = declare.bind(generation_of(filled).spec)
    hits = Searcher(encoder()).search(session, bound, "anchor", limit=7)
    expected = Searcher(encoder()).search(session, Article.semantic, "anchor", limit=7)
    assert [hit.entity.id for hit in hits] == [hit.entity.id for hit in expected]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_query_is_refused(session: Session, text: str) -> None:
    with pytest.raises(errors.QueryError, match="empty"):
        Searcher(encoder()).search(session, Article.semantic, text)


def test_a_search_with_another_encoder_is_refused_with_both_names(session: Session) -> None:
    with pytest.raises(errors.EncoderMismatch, match=r"hashed:32.*hashed:64"):
        Searcher(encoders.load("hashed:64"), follow=False).search(session, Article.semantic, "anchor")


def test_an_index_that_was_not_created_is_said_to_be_so(engine: sa.Engine) -> None:
    with Session(engine) as session, pytest.raises(errors.IndexNotFound, match="create_all"):
        Searcher(encoder()).search(session, Article.semantic, "anchor")
    with engine.connect() as connection, pytest.raises(errors.IndexNotFound, match="Its semantic indexes: none"):
        registry.find(connection, "nothing")


def test_a_database_without_our_schema_says_what_to_run(bare_dsn: str) -> None:
    engine = sa.create_engine(sa.make_url(bare_dsn).set(drivername="postgresql+psycopg"))
    with Session(engine) as session, pytest.raises(errors.NotInstalled, match="pg-semantic db upgrade"):
        Searcher(encoder()).search(session, Article.semantic, "anchor")
    engine.dispose()


def test_an_index_with_no_vectors_yet_finds_nothing(articles: sa.Engine) -> None:
    with Session(articles) as session:
        assert Searcher(encoder()).search(session, Article.semantic, "anchor") == []


def test_a_table_may_have_any_name(engine: sa.Engine) -> None:
    for name in ("chunk", "wanted", "best_chunk", "job", "generation"):
        execute(engine, f"CREATE TABLE {name} (id integer PRIMARY KEY, words text)")
        execute(engine, f"INSERT INTO {name} VALUES (1, 'harbour'), (2, 'candle')")
        with engine.connect() as connection:
            spec = create_index.describe(
                connection, name, columns=("words",), encoder=Article.semantic.spec.encoder, name=f"{name}_1"
            )
        create_index.create(engine, spec)
    assert sync(engine).rows == 10
    with Session(engine) as opened:
        for generation in registry.generations(opened.connection()):
            for exact in (False, True):
                bound = declare.bind(generation.spec)
                [hit] = Searcher(encoder()).search(opened, bound, "candle", limit=1, exact=exact)
                assert hit.passage == "candle"
