"""The loop from judgements to a better search and back, at the shell, with the real all-MiniLM-L6-v2.

Judged file, split, evaluate, tune, mine, train, begin, gate, switch, search, rollback, on 1,000 tldr pages.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database, encoders, generations, search, training
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Page
from pg_semantic.evaluation import Judgements
from pg_semantic.search import Hit
from tests import leaks
from tests.conftest import copy_of
from tests.db.library import rows, sync
from tests.db.test_cli import error, ok, parsed

pytestmark = pytest.mark.weights

NAME = "page_semantic"
QUERY = "see which process is using a port"
LEAST_TEXT = 20  # characters of a line that is looked for in artefacts


@pytest.fixture
def dsn(server: sa.URL, template: str) -> Iterator[str]:
    with copy_of(server, template) as dsn:
        yield dsn


@pytest.fixture
def pages(dsn: str) -> Iterator[sa.Engine]:
    """The sample of the pages, synced."""
    engine = database.connect(dsn)
    tldr_pages.Base.metadata.create_all(engine)
    with Session(engine) as session:
        tldr_pages.load(session, only_sample=True)
    sync(engine)
    yield engine
    engine.dispose()


def best(engine: sa.Engine) -> Hit[Page]:
    """The first hit by the live generation, with its encoder."""
    live = generations.find(engine, NAME, "live")
    with Session(engine) as session:
        [hit] = Searcher(encoders.load(live.spec.encoder.reference)).search(
            session, Page.semantic, QUERY, limit=1, exact=True
        )
        return hit


def test_from_judgements_to_a_trained_encoder_and_back(pages: sa.Engine, dsn: str, here: Path) -> None:
    on_train, on_held_out = ("--judgements", "train.jsonl"), ("--judgements", "held.jsonl")
    before = best(pages)

    split = parsed(
        *("split", NAME, "--judgements", str(tldr_pages.JUDGED), "--train", "train.jsonl", "--held-out", "held.jsonl"),
        dsn=dsn,
    )
    train, held_out = Judgements.read("train.jsonl"), Judgements.read("held.jsonl")
    assert (split["train"]["queries"], split["held_out"]["queries"]) == (len(train), len(held_out))
    assert len(train) + len(held_out) == 420
    assert set(train.queries).isdisjoint(held_out.queries)

    both = ("--variant", "now", "--variant", "both:mode=hybrid")
    evaluated = parsed("evaluate", NAME, *on_held_out, *both, dsn=dsn)
    assert [one["name"] for one in evaluated["variants"]] == ["now", "both"]
    assert 0.5 < evaluated["variants"][0]["measures"]["nDCG@10"] < 1

    tuned = parsed("tune", NAME, *on_train, "--save", dsn=dsn)
    assert (tuned["queries"], tuned["held_out"]) == (len(train), 0)
    with Session(pages) as session:
        kept = search.tuned_options(session, Page.semantic)
    assert tuned["recommended"] == tuned["best" if tuned["low"] > 0 else "base"]

    mined = parsed("mine", NAME, "--pairs", "train.jsonl", "--out", "mined.jsonl", dsn=dsn)
    assert mined["pairs"] == len(training.from_judgements(train))
    for pair in training.read_mined(Path("mined.jsonl")):
        assert {one.key for one in pair.negatives}.isdisjoint(train.relevant(pair.query))

    trained = parsed("train", "queries", NAME, *on_train, "--out", "trained", "--keep", dsn=dsn)
    assert trained["recommended"] == (trained["held_out"]["low"] > 0)

    ok("generation", "begin", NAME, "--encoder", str(here / "trained"), "--yes", dsn=dsn)
    assert sync(pages).chunks_encoded == 0
    gate = ("generation", "switch", NAME, "--how", "mode=hybrid,fusion=tuned")
    assert "were trained or tuned on" in error(*gate, *on_train, "--if-better", dsn=dsn)
    assert best(pages).score == before.score
    ok(*gate, *on_held_out, "--unless-worse", "0.05", dsn=dsn)

    after = best(pages)
    assert generations.find(pages, NAME, "live").spec.encoder.reference == str(here / "trained")
    with Session(pages) as session:
        vector = np.array(session.scalar(sa.select(Page.semantic.Chunk.vector).filter_by(id=after.entity.id).limit(1)))
        assert search.tuned_options(session, Page.semantic) == kept  # the documents are the same
    asked = encoders.load(str(here / "trained")).encode_queries([QUERY])[0]
    assert after.score >= float(vector @ asked) / np.linalg.norm(vector) - 1e-3
    assert after.score != before.score

    ok("generation", "rollback", NAME, dsn=dsn)
    assert best(pages).score == before.score
    assert_without_row_text(pages, here, {*train.queries, *held_out.queries})


def assert_without_row_text(engine: sa.Engine, here: Path, queries: set[str]) -> None:
    """No file has a line of a page, and no registry and no encoder has a query."""
    with Session(engine) as session:
        texts = leaks.searched(session.scalars(sa.select(Page.text)), least=LEAST_TEXT)
    files = {path.relative_to(here): path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert len(texts) > 5_000
    assert {str(path) for path in files} >= {"train.jsonl", "held.jsonl", "mined.jsonl", "trained/training.json"}
    assert leaks.leaked(texts, files.values()) == []
    tables = ("evaluation", "tuned_options", "judged_query")
    kept = json.dumps([[str(row) for row in rows(engine, f"SELECT * FROM semantic.{table}")] for table in tables])
    assert kept.count("'") > len(queries)
    private = [*(content for path, content in files.items() if path.parts[0] == "trained"), kept.encode()]
    assert leaks.leaked(texts | leaks.searched(queries), private) == []
