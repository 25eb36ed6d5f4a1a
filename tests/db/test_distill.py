"""A static student of a tiny encoder: from the rows of an index to a folder that the index can be switched to."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column
from tokenizers import Tokenizer

from pg_semantic import SemanticIndex, database, encoders, errors, evaluation, generations, training
from pg_semantic.training import StaticReport, StaticTraining
from pg_semantic.training.static_student import teacher_chunks
from tests.acceptance import architectures
from tests.conftest import copy_of
from tests.db.library import Article, execute, sync
from tests.db.test_cli import error, ok, parsed

COUNT = 120
NAME = "note_semantic"
TEXTS = [
    f"{' '.join(architectures.words(30, start=23 * number))}. Serial zyx{number}. Almost all mention quokkas."
    for number in range(COUNT)
]
QUICK = StaticTraining(spans=200, epochs=3)


@dataclasses.dataclass(frozen=True)
class Notes:
    """A table of notes, synced."""

    dsn: str
    engine: sa.Engine
    entity: Any


@pytest.fixture(scope="module")
def notes(server: sa.URL, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notes]:
    """A hundred and twenty notes; for tests that leave no trace."""
    folder = architectures.make("bert", tmp_path_factory.mktemp("encoders"))

    class Base(orm.DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"

        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

        semantic = SemanticIndex("text", encoder=str(folder), dimensions=architectures.WIDTH, chunking=None)

    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        with orm.Session(engine) as session:
            session.add_all(Note(id=number, text=text) for number, text in enumerate(TEXTS))
            session.commit()
        sync(engine, device="cpu")
        yield Notes(dsn, engine, Note)
        engine.dispose()


def distill(notes: Notes, out: Path, options: StaticTraining = QUICK, **more: Any) -> StaticReport:
    with orm.Session(notes.engine) as session:
        return training.distill_static(session, notes.entity.semantic, out=out, options=options, **more)


@pytest.fixture(scope="module")
def made(notes: Notes, tmp_path_factory: pytest.TempPathFactory) -> StaticReport:
    """A student with the words of the rows."""
    return distill(notes, tmp_path_factory.mktemp("students") / "student")


def written(report: StaticReport) -> dict[str, bytes]:
    assert report.folder is not None
    files = [file for file in report.folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(report.folder)): file.read_bytes() for file in files}


def vocabulary(report: StaticReport) -> set[str]:
    return set(Tokenizer.from_str(written(report)["tokenizer.json"].decode()).get_vocab())


def test_a_transaction_of_the_caller_stays_open(notes: Notes, tmp_path: Path) -> None:
    with notes.engine.connect() as connection, orm.Session(connection) as session:
        connection.execute(sa.text("SET LOCAL application_name = 'mine'"))
        training.distill_static(session, notes.entity.semantic, out=tmp_path / "student", options=QUICK)
        assert connection.scalar(sa.text("SHOW application_name")) == "mine"


def test_the_student_is_an_encoder_like_any_other_and_near_its_teacher(notes: Notes, made: StaticReport) -> None:
    student = encoders.load(str(made.folder))
    assert (student.dimensions, student.max_tokens) == (architectures.WIDTH, architectures.LONGEST)
    with orm.Session(notes.engine) as session:
        stored = teacher_chunks.read(session, notes.entity.semantic, most=1000, seed=0)
    vectors = student.encode_documents(stored.texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    ours, theirs = (each - each.mean(axis=0) for each in (vectors, stored.stored.vectors))
    scores = ours @ theirs.T
    ranks = (scores > scores.diagonal()[:, None]).sum(axis=1)
    assert np.median(ranks) < COUNT / 8
    assert made.overlap > 2 * 10 / COUNT  # chance finds a twelfth


def test_an_index_can_be_switched_to_it(server: sa.URL, template: str, made: StaticReport, notes: Notes) -> None:
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        notes.entity.metadata.create_all(engine)
        execute(engine, "INSERT INTO note VALUES (1, 'a note about search'), (2, 'another one')")
        sync(engine, device="cpu")
        ok("generation", "begin", NAME, "--encoder", str(made.folder), "--yes", dsn=dsn)
        assert sync(engine, device="cpu").chunks_encoded == 2
        generations.switch(engine, NAME)
        ok("search", NAME, "a note", dsn=dsn)
        engine.dispose()


def test_only_words_of_enough_rows_are_in_its_files(made: StaticReport) -> None:
    files = written(made)
    assert {"quokkas", "serial"} <= vocabulary(made)
    assert made.words > 0
    assert not any(b"zyx" in content for content in files.values())
    pairs = {" ".join(pair).encode() for text in TEXTS for pair in zip(text.split(), text.split()[1:], strict=False)}
    assert not [pair for pair in pairs if len(pair) > 12 and any(pair in content for content in files.values())]
    assert {Path(name).suffix for name in files} <= {".json", ".safetensors"}


def test_only_rows_that_fulfill_the_conditions_are_learned(notes: Notes, tmp_path: Path) -> None:
    note = notes.entity
    with orm.Session(notes.engine) as session:
        read = teacher_chunks.read(session, note.semantic, most=1000, seed=0, where=[note.id >= 40])
        assert set(map(int, read.stored.keys)) == set(range(40, COUNT))
        sample = teacher_chunks.read(session, note.semantic, most=40, seed=0, where=[note.id >= 40])
        assert sample.stored.is_sample
        assert 0 < len(sample.texts) < 80
    report = distill(notes, tmp_path / "student", dataclasses.replace(QUICK, where=[note.id >= 40]))
    assert report.chunks + report.held_out >= 80
    assert report.chunks < 80
    settings = json.loads(written(report)["training.json"])["settings"]
    assert settings["conditions"] == 1
    assert "where" not in settings


def test_words_of_tenants_are_not_mixed_by_a_role_that_bypasses_policies(notes: Notes, tmp_path: Path) -> None:
    with orm.Session(notes.engine) as session:
        session.execute(sa.text("ALTER TABLE note ENABLE ROW LEVEL SECURITY"))
        with pytest.raises(errors.QueryError, match="has row-level security, which the current role bypasses"):
            training.distill_static(session, notes.entity.semantic, out=tmp_path / "student", options=QUICK)


def test_it_can_keep_to_the_vocabulary_of_its_teacher(notes: Notes, tmp_path: Path) -> None:
    report = distill(notes, tmp_path / "student", dataclasses.replace(QUICK, vocabulary="encoder"))
    assert report.words == 0
    assert "quokkas" not in vocabulary(report)
    assert not any(b"quokkas" in content for content in written(report).values())


def test_it_can_have_fewer_dimensions_and_no_more(notes: Notes, tmp_path: Path) -> None:
    report = distill(notes, tmp_path / "student", dataclasses.replace(QUICK, dimensions=16))
    assert (report.dimensions, encoders.load(str(report.folder)).dimensions) == (16, 16)
    with pytest.raises(errors.ConfigurationError, match=r"^dimensions=33 is more than the 32 of encoder"):
        distill(notes, tmp_path / "other", dataclasses.replace(QUICK, dimensions=33))


def test_the_same_seed_gives_the_same_student(notes: Notes, made: StaticReport, tmp_path: Path) -> None:
    again = distill(notes, tmp_path / "again")
    assert dataclasses.replace(again, folder=made.folder, seconds=made.seconds) == made
    assert written(again) == written(made)
    other = distill(notes, tmp_path / "other", dataclasses.replace(QUICK, seed=1))
    assert written(other)["model.safetensors"] != written(made)["model.safetensors"]


def test_the_record_says_what_was_distilled_from_what(notes: Notes, made: StaticReport) -> None:
    record = json.loads(written(made)["training.json"])
    base = encoders.load(notes.entity.semantic.spec.encoder.reference)
    assert record["base"]["fingerprint"] == base.fingerprint
    assert (record["kind"], record["side"]) == ("static", "both")
    figures = dataclasses.asdict(made)
    assert {name: record[name] for name in ("words", "chunks", "spans", "overlap", "judged")} == {
        name: figures[name] for name in ("words", "chunks", "spans", "overlap", "judged")
    }
    assert record["settings"]["least_rows"] == 5


def test_judgements_measure_both_and_choose_nothing(notes: Notes, made: StaticReport, tmp_path: Path) -> None:
    grades = {" ".join(text.split()[3:9]): {f"0{number}": 1} for number, text in enumerate(TEXTS[:60])}
    judged = evaluation.Judgements(grades | {"a row that is gone": {"9999": 1}})
    report = distill(notes, tmp_path / "student", judgements=judged)
    assert report.judged is not None
    assert (report.judged.queries, report.gone) == (60, 1)
    assert report.share == pytest.approx(report.judged.after / report.judged.before)
    assert report.judged.before != report.judged.after
    assert written(report)["model.safetensors"] == written(made)["model.safetensors"]


def test_progress_goes_up_to_what_was_planned_and_no_transaction_stays_open(notes: Notes, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    seen = set()
    with orm.Session(notes.engine) as session:

        def on_step(done: int, planned: int) -> None:
            steps.append((done, planned))
            seen.add(session.in_transaction())

        training.distill_static(
            session, notes.entity.semantic, out=tmp_path / "student", options=QUICK, on_step=on_step
        )
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert steps[-1][0] == steps[-1][1]
    assert all(done <= planned for done, planned in steps)
    assert seen == {False}


def refused(notes: Notes, out: Path, options: StaticTraining = QUICK) -> str:
    with pytest.raises(errors.ConfigurationError) as raised:
        distill(notes, out, options)
    return str(raised.value)


def test_what_cannot_be_distilled_is_refused_before_anything_is_written(notes: Notes, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert refused(notes, tmp_path / "full").endswith("is not empty: choose an empty or new folder.")
    assert refused(notes, tmp_path / "new", StaticTraining(seconds=0.001)).startswith(
        "seconds=0.001 is too short: loading the encoder took"
    )
    assert "rows with vectors were read, and distilling needs 50" in refused(
        notes, tmp_path / "new", StaticTraining(chunks=20)
    )
    assert [file.name for file in tmp_path.iterdir()] == ["full"]


def test_a_larger_index_is_sampled_by_whole_rows(notes: Notes, tmp_path: Path) -> None:
    with orm.Session(notes.engine) as session:
        one, other = (
            teacher_chunks.read(session, notes.entity.semantic, most=80, seed=seed).stored for seed in range(2)
        )
    assert one.is_sample
    assert 50 < len(one.keys) < 110
    assert one.keys != other.keys
    assert distill(notes, tmp_path / "student", dataclasses.replace(QUICK, chunks=100)).is_sample


def test_the_command_says_how_good_the_student_is_and_what_to_do(notes: Notes, tmp_path: Path) -> None:
    judged = tmp_path / "judged.jsonl"
    judged.write_text(json.dumps({"query": TEXTS[3], "relevant": {"3": 1}}) + "\n", "utf-8")
    command = ("train", "static", NAME, "--spans", "100", "--epochs", "1", "--judgements", str(judged))
    printed = " ".join(ok(*command, "--out", str(tmp_path / "one"), dsn=notes.dsn).split())
    assert "note_semantic, static" in printed
    assert "of the encoder's nDCG@10 on 1 judged queries" in printed
    assert f"generation begin {NAME} --encoder {tmp_path / 'one'}" in printed
    shown = parsed(*command, "--out", str(tmp_path / "two"), "--vocabulary", "encoder", dsn=notes.dsn)
    assert (shown["words"], shown["folder"]) == (0, str(tmp_path / "two"))
    assert error(*command, "--out", str(tmp_path / "two"), dsn=notes.dsn).endswith("choose an empty or new folder.")


def test_an_encoder_without_weights_is_refused(articles: sa.Engine, tmp_path: Path) -> None:
    with orm.Session(articles) as session, pytest.raises(errors.EncoderError, match="has no weights to train"):
        training.distill_static(session, Article.semantic, out=tmp_path / "student")
