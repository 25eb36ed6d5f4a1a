"""A whole encoder trained on a table: its texts are read, the folder has none, and held-out queries are refused."""

import contextlib
import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, Session, mapped_column

from pg_semantic import SemanticIndex, database, encoders, errors, evaluation, training
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.evaluation import Judgements
from pg_semantic.index.chunking import Chunking
from pg_semantic.training import EncoderTraining, MinedPair, Pair, RowPair, TrainingReport, record
from pg_semantic.training.time_limit import TimeLimit
from tests.acceptance import architectures
from tests.conftest import copy_of
from tests.db.library import rows, sync
from tests.db.test_cli import error, ok, parsed

ROWS = 60
NAME = "note_semantic"
FAST: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-3, "keep": True}


@pytest.fixture(scope="module")
def note(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A mapped class with a tiny encoder, whose texts have two chunks or more."""
    folder = architectures.make("prompts", tmp_path_factory.mktemp("encoders"))

    class Base(orm.DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"

        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

        semantic = SemanticIndex(
            "text", encoder=str(folder), dimensions=32, chunking=Chunking(max_tokens=40, overlap_tokens=0)
        )

    return Note


def text(number: int) -> str:
    return " ".join(architectures.words(50, start=50 * number))


@contextlib.contextmanager
def filled(server: sa.URL, template: str, note: Any) -> Iterator[tuple[str, sa.Engine]]:
    """A database with sixty rows, synced: its DSN, and an engine."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        note.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(note(id=number, text=text(number)) for number in range(ROWS))
            session.commit()
        sync(engine)
        yield dsn, engine
        engine.dispose()


@pytest.fixture(scope="module")
def notes(server: sa.URL, template: str, note: Any) -> Iterator[sa.Engine]:
    """Sixty rows, synced; for tests that leave no trace."""
    with filled(server, template, note) as (_, engine):
        yield engine


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """Words from the beginning and from the end of each row, as queries for it."""
    return [Pair(" ".join(text(n).split()[at : at + 5]), str(n)) for n, at in itertools.product(range(ROWS), (2, 43))]


@pytest.fixture(scope="module")
def mined(notes: sa.Engine, note: Any, pairs: list[Pair]) -> tuple[MinedPair, ...]:
    encoder = encoders.load(note.semantic.spec.encoder.reference)
    with Session(notes) as session:
        return training.mine(session, note.semantic, pairs, encoder=encoder).pairs


def train(
    engine: sa.Engine, note: Any, given: Any, out: Path, *, on_step: Any = lambda *_: None, **options: Any
) -> TrainingReport:
    with Session(engine) as session:
        how = EncoderTraining(**(FAST | options))
        return training.train_encoder(session, note.semantic, given, out=out, options=how, on_step=on_step)


@pytest.fixture(scope="module")
def trained(notes: sa.Engine, note: Any, mined: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    return train(notes, note, mined, tmp_path_factory.mktemp("trained") / "new")


def test_the_folder_loads_and_gives_queries_and_documents_other_vectors(note: Any, trained: TrainingReport) -> None:
    base, new = (encoders.load(str(one)) for one in (note.semantic.spec.encoder.reference, trained.folder))
    texts = [text(number) for number in range(10)]
    assert not np.allclose(new.encode_documents(texts), base.encode_documents(texts), atol=1e-2)
    assert not np.allclose(new.encode_queries(texts), base.encode_queries(texts), atol=1e-2)
    assert isinstance(base, TransformerEncoder)
    assert isinstance(new, TransformerEncoder)
    assert (new.query_prompt, new.document_prompt) == (base.query_prompt, base.document_prompt)
    assert (new.dimensions, new.max_tokens) == (base.dimensions, base.max_tokens)
    assert new.document_fingerprint != base.document_fingerprint


def test_no_file_has_a_text_of_a_query_or_a_row(pairs: list[Pair], trained: TrainingReport) -> None:
    assert trained.folder is not None
    words = [text(number).split() for number in range(ROWS)]
    parts = {" ".join(one[at : at + 4]) for one in words for at in range(len(one) - 4)}
    searched = {part.encode() for part in parts | {pair.query for pair in pairs}}
    files = [file for file in trained.folder.rglob("*") if file.is_file()]
    assert [part for part in searched if any(part in file.read_bytes() for file in files)] == []
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".txt"}
    assert len(searched) > 1_000


def test_the_record_and_the_report_say_what_was_done(
    note: Any, mined: tuple[MinedPair, ...], trained: TrainingReport
) -> None:
    assert trained.folder is not None
    written = json.loads((trained.folder / "training.json").read_text())
    assert (written["side"], written["kind"], written["seed"]) == ("both", "whole", 0)
    assert written["pairs_sha256"] == record.pairs_hash([Pair(one.query, one.positive.key) for one in mined])
    assert written["base"]["reference"] == note.semantic.spec.encoder.reference
    assert written["held_out"] == dataclasses.asdict(trained.held_out)
    assert written["recommended"] == trained.recommended == (trained.held_out.low > 0)
    assert (trained.queries, trained.pairs, trained.rows, trained.gone) == (2 * ROWS, 2 * ROWS, ROWS, 0)
    assert (trained.held_out.queries, trained.measure) == (24, "nDCG@10")
    assert not trained.is_sample


def test_a_trained_encoder_is_not_trained_again(
    notes: sa.Engine, note: Any, server: sa.URL, template: str, trained: TrainingReport, pairs: list[Pair]
) -> None:
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)

        class Base(orm.DeclarativeBase): ...

        class Again(Base):
            __tablename__ = "again"

            id: Mapped[int] = mapped_column(primary_key=True)
            text: Mapped[str]

            semantic = SemanticIndex("text", encoder=str(trained.folder), dimensions=32)

        Base.metadata.create_all(engine)
        with pytest.raises(errors.EncoderError, match="was trained already"):
            train(engine, Again, pairs, Path("new"))
        engine.dispose()


def test_each_query_learns_from_the_chunk_that_answers_it(notes: sa.Engine, note: Any, pairs: list[Pair]) -> None:
    """Plain pairs name rows: the passage is the chunk nearest to the query, as for mined ones."""
    from pg_semantic.training.encoder import examples

    encoder = encoders.load(note.semantic.spec.encoder.reference)
    queries = [pair.query for pair in pairs]
    vectors = dict(zip(queries, encoder.encode_queries(queries), strict=True))
    with Session(notes) as session:
        found = examples.read(session, note.semantic, pairs, vectors=vectors, random_passages=20, seed=0)
        mined = training.mine(session, note.semantic, pairs, encoder=encoder).pairs
        same = examples.read(session, note.semantic, mined, vectors={}, random_passages=20, seed=0)
    assert [one.positive for one in found.all] == [(one.positive.key, one.positive.ordinal) for one in mined]
    assert [one.positive for one in found.all] == [one.positive for one in same.all]
    assert len({ordinal for _, ordinal in (one.positive for one in found.all)}) > 1
    assert (found.random, found.is_sample, len(found.random)) == (same.random, True, 20)
    assert set(found.random).isdisjoint(found.spare)
    chunks = {(key, n): part for key, n, part in rows(notes, "SELECT id::text, ordinal, content FROM note_semantic")}
    assert all(chunks[passage] == part for passage, part in found.texts.items())


def test_reading_ends_when_the_time_is_over(notes: sa.Engine, note: Any, pairs: list[Pair]) -> None:
    from pg_semantic.training.encoder import examples

    now = iter(range(100))
    limit = TimeLimit(3, clock=lambda: next(now))
    vectors = {pair.query: np.ones(32, np.float32) for pair in pairs}
    with Session(notes) as session, pytest.raises(errors.ConfigurationError, match="reading took"):
        examples.read(
            session,
            note.semantic,
            pairs,
            vectors=vectors,
            random_passages=0,
            seed=0,
            on_query=lambda: limit.require_not_over("reading"),
        )
    assert next(now) < 10


def test_a_query_without_a_direction_is_left_out_and_counted(notes: sa.Engine, note: Any, pairs: list[Pair]) -> None:
    """As that of an encoder that knows none of its words."""
    from pg_semantic.training.encoder import examples

    own = encoders.load(note.semantic.spec.encoder.reference)
    vectors = {pair.query: own.encode_queries([pair.query])[0] for pair in pairs[:3]}
    vectors[pairs[0].query] = np.zeros_like(vectors[pairs[0].query])
    with Session(notes) as session:
        found = examples.read(session, note.semantic, pairs[:3], vectors=vectors, random_passages=0, seed=0)
    assert [one.query for one in found.all] == [pair.query for pair in pairs[1:3]]
    assert found.gone == 1


def test_the_same_seed_gives_the_same_encoder(
    notes: sa.Engine, note: Any, mined: Any, trained: TrainingReport, tmp_path: Path
) -> None:
    again = train(notes, note, mined, tmp_path / "again")
    assert dataclasses.replace(again, seconds=0, folder=None) == dataclasses.replace(trained, seconds=0, folder=None)
    assert again.folder is not None
    assert trained.folder is not None
    for file in again.folder.rglob("*.safetensors"):
        assert file.read_bytes() == (trained.folder / file.relative_to(again.folder)).read_bytes()


def test_a_training_that_was_stopped_is_resumed_with_the_same_command(
    notes: sa.Engine, note: Any, mined: Any, trained: TrainingReport, tmp_path: Path
) -> None:
    steps: list[int] = []

    def stop(done: int, planned: int) -> None:
        steps.append(done)
        if done == planned // 2:
            raise KeyboardInterrupt

    often: dict[str, Any] = {"resume": True, "checkpoint_seconds": 1e-9}
    with pytest.raises(KeyboardInterrupt):
        train(notes, note, mined, tmp_path / "new", on_step=stop, **often)
    with pytest.raises(errors.ConfigurationError, match="was stopped before its end: resume it, or remove"):
        train(notes, note, mined, tmp_path / "new")
    with pytest.raises(errors.ConfigurationError, match="had other options and pairs and rows: pass the same"):
        train(notes, note, mined[:-5], tmp_path / "new", seed=1, **often)
    steps.clear()
    again = train(notes, note, mined, tmp_path / "new", on_step=lambda done, _: steps.append(done), **often)
    assert steps[0] > 1
    assert dataclasses.replace(again, seconds=0, folder=None) == dataclasses.replace(trained, seconds=0, folder=None)
    assert [one.name for one in tmp_path.iterdir()] == ["new"]


def test_spellings_of_a_query_are_one_query(notes: sa.Engine, note: Any, pairs: list[Pair], tmp_path: Path) -> None:
    shouted = [Pair(pair.query.upper(), pair.key) for pair in pairs]
    report = train(notes, note, [*pairs, *shouted], tmp_path / "new", epochs=1)
    assert (report.queries, report.pairs) == (2 * ROWS, 2 * ROWS)


def test_held_out_queries_are_refused_and_the_command_leaves_them_out(
    server: sa.URL, template: str, note: Any, pairs: list[Pair], tmp_path: Path
) -> None:
    with filled(server, template, note) as (dsn, engine):
        judged = Judgements({pair.query: {pair.key: 1} for pair in pairs})
        with Session(engine) as session:
            parts = evaluation.split(session, note.semantic, judged, held_out=0.2)
            session.commit()
        with pytest.raises(errors.QueryError, match=f"{len(parts.held_out)} of {2 * ROWS} queries are held out"):
            train(engine, note, pairs, tmp_path / "new")
        training.write_pairs(tmp_path / "pairs.jsonl", pairs)
        printed = ok(
            *("train", "encoder", NAME, "--pairs", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "new")),
            *("--epochs", "1", "--keep"),
            dsn=dsn,
        )
        assert f"Left out {len(parts.held_out)} queries that are held out" in printed
        assert f"generation begin {NAME} --encoder" in printed
        training.write_row_pairs(tmp_path / "rows.jsonl", [RowPair(str(number), str(number)) for number in range(ROWS)])
        files = ("--pairs", str(tmp_path / "pairs.jsonl"), "--pairs", str(tmp_path / "rows.jsonl"))
        report = parsed(
            "train", "encoder", NAME, *files, "--out", str(tmp_path / "rows"), "--epochs", "1", "--keep", dsn=dsn
        )
        held_out_rows = {key for graded in parts.held_out.grades.values() for key in graded}
        assert report["pairs"] == len(pairs) - len(parts.held_out) + ROWS - len(held_out_rows)
        with Session(engine) as session:
            assert len(evaluation.split(session, note.semantic, judged, held_out=0.9).train) == len(parts.train)


def test_what_a_failed_training_was_given_is_not_held_out_later(
    server: sa.URL, template: str, note: Any, pairs: list[Pair], tmp_path: Path
) -> None:
    judged, held_out = tmp_path / "judged.jsonl", tmp_path / "held.jsonl"
    Judgements({pair.query: {pair.key: 1} for pair in pairs}).write(judged)
    with filled(server, template, note) as (dsn, _):
        command = ("train", "encoder", NAME, "--pairs", str(judged), "--out", str(tmp_path / "new"))
        assert "is too short" in error(*command, "--seconds", "0.01", dsn=dsn)
        counts = parsed(
            "split", NAME, "--judgements", str(judged), "--held-out", str(held_out), "--share", "1", dsn=dsn
        )
    assert (counts["train"]["queries"], counts["held_out"]["queries"]) == (2 * ROWS, 0)


def test_the_command_reads_mined_pairs_and_judgements(
    notes: sa.Engine, mined: Any, pairs: list[Pair], tmp_path: Path
) -> None:
    dsn = notes.url.set(drivername="postgresql").render_as_string(hide_password=False)
    training.write_mined(tmp_path / "mined.jsonl", mined)
    (tmp_path / "judged.csv").write_text(
        "query,key,grade\n" + "".join(f"{pair.query},{pair.key},1\n" for pair in pairs), "utf-8"
    )
    (tmp_path / "scored.jsonl").write_text(
        "".join(
            json.dumps({"query": p.query, "key": p.key, "score": 0.5 + n % 2 / 2}) + "\n" for n, p in enumerate(pairs)
        )
    )
    command = ("train", "encoder", NAME, "--epochs", "1", "--keep", "--pairs")
    for name, options in (
        ("mined.jsonl", ("--loss", "gist", "--matryoshka", "16,8")),
        ("judged.csv", ("--lora", "--random", "10", "--batch", "16")),
        ("scored.jsonl", ("--loss", "cosent")),
    ):
        out = tmp_path / name.partition(".")[0]
        report = parsed(*command, str(tmp_path / name), "--out", str(out), *options, dsn=dsn)
        assert (report["folder"], report["pairs"]) == (str(out), len(pairs))
        assert report["measure"] == ("Spearman" if "cosent" in options else "nDCG@10")
        assert (out / "training.json").exists()
    refused = (*command, str(tmp_path / "judged.csv"), "--out", str(tmp_path / "other"))
    assert "without one" in error(*refused, "--loss", "cosine", dsn=dsn)
    assert "--matryoshka a: write whole numbers above 0" in error(*refused, "--matryoshka", "a", dsn=dsn)
    assert "the vectors have only 32 dimensions" in error(*refused, "--matryoshka", "64", dsn=dsn)
    assert not (tmp_path / "other").exists()


def test_a_sentence_asks_for_the_rest_of_its_text(server: sa.URL, template: str, note: Any, tmp_path: Path) -> None:
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        note.metadata.create_all(engine)
        lines = {n: [" ".join(text(n).split()[at : at + 6]) for at in (0, 8, 16)] for n in range(ROWS)}
        with Session(engine) as session:
            session.add_all(note(id=n, text="\n".join(parts)) for n, parts in lines.items())
            session.add(note(id=99, text="no other line is in this text"))
            session.commit()
        sync(engine)
        with Session(engine) as session:
            pairs = training.from_texts(session, note.semantic)
            assert sorted(int(pair.key) for pair in pairs) == list(range(ROWS))
            assert all(pair.query in lines[int(pair.key)] for pair in pairs)
            assert training.from_texts(session, note.semantic, limit=7) == pairs[:7]
            assert training.from_texts(session, note.semantic, seed=1) != pairs
            assert {pair.key for pair in training.from_texts(session, note.semantic, where=[note.id < 5])} <= set(
                "01234"
            )
            with pytest.raises(errors.QueryError, match="limit=0"):
                training.from_texts(session, note.semantic, limit=0)
        report = train(engine, note, pairs, tmp_path / "new", epochs=1, without_quotes=True)
        assert report.queries == ROWS
        with Session(engine) as session:
            rows_too = [*pairs, *training.from_rows(session, note.semantic, where=[note.id != 7])]
        report = train(engine, note, rows_too, tmp_path / "rows", epochs=1, without_quotes=True)
        assert (report.queries, report.pairs, report.held_out.queries) == (ROWS, 2 * ROWS, ROWS // 5)
        made = {"--sentences": str(tmp_path / "sentences.jsonl"), "--rows": str(tmp_path / "rows.jsonl")}
        for kind, path in made.items():
            ok("pairs", NAME, kind, "100", "--out", path, dsn=dsn)
        files = [word for path in made.values() for word in ("--pairs", path)]
        command = ("train", "encoder", NAME, *files, "--without-quotes", "--epochs", "1", "--keep", "--out")
        printed = parsed(*command, str(tmp_path / "command"), dsn=dsn)
        assert (printed["queries"], printed["pairs"]) == (ROWS, 2 * ROWS + 1)
        with pytest.raises(errors.QueryError, match="training needs 50"):
            train(engine, note, training.read_row_pairs(Path(made["--rows"])), tmp_path / "only_rows")
        engine.dispose()


def test_rows_that_conditions_leave_out_are_not_read(notes: sa.Engine, note: Any, pairs: list[Pair]) -> None:
    from pg_semantic.training.encoder import examples

    encoder = encoders.load(note.semantic.spec.encoder.reference)
    queries = [pair.query for pair in pairs]
    vectors = dict(zip(queries, encoder.encode_queries(queries), strict=True))
    with Session(notes) as session:
        mined = training.mine(session, note.semantic, pairs, encoder=encoder).pairs
        for given in (pairs, mined):
            found = examples.read(
                session,
                note.semantic,
                given,
                vectors=vectors,
                random_passages=10,
                seed=0,
                where=[note.id < 30],
            )
            assert {int(key) for key, _ in found.texts} == set(range(30))
            assert (len(found.all), found.gone) == (60, 60)
            assert {int(key) for one in found.all for key, _ in one.passages} <= set(range(30))
            assert {int(key) for key, _ in (*found.random, *found.spare)} <= set(range(30))


def test_the_command_trains_on_the_rows_of_one_tenant(notes: sa.Engine, mined: Any, tmp_path: Path) -> None:
    dsn = notes.url.set(drivername="postgresql").render_as_string(hide_password=False)
    training.write_mined(tmp_path / "mined.jsonl", mined)
    command = ("train", "encoder", NAME, "--pairs", str(tmp_path / "mined.jsonl"), "--epochs", "1", "--keep")
    said = " ".join(error(*command, "--where", "id=7", "--out", str(tmp_path / "new"), dsn=dsn).split())
    assert "pairs were left out, because a row has no vectors, a condition leaves it out, two rows" in said
    assert "training needs 50" in said


def test_rows_of_tenants_are_not_mixed_by_a_role_that_bypasses_policies(
    notes: sa.Engine, note: Any, mined: Any, tmp_path: Path
) -> None:
    with Session(notes) as session:
        session.execute(sa.text("ALTER TABLE note ENABLE ROW LEVEL SECURITY"))
        with pytest.raises(errors.QueryError, match="has row-level security, which the current role bypasses"):
            training.train_encoder(session, note.semantic, mined, out=tmp_path / "new")


def test_nothing_is_written_without_a_gain(notes: sa.Engine, note: Any, pairs: list[Pair], tmp_path: Path) -> None:
    keys = [pair.key for pair in pairs]
    elsewhere = [Pair(pair.query, key) for pair, key in zip(pairs, keys[31:] + keys[:31], strict=True)]
    report = train(notes, note, elsewhere, tmp_path / "new", keep=False, epochs=1)
    assert (report.recommended, report.folder) == (False, None)
    assert report.verdict.startswith("No gain, nothing to roll out: on ")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_space_for_the_weights_is_noticed_before_training(
    notes: sa.Engine, note: Any, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    steps: list[int] = []
    with pytest.raises(errors.ConfigurationError, match="MB of free space"):
        train(notes, note, pairs, tmp_path / "new", on_step=lambda done, _: steps.append(done))
    with Session(notes) as session, pytest.raises(errors.ConfigurationError, match="MB of free space"):
        training.train_query_side(
            session, note.semantic, pairs, out=tmp_path / "new", on_step=lambda *_: steps.append(0)
        )
    assert steps == []


def test_no_transaction_stays_open_while_it_trains(notes: sa.Engine, note: Any, mined: Any, tmp_path: Path) -> None:
    seen = set()
    with Session(notes) as session:
        training.train_encoder(
            session,
            note.semantic,
            mined,
            out=tmp_path / "new",
            options=EncoderTraining(epochs=1),
            on_step=lambda *_: seen.add(session.in_transaction()),
        )
    assert seen == {False}


def test_pairs_that_name_no_row_are_left_out(notes: sa.Engine, note: Any, pairs: list[Pair], tmp_path: Path) -> None:
    others = [Pair("a query", "10000"), Pair("another", "no key"), Pair("wrong", "1", score=0)]
    report = train(notes, note, [*pairs, *others], tmp_path / "new", epochs=1)
    assert (report.gone, report.pairs) == (2, len(pairs))
    with pytest.raises(errors.QueryError, match="training needs 50"):
        train(notes, note, pairs[:49], tmp_path / "few")


@pytest.mark.parametrize("loss", ["ranking", "triplet"])
def test_rows_that_all_have_the_same_text_are_refused_whatever_the_loss(
    server: sa.URL, template: str, note: Any, tmp_path: Path, loss: Any
) -> None:
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        note.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(note(id=number, text="the same in all rows") for number in range(ROWS))
            session.commit()
        sync(engine)
        words = architectures.words(400)
        given = [Pair(f"{words[number]} {words[number + 100]}", str(number)) for number in range(ROWS)]
        with pytest.raises(errors.QueryError, match="connected through rows that they share"):
            train(engine, note, given, tmp_path / "new", loss=loss, epochs=1)
        engine.dispose()
