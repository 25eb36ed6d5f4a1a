"""The recall report: near 1 on a good graph, low on a bad one, and honest about both."""

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from pg_semantic import errors, search
from pg_semantic.index import declare, distances
from pg_semantic.recall.score_interval import interval
from pg_semantic.search import scan_settings
from tests.db.library import Article, encoder, execute, generation_of, sync


@pytest.fixture
def session(many_articles: sa.Engine) -> Iterator[Session]:
    with Session(many_articles) as opened:
        yield opened


@pytest.fixture
def bad_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks that give up after the first chunks that they see."""
    settings = {"hnsw.ef_search": "1", "hnsw.iterative_scan": "off"}
    monkeypatch.setattr(scan_settings, "scan_settings", lambda *_, **__: settings)


def without_times(report: search.RecallReport) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in dataclasses.asdict(one).items() if not name.endswith("_ms")}
        for one in report.classes
    ]


CLASSES = {"all": (), "half": [Article.lang == "half"], "rare": [Article.lang == "rare"]}


def test_recall_of_a_good_graph_is_near_1_behind_every_filter(session: Session) -> None:
    report = search.recall(session, Article.semantic, sample=30, where=CLASSES)
    assert [one.name for one in report.classes] == ["all", "half", "rare"]
    report.require(0.95)
    for one in report.classes:
        assert one.queries == 30
        assert one.low < one.recall <= one.high <= 1
        assert (one.walk_ms > 0, one.exact_ms > 0) == (True, True)
    assert [one.uses_vector_index for one in report.classes] == [True, True, False]
    assert report.worst.recall == min(one.recall for one in report.classes)


@pytest.mark.usefixtures("bad_walks")
def test_recall_of_a_walk_that_ends_early_is_low_and_required_to_be_more(session: Session) -> None:
    report = search.recall(session, Article.semantic, sample=30, where=CLASSES)
    every, half, rare = report.classes
    assert every.recall <= 0.2
    assert (every.short, every.completed, every.queries) == (30, 30, 30)
    assert half.recall < 0.2
    assert (rare.recall, rare.short) == (1, 0)
    assert report.worst.recall < 0.2
    with pytest.raises(
        AssertionError, match=r"'all' 0\.\d+ \(95% interval 0\.\d+ to 0\.\d+, 30 queries\), 'half'"
    ) as told:
        report.require(0.95)
    assert "rare" not in str(told.value)
    report.require(0)


def test_rows_that_are_not_there_are_no_miss(session: Session) -> None:
    few = {"three": [Article.id.in_([5, 6, 7])]}
    [one] = search.recall(session, Article.semantic, sample=20, where=few).classes
    assert (one.recall, one.short, one.completed) == (1, 0, 20)


def test_rows_of_one_score_stand_for_each_other(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'violin ' || i % 300, NULL, 'en' FROM generate_series(1, 3000) i")
    sync(articles)
    execute(articles, "ANALYZE")
    with Session(articles) as session:
        [one] = search.recall(session, Article.semantic, sample=5).classes
        near = session.scalars(search.knn(Article.semantic, vector("violin 1"))).all()
    assert one.uses_vector_index
    assert one.recall == 1
    assert {row.title for row in near} == {"violin 1"}


def vector(text: str) -> Any:
    return encoder().encode_queries([text])[0]


def test_the_same_seed_gives_the_same_report_and_another_seed_another_sample(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[float]] = []
    original = distances.query_vector

    def listen(spec: Any, given: Any) -> Any:
        asked.append(list(given))
        return original(spec, given)

    monkeypatch.setattr(distances, "query_vector", listen)
    reports, samples = [], []
    for seed in (1, 1, 2):
        asked.clear()
        reports.append(without_times(search.recall(session, Article.semantic, sample=10, seed=seed)))
        samples.append(sorted(asked))
    assert reports[0] == reports[1]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]


def test_no_query_finds_the_row_that_it_is_of(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'violin', NULL, 'en'), (2, 'harbour', NULL, 'en')")
    sync(articles)
    with Session(articles) as session:
        [one] = search.recall(session, Article.semantic).classes
        assert one.queries == 2
        execute(articles, "DELETE FROM article WHERE id = 1")
        with pytest.raises(errors.QueryError, match="class 'all'"):
            search.recall(session, Article.semantic)


def test_queries_may_be_given(session: Session) -> None:
    counted = []
    report = search.recall(
        session, Article.semantic, queries=[vector("violin"), vector("anchor")], on_query=lambda: counted.append(1)
    )
    assert (report.classes[0].queries, len(counted)) == (2, 2)


def test_a_session_completes_what_the_report_counts_as_short(session: Session, bad_walks: None) -> None:
    assert len(session.execute(search.knn(Article.semantic, vector("violin"))).all()) == 10
    report = search.recall(session, Article.semantic, queries=[vector("violin")])
    assert report.worst.recall == pytest.approx(0.1)
    assert report.worst.completed == 1


def test_an_alias_a_connection_and_an_index_of_no_class_are_measured_alike(
    many_articles: sa.Engine, session: Session
) -> None:
    expected = without_times(search.recall(session, Article.semantic, sample=5))
    alias = Article.semantic.of(orm.aliased(Article))
    assert without_times(search.recall(session, alias, sample=5)) == expected
    with many_articles.connect() as connection:
        bound = declare.bind(generation_of(many_articles).spec)
        assert without_times(search.recall(connection, bound, sample=5)) == expected


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_async_session_measures_the_same(many_articles: sa.Engine, session: Session, driver: str) -> None:
    async def measured() -> search.RecallReport:
        engine = create_async_engine(many_articles.url.set(drivername=f"postgresql+{driver}"))
        async with AsyncSession(engine) as opened:
            report = await opened.run_sync(search.recall, Article.semantic, sample=5)
        await engine.dispose()
        return report

    assert without_times(asyncio.run(measured())) == without_times(search.recall(session, Article.semantic, sample=5))


def test_there_has_to_be_something_to_measure(articles: sa.Engine, session: Session) -> None:
    with Session(articles) as empty, pytest.raises(errors.QueryError, match="has no vectors"):
        search.recall(empty, Article.semantic)
    with pytest.raises(errors.QueryError, match="class 'none'"):
        search.recall(session, Article.semantic, sample=2, where={"none": [Article.lang == "none"]})


def test_the_interval_is_that_of_wilson() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81/263 and 0/20, 95 %
    assert list(interval(81 / 263, 263)) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert list(interval(0, 20)) == pytest.approx([0, 0.1611], abs=5e-5)
