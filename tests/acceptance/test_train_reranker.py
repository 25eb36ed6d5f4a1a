"""A reranker from the weights of the real all-MiniLM-L6-v2, trained on a few pages: mined, trained, written, used."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database, encoders, rerankers, training
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Page
from pg_semantic.encoders import Encoder
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.search import Options, Rerank
from pg_semantic.training import MinedPair, Mining, Pair, RerankerTraining, TrainingReport
from tests import leaks
from tests.conftest import copy_of
from tests.db.library import rows, sync

pytestmark = pytest.mark.weights

COUNT = 60


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return encoders.load(tldr_pages.ENCODER)


@pytest.fixture(scope="module")
def pages(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Sixty pages of the corpus, synced; for tests that leave no trace."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        tldr_pages.Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(itertools.islice(tldr_pages.pages(), 0, COUNT * 50, 50))
            session.commit()
        sync(engine)
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def mined(pages: sa.Engine, encoder: Encoder) -> list[MinedPair]:
    """What each page's first example does, as a query for the page, with two hard negatives."""
    with Session(pages) as session:
        texts = {page.id: page.text.splitlines()[1] for page in session.scalars(sa.select(Page).order_by(Page.id))}
        pairs = [Pair(line.partition(":")[0], str(key)) for key, line in texts.items()]
        found = training.mine(session, Page.semantic, pairs, encoder=encoder, options=Mining(negatives=2))
    return list(found.pairs)


@pytest.fixture(scope="module")
def trained(pages: sa.Engine, mined: list[MinedPair], tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    with Session(pages) as session:
        return training.train_reranker(
            session,
            Page.semantic,
            mined,
            out=tmp_path_factory.mktemp("trained") / "new",
            options=RerankerTraining(depth=10, max_tokens=48, epochs=1, keep=True),
        )


def test_a_few_pages_do_not_make_a_reranker_that_is_recommended(trained: TrainingReport) -> None:
    assert not trained.recommended
    assert trained.held_out.low <= 0
    assert trained.verdict.startswith("No gain, nothing to roll out: on ")


def test_it_is_written_whole_and_reranks_a_search(pages: sa.Engine, encoder: Encoder, trained: TrainingReport) -> None:
    loaded = rerankers.load(str(trained.folder))
    assert loaded.score_type == "probability"
    searcher, query = Searcher(encoder), "count the lines of a file"
    with BatchingReranker(loaded) as reranker, Session(pages) as session:
        hits = searcher.search(session, Page.semantic, query, options=Options(rerank=Rerank(reranker, depth=10)))
        plain = searcher.search(session, Page.semantic, query)
    assert {hit.entity.id for hit in hits} == {hit.entity.id for hit in plain}
    scores = [hit.scores["rerank"] for hit in hits]
    np.testing.assert_allclose(scores, loaded.score(query, [hit.passage for hit in hits]), atol=1e-5)
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


def test_no_file_has_a_text_of_a_query_or_a_row(
    pages: sa.Engine, mined: list[MinedPair], trained: TrainingReport
) -> None:
    assert trained.folder is not None
    texts = {pair.query for pair in mined} | {text for (text,) in rows(pages, "SELECT text FROM page")}
    searched = leaks.searched(texts)
    assert len(searched) > 100
    assert leaks.leaked(searched, leaks.contents(Path(trained.folder))) == []
