"""The pages of one ranking: together they are that ranking, each row once, whatever is done to hits on the way."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Session

from pg_semantic import Searcher, errors, search
from pg_semantic.rerankers import BatchingReranker, Scores, ScoreType
from pg_semantic.search import Convex, Diverse, Options, Rerank, Rrf
from tests.db.library import Article, encoder

TEXT = "harbour candle"


@pytest.fixture
def session(many_articles: sa.Engine) -> Iterator[Session]:
    with Session(many_articles) as opened:
        yield opened


class ByLength:
    """A reranker that takes the shortest passage for the best."""

    reference = "by length"
    score_type: ScoreType = "logit"

    def score(self, query: str, passages: Sequence[str]) -> Scores:  # noqa: ARG002 - the protocol's
        return -np.array([len(passage) for passage in passages], np.float32)


def ids(session: Session, *, limit: int, offset: int = 0, **how: Any) -> list[int]:
    hits = Searcher(encoder()).search(session, Article.semantic, TEXT, limit=limit, offset=offset, exact=True, **how)
    return [hit.entity.id for hit in hits]


@pytest.mark.parametrize("fusion", [Rrf(), Convex()])
@pytest.mark.parametrize("depth", [None, 30])
def test_pages_of_a_hybrid_search_are_one_ranking(session: Session, fusion: Any, depth: int | None) -> None:
    how: dict[str, Any] = {"mode": "hybrid", "options": Options(fusion=fusion, depth=depth)}
    whole = ids(session, limit=430, **how)
    assert len(set(whole)) == 430
    assert [row for start in range(0, 430, 43) for row in ids(session, limit=43, offset=start, **how)] == whole


def test_pages_of_a_hybrid_statement_are_one_ranking(session: Session) -> None:
    vector = encoder().encode_queries([TEXT])[0]

    def page(limit: int, offset: int) -> list[int]:
        statement = search.hybrid(Article.semantic, vector, TEXT, limit=limit, offset=offset)
        return [row.id for row, _ in session.execute(statement)]

    shared = set(page(300, 0)) & {row for start in range(0, 300, 50) for row in page(50, start)}
    assert len(shared) >= 297  # the vector index may walk otherwise for another page


def test_pages_of_reranked_hits_are_one_ranking(session: Session) -> None:
    with BatchingReranker(ByLength()) as reranker:
        assert_pages_order_the_best_anew(session, Options(rerank=Rerank(reranker, depth=20)), depth=20)


def test_pages_of_diverse_hits_are_one_ranking(session: Session) -> None:
    assert_pages_order_the_best_anew(session, Options(diverse=Diverse(relevance=0.3, depth=20)), depth=20)


def assert_pages_order_the_best_anew(session: Session, options: Options, *, depth: int) -> None:
    """Pages have the best of the first ranking in another order, and then the others as they were."""
    pages = [row for start in range(0, 60, 10) for row in ids(session, limit=10, offset=start, options=options)]
    plain = ids(session, limit=60)
    assert set(pages[:depth]) == set(plain[:depth])
    assert pages[:depth] != plain[:depth]
    assert pages[depth:] == plain[depth:]


def test_what_is_below_a_score_is_left_out_before_hits_are_chosen(session: Session) -> None:
    scores = [hit.score for hit in Searcher(encoder()).search(session, Article.semantic, TEXT, limit=15, exact=True)]
    least = Options(min_score=scores[-1], diverse=Diverse(relevance=0.0, depth=400))
    assert len(ids(session, limit=15, options=least)) == 15


@pytest.mark.parametrize("fusion", [Rrf(), Convex()])
def test_pages_above_a_score_are_the_beginning_of_a_hybrid_ranking(session: Session, fusion: Any) -> None:
    searcher = Searcher(encoder())
    how: dict[str, Any] = {"mode": "hybrid", "exact": True}
    best = searcher.search(session, Article.semantic, TEXT, limit=100, options=Options(fusion=fusion), **how)
    least = best[95].score
    above = Options(fusion=fusion, min_score=least)
    expected = [hit.entity.id for hit in best if hit.score >= least]
    pages = [ids(session, limit=20, offset=start, mode="hybrid", options=above) for start in range(0, 400, 20)]
    assert [row for page in pages for row in page] == expected
    assert [len(page) for page in pages[:4]] == [20] * 4
    assert ids(session, limit=400, mode="hybrid", options=above) == expected


def test_only_reranked_hits_are_chosen_from_when_there_are_others(session: Session) -> None:
    with BatchingReranker(ByLength()) as reranker:
        alone = Options(rerank=Rerank(reranker, depth=20))
        both = Options(rerank=Rerank(reranker, depth=20), diverse=Diverse(relevance=1.0, depth=50))
        assert ids(session, limit=10, options=both) == ids(session, limit=10, options=alone)
        assert set(ids(session, limit=60, options=both)) == set(ids(session, limit=60, options=alone))


@pytest.mark.parametrize(
    "where",
    [
        lambda other: [other.lang == "rare"],
        lambda other: [Article.lang == "half", other.id == 7],
        lambda _: [sa.table("elsewhere", sa.column("lang")).c.lang == "en"],
    ],
)
@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_condition_on_what_is_not_searched_is_refused_with_what_to_write(
    session: Session, mode: str, where: Any
) -> None:
    with pytest.raises(errors.QueryError, match=r"EXISTS.*index\.of"):
        ids(session, limit=5, mode=mode, where=where(orm.aliased(Article)))


def test_an_alias_that_is_not_searched_is_named_by_its_table(session: Session) -> None:
    with pytest.raises(errors.QueryError, match="a condition on article, but"):
        ids(session, limit=5, where=[orm.aliased(Article).lang == "rare"])


def test_a_hybrid_statement_and_a_report_of_recall_refuse_such_a_condition_too(session: Session) -> None:
    other = orm.aliased(Article)
    vector = encoder().encode_queries([TEXT])[0]
    with pytest.raises(errors.QueryError, match="EXISTS"):
        search.hybrid(Article.semantic, vector, TEXT, where=[other.lang == "rare"])
    with pytest.raises(errors.QueryError, match="EXISTS"):
        search.recall(session, Article.semantic, sample=1, where={"rare": [other.lang == "rare"]})


@pytest.mark.parametrize("length", [1e-30, 1e-8, 1e6, 1e30])
def test_the_length_of_a_query_vector_does_not_matter(session: Session, length: float) -> None:
    vector = encoder().encode_queries([TEXT])[0]
    plain = session.execute(search.exact(Article.semantic, vector, limit=20)).all()
    scaled = session.execute(search.exact(Article.semantic, vector * np.float32(length), limit=20)).all()
    assert [score for _, score in scaled] == pytest.approx([score for _, score in plain], abs=1e-3)
