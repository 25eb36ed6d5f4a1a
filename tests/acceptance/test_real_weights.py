"""Real weights on real text: the encoder is the published one, and search finds what a person would."""

import gzip
import itertools
import json
from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database, encoders
from pg_semantic.cli import demo
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Page
from pg_semantic.encoders import Encoder
from pg_semantic.index.chunking import Chunking, chunk
from tests import documents
from tests.conftest import copy_of
from tests.db.library import execute, sync

pytestmark = pytest.mark.weights

WANTED = {"lsof", "netstat", "photorec", "monolith", "git undo", "cowsay", "tar", "ffmpeg", "du", "ssh-keygen"}


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return encoders.load(tldr_pages.ENCODER, dimensions=384)


@pytest.fixture(scope="module")
def pages(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Two hundred pages of the corpus, among them those that the questions are about, synced."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        tldr_pages.Base.metadata.create_all(engine)
        wanted = [page for page in tldr_pages.pages() if page.title in WANTED]
        others = itertools.islice((page for page in tldr_pages.pages() if page.title not in WANTED), 0, 4000, 20)
        with Session(engine) as session:
            session.add_all([*wanted, *others])
            session.commit()
        sync(engine)
        yield engine
        engine.dispose()


@pytest.mark.parametrize(
    ("question", "title"),
    [
        *zip(demo.QUERIES, ("photorec", "lsof", "monolith"), strict=True),
        ("undo my last commit but keep the changes", "git undo"),
        ("how much disk space does this folder take", "du"),
        ("make a key to log in without a password", "ssh-keygen"),
        ("convert a video to another format", "ffmpeg"),
    ],
)
def test_a_question_finds_the_page_that_answers_it(
    pages: sa.Engine, minilm: Encoder, question: str, title: str
) -> None:
    with Session(pages) as session:
        hits = Searcher(minilm).search(session, Page.semantic, question, limit=3)
        assert title in {hit.entity.title for hit in hits}
        assert hits[0].passage


def test_an_edit_by_plain_sql_encodes_one_chunk_and_is_found(pages: sa.Engine, minilm: Encoder) -> None:
    execute(pages, "UPDATE page SET text = 'Order a cup of tea from the kitchen.' WHERE title = 'cowsay'")
    assert sync(pages).chunks_encoded == 1
    with Session(pages) as session:
        [hit] = Searcher(minilm).search(session, Page.semantic, "I would like a hot drink", limit=1)
        assert hit.entity.title == "cowsay"


def test_no_chunk_of_a_real_page_is_longer_than_the_encoder_reads(minilm: Encoder) -> None:
    texts = [f"{page.title}\n\n{page.text}" for page in itertools.islice(tldr_pages.pages(), 0, 4000, 10)]
    for text, chunks in zip(texts, chunk(texts, Chunking(), minilm), strict=True):
        assert all(piece.token_count <= minilm.max_tokens and not piece.truncated for piece in chunks)
        assert "".join("".join(piece.content.split()) for piece in chunks) == "".join(text.split())


def test_a_title_stays_with_the_text_after_it(minilm: Encoder) -> None:
    text = "A short title\n\n" + "One long paragraph without an end to it. " * 100
    first, *rest = chunk([text], Chunking(), minilm)[0]
    assert first.content.startswith("A short title\n\nOne long paragraph")
    assert first.token_count > minilm.max_tokens / 2
    assert rest


def test_batches_by_length_change_no_vector(minilm: Encoder) -> None:
    path = documents.ROOT / "benchmarks" / "data" / "scifact" / "corpus.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"][: 40 * number + 1] for number, line in zip(range(24), lines, strict=False)]
    together = minilm.encode_documents(texts)
    alone = np.vstack([minilm.encode_documents([text]) for text in texts])
    assert (together * alone).sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_the_fingerprint_is_of_the_weights_and_not_of_the_folder(minilm: Encoder, here: object) -> None:
    from pg_semantic.encoders.local import weights
    from pg_semantic.settings import Settings

    folder = weights.folder(tldr_pages.ENCODER, {})
    moved = encoders.load("other/name", settings=Settings(encoder_paths={"other/name": str(folder)}))
    assert moved.fingerprint == minilm.fingerprint
