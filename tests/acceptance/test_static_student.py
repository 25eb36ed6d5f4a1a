"""A static student of the real all-MiniLM-L6-v2, distilled on a few hundred pages: near its teacher, and one table."""

import itertools
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from sqlalchemy.orm import Session

from pg_semantic import database, training
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Page
from pg_semantic.evaluation import Judgements
from pg_semantic.training import StaticReport, StaticTraining
from tests.conftest import copy_of
from tests.db.library import sync

pytestmark = pytest.mark.weights

COUNT, EVERY = 300, 20


@pytest.fixture(scope="module")
def pages(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Three hundred pages of the corpus, synced."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        tldr_pages.Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(itertools.islice(tldr_pages.pages(), 0, COUNT * EVERY, EVERY))
            session.commit()
        sync(engine)
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def report(pages: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> StaticReport:
    """Judged by what each page's first example does."""
    with Session(pages) as session:
        texts = {page.id: page.text.splitlines()[1] for page in session.scalars(sa.select(Page).order_by(Page.id))}
        judged = Judgements({line.partition(":")[0]: {str(key): 1} for key, line in texts.items()})
        return training.distill_static(
            session,
            Page.semantic,
            out=tmp_path_factory.mktemp("students") / "student",
            options=StaticTraining(spans=1500, epochs=8),
            judgements=judged,
        )


def test_it_comes_near_its_teacher(report: StaticReport) -> None:
    assert report.judged is not None
    assert report.judged.queries > 250
    assert report.share is not None
    assert report.share > 0.8
    assert report.overlap > 0.35


def test_it_encodes_by_lookups_alone(report: StaticReport) -> None:
    """Which is why it is fast: `make bench-static` measures how fast."""
    assert [type(module) for module in SentenceTransformer(str(report.folder), device="cpu")] == [
        StaticEmbedding,
        Normalize,
    ]
