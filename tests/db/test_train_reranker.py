"""A reranker trained on mined pairs: what it is measured with, what it must not see, and what is written."""

import dataclasses
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, Session, mapped_column

from pg_semantic import Searcher, SemanticIndex, database, errors, evaluation, rerankers, training
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.evaluation import EvaluationOptions, Judgements, Variant
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.search import Options, Rerank
from pg_semantic.training import MinedPair, RerankerTraining, ScoredChunk, TrainingReport, record
from pg_semantic.training.pairs import Pair
from pg_semantic.training.query_side import folds
from pg_semantic.training.reranker import candidates, training_lists
from pg_semantic.training.reranker import train as reranker_training
from pg_semantic.training.time_limit import TimeLimit
from tests import cross_encoders
from tests.conftest import copy_of
from tests.db.library import execute, rows, sync
from tests.db.test_cli import error, ok, parsed

QUERIES = 60
OF_EACH = 12  # rows that a search finds for a query, one of which is the answer
SIGN = "anchor"  # the word that only answers have
OTHERS = [word for word in cross_encoders.WORDS if word != SIGN]
DIMENSIONS = 128


class Base(orm.DeclarativeBase): ...


class Leaflet(Base):
    __tablename__ = "leaflet"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder=f"hashed:{DIMENSIONS}", storage="vector", chunking=None)


def query(number: int) -> str:
    return f"topic{number} subject{number} area{number}"


def answer(number: int) -> int:
    """The key of the row that answers a query, at a random place among those of its topic."""
    return number * OF_EACH + int(np.random.default_rng(number).integers(OF_EACH))


def text(key: int) -> str:
    number = key // OF_EACH
    first, second = np.random.default_rng(1000 + key).choice(OTHERS, 2)
    return f"{query(number)} {first} {SIGN if key == answer(number) else second} {key}"


def passage(key: int | str) -> ScoredChunk:
    return ScoredChunk(str(key), 0, 0.5)


def mined(*, right: bool = True) -> list[MinedPair]:
    """A pair for each query with three negatives; with another row of the topic as the answer if it isn't right."""
    found = []
    for number in range(QUERIES):
        of_topic = range(number * OF_EACH, (number + 1) * OF_EACH)
        best = answer(number) if right else next(key for key in of_topic if key != answer(number))
        negatives = [key for key in of_topic if key != best]
        some = np.random.default_rng(number).choice(negatives, 3, replace=False).tolist()
        found.append(MinedPair(query(number), passage(best), tuple(map(passage, some))))
    return found


@pytest.fixture(scope="module")
def leaflets(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Twelve rows for each query, synced; for tests that leave no trace."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Leaflet(id=key, text=text(key)) for key in range(QUERIES * OF_EACH))
            session.commit()
        sync(engine)
        execute(engine, "ANALYZE")
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny cross-encoder with random weights."""
    return str(cross_encoders.save(tmp_path_factory.mktemp("start") / "tiny"))


FAST: dict[str, Any] = {"depth": OF_EACH, "epochs": 8, "batch": 16, "learning_rate": 2e-3, "held_out": 0.34}


def train(
    engine: sa.Engine, pairs: Sequence[MinedPair], out: Path, *, on_step: Any = lambda *_: None, **options: Any
) -> TrainingReport:
    with Session(engine) as session:
        how = RerankerTraining(**(FAST | options))
        return training.train_reranker(session, Leaflet.semantic, pairs, out=out, options=how, on_step=on_step)


@pytest.fixture(scope="module")
def trained(leaflets: sa.Engine, start: str, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    return train(leaflets, mined(), tmp_path_factory.mktemp("trained") / "new", start=start)


def folder_of(report: TrainingReport) -> Path:
    assert report.folder is not None
    return report.folder


def test_a_reranker_that_learns_what_answers_have_is_recommended_and_written(trained: TrainingReport) -> None:
    assert trained.recommended
    assert trained.held_out.before < 0.6
    assert trained.held_out.after > 0.8
    assert trained.verdict.startswith("A gain: on ")
    assert (trained.kind, trained.queries, trained.pairs, trained.gone) == ("reranker", QUERIES, QUERIES, 0)
    assert 10 <= trained.held_out.queries <= QUERIES // 3
    assert trained.trained_on is None


def test_searches_with_the_written_reranker_are_as_good_as_reported(
    leaflets: sa.Engine, trained: TrainingReport
) -> None:
    reranker = BatchingReranker(rerankers.load(str(folder_of(trained))))
    judged = Judgements({query(number): {str(answer(number)): 1} for number in range(QUERIES)})
    variants = [Variant("now"), Variant("reranked", options=Options(rerank=Rerank(reranker, depth=OF_EACH)))]
    with Session(leaflets) as session:
        found = evaluation.evaluate(
            session,
            Leaflet.semantic,
            judged,
            variants=variants,
            options=EvaluationOptions(measures=["nDCG@10"]),
            encoder=HashedEncoder(DIMENSIONS),
        )
    now, reranked = (one.measures["nDCG@10"] for one in found.variants)
    assert now == pytest.approx(trained.held_out.before, abs=0.15)
    assert reranked > 0.8


def test_scores_are_those_of_the_reranker_in_memory_and_weights_have_32_bits(trained: TrainingReport) -> None:
    from safetensors.torch import load_file

    folder = folder_of(trained)
    first, second = (rerankers.load(str(folder)) for _ in range(2))
    passages = [text(key) for key in range(OF_EACH)]
    scores = first.score(query(0), passages)
    assert np.array_equal(scores, second.score(query(0), passages))
    assert int(scores.argmax()) == answer(0)
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float32}


def test_no_file_has_a_text_of_a_query_or_a_row(trained: TrainingReport) -> None:
    folder = folder_of(trained)
    texts = {query(number) for number in range(QUERIES)} | {text(key) for key in range(QUERIES * OF_EACH)}
    searched = {one.encode() for one in texts} | {f"topic{number} ".encode() for number in range(QUERIES)}
    files = [file for file in folder.rglob("*") if file.is_file()]
    contents = [file.read_bytes() for file in files]
    assert [one for one in searched if any(one in content for content in contents)] == []
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".txt"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_record_says_what_was_trained_from_what(trained: TrainingReport, start: str) -> None:
    written = json.loads((folder_of(trained) / "training.json").read_text())
    assert written["kind"] == "reranker"
    assert written["base"]["reference"] == start
    assert written["pairs_sha256"] == record.pairs_hash([Pair(one.query, one.positive.key) for one in mined()])
    assert written["held_out"] == dataclasses.asdict(trained.held_out)
    assert written["recommended"] is True
    assert written["trained_on"] is None
    assert (written["settings"]["mode"], written["settings"]["depth"]) == ("dense", OF_EACH)
    assert written["settings"]["epochs"] == trained.epochs


def test_the_same_seed_gives_the_same_reranker_and_leaves_other_random_numbers_alone(
    leaflets: sa.Engine, start: str, trained: TrainingReport, tmp_path: Path
) -> None:
    before = random.getstate(), torch.get_rng_state().tolist()
    again = train(leaflets, mined(), tmp_path / "again", start=start)
    assert (random.getstate(), torch.get_rng_state().tolist()) == before
    assert dataclasses.replace(again, seconds=0, folder=None) == dataclasses.replace(trained, seconds=0, folder=None)
    for file in folder_of(again).rglob("*.safetensors"):
        assert file.read_bytes() == (folder_of(trained) / file.relative_to(folder_of(again))).read_bytes()


def test_a_training_that_was_stopped_is_resumed_and_gives_the_same_reranker(
    leaflets: sa.Engine, start: str, trained: TrainingReport, tmp_path: Path
) -> None:
    steps: list[int] = []

    def on_step(done: int, planned: int) -> None:
        steps.append(done)
        if done == planned // 2:
            raise KeyboardInterrupt

    often: dict[str, Any] = {"start": start, "checkpoint_seconds": 1e-9}
    with pytest.raises(KeyboardInterrupt):
        train(leaflets, mined(), tmp_path / "new", on_step=on_step, **often)
    with pytest.raises(errors.ConfigurationError, match="was stopped before its end: resume it, or remove"):
        train(leaflets, mined(), tmp_path / "new", **often)
    with pytest.raises(errors.ConfigurationError, match="had other options and pairs and rows: pass the same"):
        train(leaflets, mined()[:-5], tmp_path / "new", resume=True, max_tokens=20, **often)
    with pytest.raises(errors.ConfigurationError, match="had other options: pass the same"):
        train(leaflets, mined(), tmp_path / "new", resume=True, search=Options(depth=50), **often)
    steps.clear()
    again = train(leaflets, mined(), tmp_path / "new", on_step=lambda done, _: steps.append(done), resume=True, **often)
    assert steps[0] > 1
    assert dataclasses.replace(again, seconds=0, folder=None) == dataclasses.replace(trained, seconds=0, folder=None)
    for file in folder_of(again).rglob("*.safetensors"):
        assert file.read_bytes() == (folder_of(trained) / file.relative_to(folder_of(again))).read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["new"]


def test_a_disk_without_space_for_the_weights_is_noticed_before_training(
    leaflets: sa.Engine, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    steps: list[int] = []
    with pytest.raises(errors.ConfigurationError, match="MB of free space"):
        train(leaflets, mined(), tmp_path / "new", start=start, on_step=lambda done, _: steps.append(done))
    assert steps == []


def test_lists_can_be_learned_too(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    report = train(leaflets, mined(), tmp_path / "new", start=start, loss="lambda")
    assert report.recommended
    assert report.held_out.after > 0.8


def test_nothing_is_written_without_a_gain(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    report = train(leaflets, mined(right=False), tmp_path / "new", start=start, epochs=1, learning_rate=1e-6)
    assert (report.recommended, report.folder) == (False, None)
    assert report.verdict.startswith("No gain, nothing to roll out: on ")
    assert list(tmp_path.iterdir()) == []


def test_a_reranker_that_is_worse_than_the_first_stage_is_not_recommended(
    leaflets: sa.Engine, start: str, tmp_path: Path
) -> None:
    quoted = [
        dataclasses.replace(pair, query=text(int(pair.positive.key))) for pair in mined(right=False)
    ]  # a search finds these first
    report = train(leaflets, quoted, tmp_path / "new", start=start, epochs=1, learning_rate=1e-6)
    assert report.held_out.before == 1
    assert report.held_out.high < 0
    assert (report.recommended, list(tmp_path.iterdir())) == (False, [])
    kept = train(leaflets, quoted, tmp_path / "new", start=start, epochs=1, learning_rate=1e-6, keep=True)
    assert not kept.recommended
    assert json.loads((folder_of(kept) / "training.json").read_text())["recommended"] is False


class PrefersAnswers:
    """A reranker that knows the answers."""

    reference, score_type = "oracle", "probability"

    def score(self, _: str, passages: Sequence[str]) -> Any:
        return np.array([float(SIGN in one) for one in passages], np.float32)


def test_answers_that_a_search_does_not_find_are_not_put_among_the_candidates(leaflets: sa.Engine) -> None:
    relevant = {query(0): {str(answer(0))}, query(1): {str(answer(2))}, query(3): {str(answer(3)), str(answer(4))}}
    with Session(leaflets) as session:
        found = candidates.search(
            session,
            Leaflet.semantic,
            relevant,
            encoder=HashedEncoder(DIMENSIONS),
            options=RerankerTraining(depth=OF_EACH),
            limit=TimeLimit(None),
        )
    for number, one in zip((0, 1, 3), found, strict=True):
        assert sorted(map(int, one.keys)) == list(range(number * OF_EACH, (number + 1) * OF_EACH))
        assert one.passages == tuple(text(int(key)) for key in one.keys)
    reranked = candidates.reranked(found, PrefersAnswers())  # type: ignore[arg-type]
    both = 1 / (1 + 1 / np.log2(3))  # one of two answers was found
    assert reranked.tolist() == pytest.approx([1, 0, both])
    before = candidates.first_stage(found)
    for place, number, best in ((0, 0, 1.0), (2, 3, both)):
        rank = found[place].keys.index(str(answer(number)))
        assert before[place] == pytest.approx(best / np.log2(2 + rank) if rank < 10 else 0)
    assert before[1] == 0


def test_searching_held_out_queries_ends_when_the_time_is_over(leaflets: sa.Engine) -> None:
    now = iter(range(100))
    relevant = {query(number): {str(answer(number))} for number in range(10)}
    with Session(leaflets) as session, pytest.raises(errors.ConfigurationError, match="reading and searching took"):
        candidates.search(
            session,
            Leaflet.semantic,
            relevant,
            encoder=HashedEncoder(DIMENSIONS),
            options=RerankerTraining(depth=OF_EACH),
            limit=TimeLimit(3, clock=lambda: next(now)),
        )
    assert next(now) < 10


def test_candidates_are_what_a_search_returns(leaflets: sa.Engine) -> None:
    searcher = Searcher(HashedEncoder(DIMENSIONS))
    options = RerankerTraining(depth=20, mode="hybrid", where=[Leaflet.id % 2 == 0], search=Options(depth=50))
    with Session(leaflets) as session:
        [found] = candidates.search(
            session,
            Leaflet.semantic,
            {query(5): {"1"}},
            encoder=HashedEncoder(DIMENSIONS),
            options=options,
            limit=TimeLimit(None),
        )
        hits = searcher.search(
            session,
            Leaflet.semantic,
            query(5),
            limit=20,
            mode="hybrid",
            where=[Leaflet.id % 2 == 0],
            options=Options(depth=50),
        )
    assert found.keys == tuple(str(hit.entity.id) for hit in hits)
    assert {int(key) % 2 for key in found.keys} == {0}


def lists(engine: sa.Engine, pairs: Sequence[MinedPair], *, where: Any = (), **relevant: Any) -> Any:
    answers = {pair.query: {pair.positive.key} for pair in pairs} | relevant
    with Session(engine) as session:
        return training_lists.read(session, Leaflet.semantic, pairs, relevant=answers, where=where, seed=0)


def test_each_query_gets_its_passages_and_a_random_negative_that_is_no_answer(leaflets: sa.Engine) -> None:
    pairs = mined()
    found = lists(leaflets, pairs)
    assert [one.query for one in found] == [pair.query for pair in pairs]
    for pair, one in zip(pairs, found, strict=True):
        assert one.positives == (text(int(pair.positive.key)),)
        assert one.negatives[:-1] == tuple(text(int(negative.key)) for negative in pair.negatives)
        assert one.negatives[-1] not in {*one.positives, *one.negatives[:-1]}
        assert one.labels == [1, 0, 0, 0, 0]
    assert len({one.negatives[-1] for one in found}) > QUERIES // 2
    assert found == lists(leaflets, pairs)


def test_answers_and_rows_behind_conditions_never_become_negatives(leaflets: sa.Engine) -> None:
    [pair, *_] = mined()
    known = {pair.positive.key, pair.negatives[1].key, "700"}
    named = [int(passage.key) for passage in (pair.positive, *pair.negatives)]
    [one] = lists(leaflets, [pair], where=[Leaflet.id.in_([*named, 700, 701])], **{pair.query: known})
    expected = [text(int(pair.negatives[0].key)), text(int(pair.negatives[2].key)), text(701)]
    assert one.negatives == tuple(expected)
    [none] = lists(leaflets, [pair], where=[Leaflet.id.in_([*named, 700])], **{pair.query: known})
    assert none.negatives == tuple(expected[:2])


def test_a_negative_with_the_text_of_an_answer_is_left_out(leaflets: sa.Engine) -> None:
    [pair, *_] = mined()
    twin = dataclasses.replace(pair, negatives=(pair.positive, pair.negatives[0]))
    named = [int(passage.key) for passage in twin.negatives]
    [one] = lists(leaflets, [twin], where=[Leaflet.id.in_(named)], **{pair.query: {"another key"}})
    assert one.negatives == (text(int(pair.negatives[0].key)),)


def test_passages_that_are_gone_are_left_out_and_so_are_queries_without_any(leaflets: sa.Engine) -> None:
    [first, second, *_] = mined()
    gone = ScoredChunk(first.negatives[0].key, 7, 0.5)
    found = lists(leaflets, [dataclasses.replace(first, negatives=(gone, first.negatives[1]))])
    assert found[0].negatives[:-1] == (text(int(first.negatives[1].key)),)
    assert lists(leaflets, [dataclasses.replace(second, positive=ScoredChunk(second.positive.key, 7, 0.5))]) == []


def test_keys_in_another_spelling_are_found_and_keys_of_another_table_are_left_out(leaflets: sa.Engine) -> None:
    [pair, *_] = mined()
    spelled = ScoredChunk(f"00{pair.positive.key}", 0, 0.5)
    foreign = ScoredChunk("9b2f-foreign", 0, 0.5)
    [one] = lists(leaflets, [dataclasses.replace(pair, positive=spelled, negatives=(foreign, pair.negatives[1]))])
    assert one.positives == (text(int(pair.positive.key)),)
    assert one.negatives[0] == text(int(pair.negatives[1].key))


def test_spellings_of_a_query_are_one_query(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    [pair, *others] = mined()
    spelled = dataclasses.replace(pair, query=f" {pair.query.upper()}")
    report = train(leaflets, [pair, spelled, *others], tmp_path / "new", start=start, epochs=1)
    assert (report.queries, report.pairs) == (QUERIES, QUERIES)


def test_pairs_of_rows_that_do_not_exist_are_left_out(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    more = [*mined(), MinedPair("a query", passage(999_999), (passage(1),))]
    report = train(leaflets, more, tmp_path / "new", start=start, epochs=1)
    assert (report.gone, report.pairs, report.queries) == (1, QUERIES, QUERIES)


def held_out(session: Session, asked: str, number: int) -> MinedPair:
    """A pair whose query is held out, about a row that answers no other query."""
    key = answer(number) ^ 1
    evaluation.split(session, Leaflet.semantic, Judgements({asked: {str(key): 1}}), held_out=1)
    return MinedPair(asked, passage(key), (passage(answer(number)),))


def test_held_out_queries_are_refused(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    with Session(leaflets) as session:
        pair = held_out(session, "asked once", 2)
        with pytest.raises(errors.QueryError, match=f"^1 of {QUERIES + 1} queries are held out"):
            training.train_reranker(
                session, Leaflet.semantic, [*mined(), pair], out=tmp_path / "new", options=RerankerTraining(start=start)
            )


def test_rows_of_tenants_are_not_mixed_by_a_role_that_bypasses_policies(
    leaflets: sa.Engine, start: str, tmp_path: Path
) -> None:
    with Session(leaflets) as session:
        session.execute(sa.text("ALTER TABLE leaflet ENABLE ROW LEVEL SECURITY"))
        with pytest.raises(errors.QueryError, match="has row-level security, which the current role bypasses"):
            training.train_reranker(
                session, Leaflet.semantic, mined(), out=tmp_path / "new", options=RerankerTraining(start=start)
            )


def test_passages_and_queries_of_rows_that_conditions_leave_out_are_not_used(leaflets: sa.Engine) -> None:
    where = [Leaflet.id < 30 * OF_EACH]
    with Session(leaflets) as session:
        pairs = [*mined(), MinedPair(query(0), passage(answer(0)), (passage(30 * OF_EACH), passage(1 - answer(0) % 2)))]
        relevant, gone = reranker_training._relevant(session, Leaflet.semantic, pairs, where=where)
        assert set(relevant) == {query(number) for number in range(30)}
        assert gone == 30
        lists = training_lists.read(session, Leaflet.semantic, pairs, relevant=relevant, where=where, seed=0)
    allowed = {text(key) for key in range(30 * OF_EACH)}
    assert all(set(one.passages) <= allowed for one in lists)


def test_the_share_that_is_held_out_is_exact(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    report = train(leaflets, mined(), tmp_path / "new", start=start, held_out=0.4, epochs=1)
    assert report.held_out.queries == 24


def test_queries_are_connected_by_rows_and_by_equal_texts_of_answers(leaflets: sa.Engine) -> None:
    pairs = [*mined()[:4], MinedPair("another", passage(answer(3)), ())]
    with Session(leaflets) as session:
        relevant, _ = reranker_training._relevant(session, Leaflet.semantic, pairs, where=())
        same = sa.text("UPDATE leaflet_semantic SET content = 'the same' WHERE id IN (:first, :second)")
        session.execute(same, {"first": answer(0), "second": answer(2)})
        found = reranker_training.connecting(session, Leaflet.semantic, pairs, relevant=relevant, where=())
        session.rollback()
    assert list(found) == list(relevant)
    first, second, third, fourth, last = folds.numbers_of(found).tolist()
    assert first == third
    assert fourth == last
    assert len({first, second, fourth}) == 3


def test_too_few_queries_are_refused(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    with pytest.raises(errors.QueryError, match=r"^There are only 49 queries .* training needs 50"):
        train(leaflets, mined()[:49], tmp_path / "new", start=start)


def test_a_reranker_that_was_trained_here_is_refused_as_a_start(
    leaflets: sa.Engine, trained: TrainingReport, tmp_path: Path
) -> None:
    folder = str(folder_of(trained))
    with pytest.raises(errors.EncoderError, match="was trained already"):
        train(leaflets, mined(), tmp_path / "new", start=folder)
    again = train(leaflets, mined(), tmp_path / "new", start=folder, from_trained=True, epochs=1)
    assert again.held_out.after > 0.8


def test_an_index_whose_encoder_has_no_weights_needs_a_cross_encoder_to_start_from(
    leaflets: sa.Engine, tmp_path: Path
) -> None:
    with pytest.raises(errors.EncoderError, match="has no weights to train"):
        train(leaflets, mined(), tmp_path / "new")


def test_no_transaction_stays_open_while_it_trains(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    seen, steps = set(), []
    with Session(leaflets) as session:

        def on_step(done: int, planned: int) -> None:
            seen.add(session.in_transaction())
            steps.append((done, planned))

        training.train_reranker(
            session,
            Leaflet.semantic,
            mined(),
            out=tmp_path / "new",
            options=RerankerTraining(start=start, **FAST | {"epochs": 2}),
            on_step=on_step,
        )
    assert seen == {False}
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))


def test_a_time_that_is_too_short_is_refused_early(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"^seconds=0.001 is too short: loading the weights took"):
        train(leaflets, mined(), tmp_path / "new", start=start, seconds=0.001)
    assert list(tmp_path.iterdir()) == []


def test_training_that_diverges_says_what_to_change(leaflets: sa.Engine, start: str, tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"^Training diverged: .* lower learning_rate"):
        train(leaflets, mined(), tmp_path / "new", start=start, learning_rate=1e30, epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_the_command_trains_from_a_mined_file_and_records_the_queries(
    leaflets: sa.Engine, start: str, tmp_path: Path
) -> None:
    dsn = leaflets.url.set(drivername="postgresql").render_as_string(hide_password=False)
    file = tmp_path / "mined.jsonl"
    with Session(leaflets) as session:
        pair = held_out(session, "asked twice", 4)
        session.commit()
    gone = MinedPair("a query", passage(999_999), (passage(1),))
    first, *others = mined()
    spelled = dataclasses.replace(first, positive=passage(f"00{first.positive.key}"))
    training.write_mined(file, [spelled, *others, pair, gone])
    command = ["train", "reranker", "leaflet_semantic", "--pairs", str(file), "--start", start]
    command += ["--depth", "12", "--learning-rate", "0.002", "--out"]
    found = parsed(*command, str(tmp_path / "a"), "--epochs", "1", "--keep", "--mode", "hybrid", dsn=dsn)
    assert (found["folder"], found["kind"], found["trained_on"]) == (str(tmp_path / "a"), "reranker", None)
    assert (found["queries"], found["gone"]) == (QUERIES, 1)
    with Session(leaflets) as session:
        judged = Judgements({query(number): {str(answer(number)): 1} for number in range(QUERIES)})
        assert not evaluation.split(session, Leaflet.semantic, judged, held_out=1).held_out.queries
    printed = ok(*command, str(tmp_path / "b"), "--epochs", "1", "--keep", "--loss", "lambda", dsn=dsn)
    assert "Left out 1 queries that are held out to measure with." in printed
    assert "whose row does not exist" in printed
    assert "rerankers.load" in printed
    assert "is not empty" in error(*command, str(tmp_path / "b"), dsn=dsn)
    assert rows(leaflets, "SELECT count(*) FROM semantic.judged_query WHERE held_out") == [(1,)]


def test_rows_that_answer_held_out_queries_never_become_random_negatives(leaflets: sa.Engine) -> None:
    [pair, *_] = mined()
    named = [int(passage.key) for passage in (pair.positive, *pair.negatives)]
    answers = {pair.query: {pair.positive.key}}
    with Session(leaflets) as session:
        for left, expected in (({"700"}, text(701)), ({"701"}, text(700))):
            [one] = training_lists.read(
                session,
                Leaflet.semantic,
                [pair],
                relevant=answers,
                where=[Leaflet.id.in_([*named, 700, 701])],
                seed=0,
                without={*left, *(negative.key for negative in pair.negatives)},
            )
            assert one.negatives[3:] == (expected,)


def test_scores_learned_as_answers_are_probabilities_whatever_the_start_applies(
    leaflets: sa.Engine, tmp_path: Path
) -> None:
    raw = cross_encoders.save(tmp_path / "raw", activation=torch.nn.Identity())
    assert rerankers.load(str(raw)).score_type == "logit"
    report = train(leaflets, mined(), tmp_path / "new", start=str(raw), epochs=1, keep=True)
    assert rerankers.load(str(folder_of(report))).score_type == "probability"
