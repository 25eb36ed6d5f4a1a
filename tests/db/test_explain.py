"""What the planner makes of every kind of statement: indexes where they should be used, reasons where they are not."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pg_semantic import errors, search
from pg_semantic.index.bm25_expressions import Match
from tests.db.library import Article, encoder, execute, sync

VECTOR_INDEX, LEXICAL_INDEX = "article_semantic_vector_idx", "article_semantic_lexemes_idx"
VECTOR = [float(number) for number in encoder().encode_queries(["violin glacier"])[0]]

Statement: TypeAlias = "sa.Select[*tuple[Any, ...]]"
Made: TypeAlias = Callable[[], Statement]


@pytest.fixture
def session(many_articles: sa.Engine) -> Iterator[Session]:
    """A session whose transaction is rolled back."""
    with Session(many_articles) as opened:
        opened.execute(sa.text("SET LOCAL app.lang = 'half'"))
        yield opened


def knn(**page: int) -> "sa.Select[Article, float]":
    return search.knn(Article.semantic, VECTOR, **page)


def of_alias() -> Statement:
    other = orm.aliased(Article)
    return search.knn(Article.semantic.of(other), VECTOR).where(other.lang == "half")


def joined() -> Statement:
    half = sa.select(Article.id).where(Article.lang == "half").subquery()
    return knn().join(half, half.c.id == Article.id)


def with_exists() -> Statement:
    other = orm.aliased(Article)
    return knn().where(sa.exists().where(other.id == Article.id, other.lang == "half"))


def of_two_searches() -> Statement:
    other = orm.aliased(Article)
    near = search.knn(Article.semantic.of(other), VECTOR).with_only_columns(other.id).subquery()
    return knn().where(Article.id.in_(sa.select(near.c.id)))


def of_chunks() -> Statement:
    chunk = Article.semantic.Chunk
    return sa.select(chunk.content).order_by(chunk.vector.op("<=>")(VECTOR)).limit(5)


WALKING: dict[str, Made] = {
    "knn": knn,
    "knn, a page further": lambda: knn(limit=10, offset=20),
    "where on the source": lambda: knn().where(Article.lang == "half"),
    "a join": joined,
    "an EXISTS": with_exists,
    "a filter of a session setting": lambda: knn().where(Article.lang == sa.func.current_setting("app.lang", True)),
    "an alias": of_alias,
    "only one column": lambda: knn().with_only_columns(Article.id),
    "only the vectors": lambda: knn().with_only_columns(Article.semantic.Chunk.vector),
    "a CTE": lambda: sa.select(sa.func.count()).select_from(knn().with_only_columns(Article.id).cte()),
    "a subquery": lambda: sa.select(knn().with_only_columns(Article.id, Article.lang).subquery()),
    "another search in an IN": of_two_searches,
    "chunks, by pgvector's operator": of_chunks,
    "more like this": lambda: search.knn(Article.semantic, Article.semantic.similar_to(positive=[7], negative=[8])),
    "options of the ORM": lambda: knn().options(orm.defer(Article.body)),
}


@pytest.mark.parametrize("which", WALKING)
def test_a_statement_of_knn_walks_the_vector_index(session: Session, which: str) -> None:
    plan = search.explain(session, WALKING[which]())
    assert VECTOR_INDEX in plan.indexes, str(plan)
    assert (plan.uses_vector_index, plan.uses_lexical_index, plan.reasons) == (True, False, ())
    assert plan.cost > 0
    assert f"using {VECTOR_INDEX}" in str(plan)


@pytest.mark.parametrize("match", ["any", "all", "phrase", "websearch"])
def test_a_statement_of_lexical_uses_the_index_on_lexemes(session: Session, match: Match) -> None:
    plan = search.explain(session, search.lexical(Article.semantic, "violin glacier", match=match))
    assert plan.uses_lexical_index, str(plan)
    assert not plan.uses_vector_index
    assert plan.reasons == ("The statement ranks by words alone, so it needs no vector index.",)


@pytest.mark.parametrize("where", [(), (Article.lang == "half",)], ids=["all", "half"])
def test_a_statement_of_hybrid_uses_both(session: Session, where: tuple[sa.ColumnElement[bool], ...]) -> None:
    plan = search.explain(session, search.hybrid(Article.semantic, VECTOR, "violin glacier", where=where, depth=10))
    assert (plan.uses_vector_index, plan.uses_lexical_index, plan.reasons) == (True, True, ()), str(plan)


def test_under_row_level_security_knn_walks_the_vector_index(session: Session) -> None:
    for statement in (
        "CREATE ROLE reader_of_half",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_of_half",
        "ALTER TABLE article ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY half ON article USING (lang = 'half')",
        "SET LOCAL ROLE reader_of_half",
    ):
        session.execute(sa.text(statement))
    plan = search.explain(session, knn())
    assert plan.uses_vector_index, str(plan)
    assert "'half'" in str(plan)


def test_a_rare_filter_comes_first_and_the_reason_says_so(session: Session) -> None:
    for rare in (Article.lang == "rare", Article.id == 1, Article.id.in_([1, 2, 3])):
        plan = search.explain(session, knn().where(rare))
        assert not plan.uses_vector_index, str(plan)
        [reason] = plan.reasons
        assert reason.startswith("The planner expects filters to leave ")
        assert "of 4000 chunks" in reason


EXACT: dict[str, Made] = {
    "exact": lambda: search.exact(Article.semantic, VECTOR),
    "exactly": lambda: search.exactly(knn()),
    "distance()": lambda: sa.select(Article).order_by(Article.semantic.distance(VECTOR)).limit(5),
    "distance() by a label": lambda: (
        sa.select(Article, Article.semantic.distance(VECTOR).label("far")).order_by("far").limit(5)
    ),
}


@pytest.mark.parametrize("which", EXACT)
def test_a_statement_that_computes_every_distance_does_so_by_design(session: Session, which: str) -> None:
    plan = search.explain(session, EXACT[which]())
    assert not plan.uses_vector_index
    [reason] = plan.reasons
    assert "by design" in reason


WRITTEN_OTHERWISE: dict[str, tuple[Made, str]] = {
    "no LIMIT": (lambda: knn().limit(None), "no LIMIT"),
    "another order": (lambda: knn().order_by(None).order_by(Article.title), "not ordered by a distance"),
    "another order first": (
        lambda: (statement := knn()).order_by(None).order_by(Article.lang, *statement._order_by_clauses),
        "not ordered by a distance",
    ),
    "grouped": (lambda: knn().group_by(Article.id, *Article.semantic.tables.chunks.primary_key), "GROUP BY"),
    "no semantic index": (lambda: sa.select(Article), "does not use a semantic index"),
}


@pytest.mark.parametrize("which", WRITTEN_OTHERWISE)
def test_a_statement_that_no_index_can_serve_is_told_why(session: Session, which: str) -> None:
    statement, why = WRITTEN_OTHERWISE[which]
    plan = search.explain(session, statement())
    assert not plan.uses_vector_index, str(plan)
    [reason] = plan.reasons
    assert why in reason


def test_an_order_after_the_distance_is_served_from_postgres_17_on(session: Session) -> None:
    plan = search.explain(session, knn().order_by(Article.title))
    if (session.connection().dialect.server_version_info or ()) >= (17,):
        assert (plan.uses_vector_index, plan.notes) == (True, ())
    else:
        assert ["before PostgreSQL 17" in reason for reason in plan.reasons] == [True]
        assert ["no particular order" in note for note in plan.notes] == [True]


def test_scans_that_are_turned_off_are_the_reason(session: Session) -> None:
    session.execute(sa.text("SET LOCAL enable_indexscan = off"))
    [reason] = search.explain(session, knn()).reasons
    assert "enable_indexscan" in reason


def test_an_old_pgvector_is_noted(session: Session) -> None:
    session.execute(sa.text("UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'"))
    plan = search.explain(session, knn())
    assert [f"REINDEX {VECTOR_INDEX}" in note for note in plan.notes if "0.8.3" in note] == [True]


def test_an_index_that_is_not_built_or_not_valid_is_the_reason(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'violin ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    with Session(articles) as session:
        reasons = search.explain(session, knn()).reasons
        assert f"The index {VECTOR_INDEX} does not exist yet: `pg-semantic worker` builds it" in reasons[0]
        assert "run ANALYZE" in reasons[1]
        words = search.explain(session, search.lexical(Article.semantic, "violin")).reasons
        assert any("lexemes_idx does not exist yet" in reason for reason in words)
    sync(articles)
    with Session(articles) as session:
        session.execute(
            sa.text(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{VECTOR_INDEX}'::regclass")
        )
        assert any("is invalid" in reason for reason in search.explain(session, knn()).reasons)


def test_a_small_table_is_the_reason(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'violin ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    sync(articles)
    execute(articles, "ANALYZE")
    with Session(articles) as session:
        [reason] = search.explain(session, knn(limit=50)).reasons
        assert reason.startswith("With 50 chunks, the planner expects computing every distance")


def test_a_plan_that_is_analyzed_says_what_happened(session: Session) -> None:
    plan = search.explain(session, knn(limit=7), analyze=True)
    assert "actual ms=" in str(plan)
    assert "actual" not in str(search.explain(session, knn()))


def test_a_connection_and_an_async_session_give_the_same_plan(many_articles: sa.Engine, session: Session) -> None:
    expected = search.explain(session, knn())
    with many_articles.connect() as connection:
        assert search.explain(connection, knn()) == expected

    async def explained() -> search.Plan:
        engine = create_async_engine(many_articles.url)
        async with AsyncSession(engine) as opened:
            plan = await opened.run_sync(search.explain, knn())
        await engine.dispose()
        return plan

    assert asyncio.run(explained()) == expected


def test_a_plan_of_an_index_that_was_not_created_says_what_to_run(engine: sa.Engine) -> None:
    with Session(engine) as session, pytest.raises(errors.IndexNotFound, match="create_all"):
        search.explain(session, knn())
