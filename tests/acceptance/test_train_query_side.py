"""The queries' side of the real all-MiniLM-L6-v2, trained on a few pages and rolled out without encoding a row."""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import Searcher, database, encoders, errors, generations, training
from pg_semantic.demo import tldr_pages
from pg_semantic.demo.tldr_pages import Page
from pg_semantic.training import Pair, QueryTraining, TrainingReport, record
from tests import leaks
from tests.conftest import copy_of
from tests.db.library import rows, sync
from tests.db.test_cli import error, ok, parsed

pytestmark = pytest.mark.weights

COUNT = 80
NAME = "page_semantic"


@pytest.fixture(scope="module")
def pages(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Eighty pages of the corpus, synced; for tests that leave no trace."""
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
def pairs(pages: sa.Engine) -> list[Pair]:
    """What each page's first examples do, as queries for the page."""
    with Session(pages) as session:
        texts = {page.id: page.text.splitlines()[1:3] for page in session.scalars(sa.select(Page).order_by(Page.id))}
    return [Pair(line.partition(":")[0], str(key)) for key, lines in texts.items() for line in lines]


def train(engine: sa.Engine, pairs: list[Pair], out: Path, **options: object) -> TrainingReport:
    with Session(engine) as session:
        return training.train_query_side(
            session,
            Page.semantic,
            pairs,
            out=out,
            options=QueryTraining(**options),  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def trained(pages: sa.Engine, pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainingReport]:
    """The reports of a map and of an encoder, both written."""
    root = tmp_path_factory.mktemp("trained")
    return {
        "map": train(pages, pairs, root / "map", keep=True),
        "encoder": train(pages, pairs, root / "encoder", keep=True, kind="encoder"),
    }


KINDS = ["map", "encoder"]


@pytest.mark.parametrize("kind", KINDS)
def test_documents_keep_their_vectors_and_queries_get_others(trained: dict[str, TrainingReport], kind: str) -> None:
    folder = trained[kind].folder
    assert folder is not None
    base, new = encoders.load(tldr_pages.ENCODER), encoders.load(str(folder))
    texts = [page.text for page in itertools.islice(tldr_pages.pages(), 0, 2000, 100)]
    for text in texts:  # one by one: the size of batches depends on measured times, and padding changes the last bits
        assert new.encode_documents([text]).tobytes() == base.encode_documents([text]).tobytes()
    assert new.document_fingerprint == base.document_fingerprint
    cosines = (new.encode_queries(texts) * base.encode_queries(texts)).sum(axis=1)
    assert 0.5 < cosines.min() < 0.9999


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_has_a_text_of_a_query_or_a_row(
    pages: sa.Engine, pairs: list[Pair], trained: dict[str, TrainingReport], kind: str
) -> None:
    folder = trained[kind].folder
    assert folder is not None
    texts = {pair.query for pair in pairs} | {text for (text,) in rows(pages, "SELECT text FROM page")}
    searched = leaks.searched(texts)
    assert len(searched) > 150
    assert leaks.leaked(searched, leaks.contents(folder)) == []
    assert {file.suffix for file in folder.rglob("*") if file.is_file()} <= {".json", ".safetensors", ".txt"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_says_what_was_trained_from_what(
    pairs: list[Pair], trained: dict[str, TrainingReport], kind: str
) -> None:
    report = trained[kind]
    assert report.folder is not None
    written = json.loads((report.folder / "training.json").read_text())
    base = encoders.load(tldr_pages.ENCODER)
    assert written["base"] == {
        "reference": base.reference,
        "revision": base.revision,
        "fingerprint": base.fingerprint,
        "document_fingerprint": base.document_fingerprint,
    }
    assert written["pairs_sha256"] == record.pairs_hash(pairs)
    assert (written["kind"], written["seed"], written["side"]) == (kind, 0, "queries")
    assert written["held_out"] == dataclasses.asdict(report.held_out)
    assert written["recommended"] == report.recommended == (report.held_out.low > 0)
    assert report.pairs == len(set(pairs))


def test_rolling_it_out_encodes_nothing_and_searches_use_the_new_queries(
    server: sa.URL, template: str, trained: dict[str, TrainingReport]
) -> None:
    folder = str(trained["map"].folder)
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        tldr_pages.Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(itertools.islice(tldr_pages.pages(), 0, 400, 50))
            session.commit()
        sync(engine)
        live = generations.find(engine, NAME, "live")
        encoder = dataclasses.replace(live.spec.encoder, reference=folder)
        generations.begin(engine, live, dataclasses.replace(live.spec, encoder=encoder))
        assert sync(engine).chunks_encoded == 0
        generations.switch(engine, NAME)
        searcher = Searcher(encoders.load(folder))
        with Session(engine) as session:
            [hit] = searcher.search(session, Page.semantic, "how to search", limit=1, exact=True)
            vector = np.array(session.scalar(sa.select(Page.semantic.Chunk.vector).filter_by(id=hit.entity.id)))
        asked = encoders.load(folder).encode_queries(["how to search"])[0]
        assert hit.score == pytest.approx(float(vector @ asked) / np.linalg.norm(vector), abs=1e-3)
        engine.dispose()


def test_training_starts_from_the_original_encoder_whichever_is_live(
    server: sa.URL, template: str, pairs: list[Pair], trained: dict[str, TrainingReport], tmp_path: Path
) -> None:
    folder = str(trained["map"].folder)
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        tldr_pages.Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(itertools.islice(tldr_pages.pages(), 0, COUNT * 50, 50))
            session.commit()
        sync(engine)
        live = generations.find(engine, NAME, "live")
        encoder = dataclasses.replace(live.spec.encoder, reference=folder)
        generations.begin(engine, live, dataclasses.replace(live.spec, encoder=encoder))
        sync(engine)
        generations.switch(engine, NAME)
        again = train(engine, pairs, tmp_path / "again", keep=True)
        on_top = train(engine, pairs, tmp_path / "on_top", keep=True, from_trained=True)
        engine.dispose()
    written = [json.loads((tmp_path / name / "training.json").read_text())["base"] for name in ("again", "on_top")]
    assert [one["reference"] for one in written] == [tldr_pages.ENCODER, folder]
    assert again.held_out == trained["map"].held_out
    assert on_top.held_out.before > again.held_out.before


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_encoder(
    pages: sa.Engine, pairs: list[Pair], trained: dict[str, TrainingReport], tmp_path: Path, kind: str
) -> None:
    again = train(pages, pairs, tmp_path / "again", keep=True, kind=kind)
    first = trained[kind]
    assert dataclasses.replace(again, seconds=0, folder=None) == dataclasses.replace(first, seconds=0, folder=None)
    assert again.folder is not None
    assert first.folder is not None
    for file in again.folder.rglob("*.safetensors"):
        assert file.read_bytes() == (first.folder / file.relative_to(again.folder)).read_bytes()


def test_nothing_is_written_without_a_gain_and_the_command_says_so(
    pages: sa.Engine, pairs: list[Pair], tmp_path: Path
) -> None:
    keys = [pair.key for pair in pairs]
    elsewhere = [Pair(pair.query, key) for pair, key in zip(pairs, keys[31:] + keys[:31], strict=True)]
    report = train(pages, elsewhere, tmp_path / "new", epochs=2)
    assert (report.recommended, report.folder) == (False, None)
    assert report.verdict.startswith("No gain, nothing to roll out: on ")
    assert list(tmp_path.iterdir()) == []


def test_no_transaction_stays_open_while_it_trains(pages: sa.Engine, pairs: list[Pair], tmp_path: Path) -> None:
    seen = set()
    with Session(pages) as session:
        training.train_query_side(
            session,
            Page.semantic,
            pairs,
            out=tmp_path / "new",
            options=QueryTraining(epochs=1),
            on_step=lambda *_: seen.add(session.in_transaction()),
        )
    assert seen == {False}


def test_a_time_that_is_too_short_is_refused_early(pages: sa.Engine, pairs: list[Pair], tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"^seconds=0.01 is too short: loading the encoder took"):
        train(pages, pairs, tmp_path / "new", seconds=0.01, kind="encoder")
    assert list(tmp_path.iterdir()) == []


def test_pairs_of_rows_without_vectors_are_left_out(pages: sa.Engine, pairs: list[Pair], tmp_path: Path) -> None:
    report = train(pages, [*pairs, Pair("a query", "0"), Pair("another", "no key")], tmp_path / "new", epochs=1)
    assert (report.gone, report.pairs) == (2, len(set(pairs)))


def test_the_command_trains_from_a_file_of_judgements(pages: sa.Engine, pairs: list[Pair], tmp_path: Path) -> None:
    dsn = pages.url.set(drivername="postgresql").render_as_string(hide_password=False)
    judged = tmp_path / "judged.jsonl"
    judged.write_text(
        "".join(json.dumps({"query": p.query, "relevant": {p.key: 1}}) + "\n" for p in dict.fromkeys(pairs))
        + json.dumps({"query": "about a page that was deleted", "relevant": {"no key": 1}})
    )
    command = ("train", "queries", NAME, "--judgements", str(judged), "--epochs", "2", "--out")
    found = parsed(*command, str(tmp_path / "a"), "--keep", dsn=dsn)
    assert (found["folder"], found["gone"]) == (str(tmp_path / "a"), 1)
    assert (tmp_path / "a" / "training.json").exists()
    printed = ok(*command, str(tmp_path / "b"), "--keep", dsn=dsn)
    assert f"generation begin {NAME} --encoder {tmp_path / 'b'}" in printed
    assert "held out" in printed
    assert "is not empty" in error(*command, str(tmp_path / "b"), dsn=dsn)
