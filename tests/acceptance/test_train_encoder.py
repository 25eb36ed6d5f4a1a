"""The whole of the real all-MiniLM-L6-v2, trained on a few short rows."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import torch
from sqlalchemy.orm import Session

from pg_semantic import database, encoders, errors, evaluation, training
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Page
from pg_semantic.evaluation import Judgements
from pg_semantic.training import EncoderTraining, Pair, TrainingReport
from tests import leaks
from tests.conftest import copy_of
from tests.db.library import rows, sync

pytestmark = pytest.mark.weights

COUNT = 56


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> Iterator[None]:
    """Computes in several threads, as your machine does; the other tests have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pages(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """The beginnings of 56 pages of the corpus, synced; for tests that leave no trace."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        tldr_pages.Base.metadata.create_all(engine)
        with Session(engine) as session:
            for page in itertools.islice(tldr_pages.pages(), 0, COUNT * 50, 50):
                page.text = "\n".join(page.text.splitlines()[:3])
                session.add(page)
            session.commit()
        sync(engine)
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def pairs(pages: sa.Engine) -> list[Pair]:
    """What each page's first example does, as a query for the page."""
    with Session(pages) as session:
        lines = {page.id: page.text.splitlines()[1] for page in session.scalars(sa.select(Page).order_by(Page.id))}
    return [Pair(line.partition(":")[0], str(key)) for key, line in lines.items()]


def train(engine: sa.Engine, pairs: list[Pair], out: Path) -> TrainingReport:
    options = EncoderTraining(epochs=1, batch=8, random=20, keep=True)
    with Session(engine) as session:
        return training.train_encoder(session, Page.semantic, pairs, out=out, options=options)


@pytest.fixture(scope="module")
def trained(pages: sa.Engine, pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    return train(pages, pairs, tmp_path_factory.mktemp("trained") / "new")


def test_it_loads_and_gives_queries_and_documents_other_vectors_of_the_same_kind(trained: TrainingReport) -> None:
    base, new = encoders.load(tldr_pages.ENCODER), encoders.load(str(trained.folder))
    texts = [page.text for page in itertools.islice(tldr_pages.pages(), 0, 2000, 100)]
    for encode, encode_before in (
        (new.encode_documents, base.encode_documents),
        (new.encode_queries, base.encode_queries),
    ):
        cosines = (encode(texts) * encode_before(texts)).sum(axis=1)
        assert 0.5 < cosines.min() < 0.9999
    assert new.dimensions == base.dimensions
    assert new.document_fingerprint != base.document_fingerprint


def test_no_file_has_a_text_of_a_query_or_a_row(pages: sa.Engine, pairs: list[Pair], trained: TrainingReport) -> None:
    assert trained.folder is not None
    texts = {pair.query for pair in pairs} | {text for (text,) in rows(pages, "SELECT text FROM page")}
    searched = leaks.searched(texts)
    assert len(searched) > 100
    assert leaks.leaked(searched, leaks.contents(trained.folder)) == []


def test_the_same_seed_gives_the_same_encoder(
    pages: sa.Engine, pairs: list[Pair], trained: TrainingReport, tmp_path: Path
) -> None:
    again = train(pages, pairs, tmp_path / "again")
    assert dataclasses.replace(again, seconds=0, folder=None) == dataclasses.replace(trained, seconds=0, folder=None)
    assert again.folder is not None
    assert trained.folder is not None
    for file in again.folder.rglob("*.safetensors"):
        assert file.read_bytes() == (trained.folder / file.relative_to(again.folder)).read_bytes()


def test_a_held_out_query_is_refused_before_anything_is_loaded(
    pages: sa.Engine, pairs: list[Pair], tmp_path: Path
) -> None:
    judged = Judgements({pair.query: {pair.key: 1} for pair in pairs})
    with Session(pages) as session:
        assert evaluation.split(session, Page.semantic, judged, held_out=0.2).held_out
        with pytest.raises(errors.QueryError, match="are held out for table"):
            training.train_encoder(session, Page.semantic, pairs, out=tmp_path / "new")
        session.rollback()
    assert list(tmp_path.iterdir()) == []
