"""A whole encoder in training: both sides learn, nothing is written, and the encoder that it started from stays."""

import copy
import dataclasses
import random
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models

from pg_semantic import errors
from pg_semantic.encoders import self_check
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.encoders.local import backends
from pg_semantic.rerankers import Scores, ScoreType
from pg_semantic.settings import Settings
from pg_semantic.training import EncoderTraining, extra, folder
from pg_semantic.training.base_encoder import BaseEncoder
from pg_semantic.training.encoder import fit, losses, memory, teacher
from pg_semantic.training.encoder import train as whole_training
from pg_semantic.training.encoder.examples import Example, TrainingExamples
from pg_semantic.training.encoder.fit import WholeFit, WholeSet
from pg_semantic.training.encoder.held_out_measures import RankedAnswers, ScoredPairs
from pg_semantic.training.report import Measured
from pg_semantic.training.time_limit import TimeLimit
from tests import trainings
from tests.acceptance import architectures

pytestmark = pytest.mark.slow

COUNT = 60
ROWS = [" ".join(architectures.words(12, start=17 * number)) for number in range(COUNT)]
QUERIES = [" ".join(row.split()[3:7]) for row in ROWS]
PLAIN = EncoderTraining(learning_rate=1e-3, epochs=4, batch=16)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("encoders")
    return lambda name: root / name if (root / name).exists() else architectures.make(name, root)


def opened(place: Path, dimensions: int | None = None) -> SentenceTransformer:
    return backends.open_whole(place, reference="any", dimensions=dimensions, device="cpu")


@pytest.fixture
def whole(made: Callable[[str], Path]) -> SentenceTransformer:
    return opened(made("prompts"))


def found(*, scored: bool = False) -> TrainingExamples:
    """Each row answers a query made of its words, and the rows after it look like answers."""
    passages = [(f"{number:03}", 0) for number in range(COUNT)]
    examples = [
        Example(text, passages[n], () if scored else tuple(passages[(n + k) % COUNT] for k in (1, 2)))
        for n, text in enumerate(QUERIES)
    ]
    if scored:
        near = [dataclasses.replace(one, score=1.0) for one in examples]
        far = [dataclasses.replace(one, positive=passages[n ^ 1], score=0.1) for n, one in enumerate(examples)]
        examples = [one for n in range(COUNT) for one in (near[n], far[n])]
    texts = dict(zip(passages, ROWS, strict=True))
    return TrainingExamples(tuple(examples), texts, tuple(passages), (), 0, is_sample=False)


def data(options: EncoderTraining, **given: Any) -> WholeSet:
    divided = whole_training.divided(found(**given), options)
    if not options.is_scored:
        return divided
    return dataclasses.replace(divided, scores=[one.score for one in divided.examples])


def run(whole: SentenceTransformer, options: EncoderTraining = PLAIN, **given: Any) -> WholeFit:
    return fit.fit(
        data(options, **given),
        whole,
        options,
        halved=False,
        limit=TimeLimit(None),
        checkpoints=trainings.no_checkpoints(),
    )


def state(encoder: SentenceTransformer) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in encoder.state_dict().values())


class Told:
    """A measure that has these values before training and after each epoch, and remembers the weights."""

    passages = 0

    def __init__(self, queries: Sequence[str], *values: float) -> None:
        self.queries = queries
        self.states: list[bytes] = []
        self._values = values

    def __call__(self, encoder: SentenceTransformer) -> tuple[Measured, Measured]:
        self.states.append(state(encoder))
        chosen_by = np.full(len(self.queries), self._values[len(self.states) - 1])
        return chosen_by, np.full(len(self.queries), 0.01 * len(self.states))


def to_the_end(whole: SentenceTransformer, options: EncoderTraining = PLAIN, **given: Any) -> WholeFit:
    """Trains as `run` does, whatever held-out queries choose."""
    prepared = data(options, **given)
    told = Told(prepared.held_out.queries, *range(options.epochs + 1))
    prepared = dataclasses.replace(prepared, held_out=told)
    return fit.fit(
        prepared, whole, options, halved=False, limit=TimeLimit(None), checkpoints=trainings.no_checkpoints()
    )


@pytest.mark.parametrize("name", ["bert", "prompts", "dense"])
def test_both_sides_learn_and_the_encoder_that_it_started_from_stays_as_it_was(
    made: Callable[[str], Path], name: str
) -> None:
    whole = opened(made(name))
    before = state(whole)
    fitted = to_the_end(whole)
    was, now = fitted.trained_on
    assert now.mean() > was.mean() + 0.05
    assert state(whole) == before
    assert_both_changed(fitted.trained, whole)


def assert_both_changed(trained: SentenceTransformer, whole: SentenceTransformer) -> None:
    assert list(trained.state_dict()) == list(whole.state_dict())
    for encode in ("encode_query", "encode_document"):
        assert not np.allclose(getattr(trained, encode)(ROWS), getattr(whole, encode)(ROWS), atol=1e-2)


@pytest.mark.parametrize("name", ["router", "half_static", "static"])
def test_both_routes_of_a_router_are_trained_and_vectors_of_words(made: Callable[[str], Path], name: str) -> None:
    whole = opened(made(name))
    assert_both_changed(run(whole, dataclasses.replace(PLAIN, epochs=1, learning_rate=1e-2)).trained, whole)


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(whole: SentenceTransformer) -> None:
    first = run(whole).trained
    random.seed(5)
    torch.manual_seed(5)
    drawn = random.getstate(), torch.get_rng_state()
    assert state(run(whole).trained) == state(first)
    assert random.getstate() == drawn[0]
    assert torch.equal(torch.get_rng_state(), drawn[1])
    assert state(run(whole, dataclasses.replace(PLAIN, seed=1)).trained) != state(first)


def test_the_weights_are_those_after_the_epoch_that_held_out_queries_choose(whole: SentenceTransformer) -> None:
    prepared = data(PLAIN)
    told = Told(prepared.held_out.queries, 0.3, 0.1, 0.5, 0.5, 0.2)
    prepared = dataclasses.replace(prepared, held_out=told)
    fitted = fit.fit(
        prepared,
        whole,
        PLAIN,
        halved=False,
        limit=TimeLimit(None),
        checkpoints=trainings.no_checkpoints(),
    )
    assert fitted.epochs == 2
    assert state(fitted.trained) == told.states[2]
    assert len(set(told.states)) == 1 + PLAIN.epochs
    assert [set(one) for one in fitted.held_out] == [{0.01}, {0.03}]


@pytest.mark.parametrize(
    "options",
    [
        EncoderTraining(loss="gist"),
        EncoderTraining(negatives=0),
        EncoderTraining(negatives=3),
        EncoderTraining(matryoshka=(16, 8)),
        EncoderTraining(lora=True),
        EncoderTraining(loss="gist", matryoshka=(8,), lora=True),
    ],
    ids=["gist", "no negatives", "three negatives", "matryoshka", "lora", "gist and lora"],
)
def test_it_learns_with_every_option(whole: SentenceTransformer, tmp_path: Path, options: EncoderTraining) -> None:
    options = dataclasses.replace(options, learning_rate=1e-2 if options.lora else 1e-3, epochs=3, batch=16)
    fitted = to_the_end(whole, options)
    was, now = fitted.trained_on
    assert now.mean() > was.mean()
    folder.write(tmp_path / "new", fitted.trained, record={})
    read = opened(tmp_path / "new")
    np.testing.assert_allclose(read.encode_query(QUERIES), fitted.trained.encode_query(QUERIES), atol=1e-5)
    assert [file.name for file in tmp_path.rglob("*") if "adapter" in file.name] == []


@pytest.mark.parametrize("loss", ["cosent", "cosine"])
def test_scores_are_learned_and_measured_by_rank_correlation(whole: SentenceTransformer, loss: Any) -> None:
    fitted = to_the_end(whole, dataclasses.replace(PLAIN, loss=loss), scored=True)
    was, now = fitted.trained_on
    assert -1 <= was.mean() < now.mean() <= 1


class Judge:
    """A reranker that gives passages a probability by their first letter."""

    reference = "judge"
    score_type: ScoreType = "probability"

    def score(self, query: str, passages: Sequence[str]) -> Scores:  # noqa: ARG002
        return np.array([(ord(passage[0]) % 7 + 0.5) / 8 for passage in passages], np.float32)


def test_an_encoder_learns_the_order_of_a_rerankers_scores(whole: SentenceTransformer) -> None:
    options = dataclasses.replace(PLAIN, loss="teacher", negatives=2, epochs=6)
    prepared = data(options)
    scores = teacher.scores(Judge(), prepared.examples, prepared.texts, limit=TimeLimit(None))
    assert scores[0][0] == pytest.approx(
        np.log(1 / (1 / Judge().score("", [prepared.texts[prepared.examples[0].positive]])[0] - 1)), abs=1e-3
    )
    told = Told(prepared.held_out.queries, *range(options.epochs + 1))
    prepared = dataclasses.replace(prepared, scores=scores, held_out=told)
    fitted = fit.fit(
        prepared, whole, options, halved=False, limit=TimeLimit(None), checkpoints=trainings.no_checkpoints()
    )

    def agreement(encoder: SentenceTransformer) -> float:
        queries = encoder.encode_query([one.query for one in prepared.examples], normalize_embeddings=True)
        found = [
            queries[n]
            @ encoder.encode_document(
                [prepared.texts[passage] for passage in one.passages], normalize_embeddings=True
            ).T
            for n, one in enumerate(prepared.examples)
        ]
        return float(np.corrcoef(np.ravel(found), np.ravel(scores))[0, 1])

    assert agreement(fitted.trained) > agreement(whole) + 0.1


def test_an_answer_gets_more_similar_than_its_negative_by_the_margin(whole: SentenceTransformer) -> None:
    def apart(encoder: SentenceTransformer) -> float:
        """The mean margin of the queries that were trained on."""
        examples = data(options).examples
        queries, answers, negatives = (
            encode(texts, normalize_embeddings=True)
            for encode, texts in (
                (encoder.encode_query, [one.query for one in examples]),
                (encoder.encode_document, [found().texts[one.positive] for one in examples]),
                (encoder.encode_document, [found().texts[one.negatives[0]] for one in examples]),
            )
        )
        return float(((answers - negatives) * queries).sum(axis=1).mean())

    options = dataclasses.replace(PLAIN, loss="triplet")
    trained = to_the_end(whole, options).trained
    assert apart(trained) > apart(whole) + 0.05


def test_an_encoder_as_teacher_scores_by_cosine(made: Callable[[str], Path], whole: SentenceTransformer) -> None:
    other = backends.load(
        made("prompts"),
        reference="any",
        dimensions=None,
        settings=Settings(backend="torch", device="cpu", precision="float32"),
    )
    prepared = data(PLAIN)
    scores = teacher.scores(other, prepared.examples[:3], prepared.texts, limit=TimeLimit(None))
    for one, scored in zip(prepared.examples[:3], scores, strict=True):
        query = whole.encode_query(one.query, normalize_embeddings=True)
        documents = whole.encode_document(
            [prepared.texts[passage] for passage in one.passages], normalize_embeddings=True
        )
        np.testing.assert_allclose(scored, 20 * documents @ query, atol=1e-3)


def test_the_share_of_each_pair_adds_up_to_spearmans_correlation(whole: SentenceTransformer) -> None:
    from scipy import stats

    scored = found(scored=True)
    shares, _ = ScoredPairs(scored.all, scored.texts)(whole)
    queries = whole.encode_query([one.query for one in scored.all], normalize_embeddings=True)
    documents = whole.encode_document([scored.texts[one.positive] for one in scored.all], normalize_embeddings=True)
    expected = stats.spearmanr((queries * documents).sum(axis=1), [one.score for one in scored.all]).statistic
    assert shares.mean() == pytest.approx(expected, abs=1e-6)


def test_truncated_vectors_are_those_that_learn(made: Callable[[str], Path]) -> None:
    """An index that truncates vectors to 8 dimensions trains these: they get better than if all are trained alike."""
    whole = opened(made("prompts"), 8)
    loss = losses.build(whole, PLAIN, guide=whole, mini_batch=None)
    assert loss.matryoshka_dims == (8,)
    was, now = to_the_end(whole).trained_on
    assert now.mean() > was.mean() + 0.05


def test_smaller_dimensions_gain_more_with_matryoshka(whole: SentenceTransformer) -> None:
    def at_four(options: EncoderTraining) -> float:
        trained = to_the_end(whole, options).trained
        with trained.truncate_embeddings(4):
            return float(data(options).trained_on(trained)[1].mean())

    assert at_four(dataclasses.replace(PLAIN, matryoshka=(4,))) > at_four(PLAIN)


def test_mined_negatives_choose_the_epoch_but_are_left_out_of_the_figures(whole: SentenceTransformer) -> None:
    """They are hard for the encoder that found them, so with them any other encoder would look better."""
    passages = [(f"{number:03}", 0) for number in range(COUNT)]
    texts = dict(zip(passages, ROWS, strict=True))
    queries, documents = (
        encode(texts) for encode, texts in ((whole.encode_query, QUERIES), (whole.encode_document, ROWS))
    )
    scores = queries @ documents.T
    np.fill_diagonal(scores, -1)
    examples = [
        Example(QUERIES[n], passages[n], tuple(passages[place] for place in np.argsort(-scores[n])[:5]))
        for n in range(10)
    ]
    measure = RankedAnswers(examples, texts, random=())
    hard, reported = measure(whole)
    assert measure.passages == 10
    assert hard.mean() < reported.mean()


def test_an_encoder_whose_weights_are_not_finite_is_an_error(whole: SentenceTransformer) -> None:
    some, scored = found(), found(scored=True)
    measures = RankedAnswers(some.all, some.texts, random=some.random), ScoredPairs(scored.all, scored.texts)
    assert measures[0](whole)[1].mean() > 0
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.fill_(torch.nan)
    for measure in measures:
        with pytest.raises(errors.EncoderError, match=r"^Training diverged: .* Lower the learning rate"):
            measure(whole)


def test_a_batch_that_does_not_fit_is_encoded_part_by_part_with_the_same_gradients(
    whole: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_total", lambda: 4_000_000)
    assert memory.mini_batch(whole, batch=16, columns=3, tokens=15) is not None
    for module in whole.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    parts = run(whole, dataclasses.replace(PLAIN, epochs=1)).trained
    monkeypatch.undo()
    at_once = run(whole, dataclasses.replace(PLAIN, epochs=1)).trained
    found = parts.encode_document(ROWS)
    assert self_check.cosines(found, at_once.encode_document(ROWS)).min() > 0.999
    assert self_check.cosines(found, whole.encode_document(ROWS)).min() < 0.99


class Small(SentenceTransformer):  # type: ignore[misc]  # its types are not followed
    """A device whose memory holds the activations of four texts."""

    def forward(self, *given: Any, **options: Any) -> Any:
        if self.training and len(given[0]["input_ids"]) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")
        return super().forward(*given, **options)


def test_training_starts_again_with_smaller_parts_when_memory_runs_out(whole: SentenceTransformer) -> None:
    small = Small(modules=list(whole), prompts=whole.prompts, device="cpu").eval()
    fitted = to_the_end(small, dataclasses.replace(PLAIN, epochs=2))
    was, now = fitted.trained_on
    assert now.mean() > was.mean()


class Watched(SentenceTransformer):  # type: ignore[misc]  # its types are not followed
    """Runs out of memory with more than some texts, and notes at each copy how many copies there still are."""

    def __init__(self, room: int, copies: list[Any], alive: list[int], **given: Any) -> None:
        super().__init__(**given)
        self.room, self.copies, self.alive = room, copies, alive

    def forward(self, *given: Any, **options: Any) -> Any:
        if self.training and len(given[0]["input_ids"]) > self.room:
            raise torch.OutOfMemoryError
        return super().forward(*given, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Watched":
        self.alive.append(sum(known() is not None for known in self.copies))
        modules = copy.deepcopy(list(self), memo)
        made = Watched(self.room, self.copies, self.alive, modules=modules, prompts=self.prompts, device="cpu")
        self.copies.append(weakref.ref(made))
        return made


def test_a_copy_that_did_not_fit_is_gone_before_the_next_one_is_made(whole: SentenceTransformer) -> None:
    alive: list[int] = []
    small = Watched(4, [], alive, modules=list(whole), prompts=whole.prompts, device="cpu").eval()
    to_the_end(small, dataclasses.replace(PLAIN, epochs=1))
    assert len(alive) > 1
    assert set(alive) == {0}


@pytest.mark.parametrize(("loss", "least"), [("ranking", 1), ("cosent", 2)])
def test_what_does_not_fit_in_the_smallest_batch_is_refused(whole: SentenceTransformer, loss: Any, least: int) -> None:
    small = Watched(0, [], [], modules=list(whole), prompts=whole.prompts, device="cpu").eval()
    options = dataclasses.replace(PLAIN, loss=loss, batch=6)
    with pytest.raises(errors.ConfigurationError, match=f"Memory ran out while training, even with {least} at once"):
        fit.fit(
            data(options, scored=loss == "cosent"),
            small,
            options,
            halved=False,
            limit=TimeLimit(None),
            checkpoints=trainings.no_checkpoints(),
        )


def test_a_time_that_is_too_short_is_refused_and_a_short_one_trains_fewer_epochs(whole: SentenceTransformer) -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            self.now += 0.1
            return self.now

    steps: list[int] = []

    def limited(seconds: float) -> None:
        options = dataclasses.replace(PLAIN, epochs=50, batch=4)
        limit = TimeLimit(seconds, clock=Clock())
        fit.fit(
            data(options),
            whole,
            options,
            halved=False,
            limit=limit,
            checkpoints=trainings.no_checkpoints(),
            on_step=lambda *step: steps.append(step[1]),
        )

    with pytest.raises(errors.ConfigurationError, match="too short: one epoch takes about"):
        limited(0.6)
    steps.clear()
    with pytest.raises(errors.ConfigurationError, match="too short: reading and measuring took"):
        limited(0.2)
    assert steps == []
    limited(2)
    assert 12 <= len(steps) < 10 * 12
    assert set(steps) == {50 * 12}


def test_nothing_is_left_in_the_folder_for_temporary_files(
    whole: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run(whole, dataclasses.replace(PLAIN, epochs=1))
    assert list(tmp_path.iterdir()) == []


def test_queries_with_fewer_negatives_get_random_passages_that_do_not_answer_them() -> None:
    some = found()
    examples = [dataclasses.replace(one, negatives=one.negatives[: n % 3]) for n, one in enumerate(some.all)]
    padded = some.padded(examples, count=2, seed=0)
    assert [one.negatives[: n % 3] for n, one in enumerate(padded)] == [one.negatives for one in examples]
    for one in padded:
        assert len(set(one.negatives)) == 2
        assert one.positive not in one.negatives
    assert some.padded(examples, count=2, seed=0) == padded
    assert some.padded(examples, count=2, seed=1) != padded


def test_queries_are_cut_out_of_the_passages_that_quote_them() -> None:
    some = found()
    cut = some.without_quotes()
    assert all(one.query not in cut.texts[one.positive] for one in cut.all)
    assert [len(cut.texts[one.positive].split()) for one in cut.all] == [8] * COUNT
    whole_text = dataclasses.replace(some.all[0], query=ROWS[0])
    assert dataclasses.replace(some, all=(whole_text, some.all[1])).without_quotes().all == (some.all[1],)


def test_no_row_is_on_both_sides() -> None:
    some = found()
    shared = [
        dataclasses.replace(one, positive=some.all[n // 2 * 2].positive, negatives=()) for n, one in enumerate(some.all)
    ]
    prepared = whole_training.divided(dataclasses.replace(some, all=tuple(shared)), PLAIN)
    held_out = {one.positive for one in shared if one.query in prepared.held_out.queries}
    assert held_out.isdisjoint(one.positive for one in prepared.examples)
    assert len(prepared.examples) + len(prepared.held_out.queries) == COUNT


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "other"}, "loss='other' is unknown"),
        ({"loss": "gist", "negatives": 2}, "gist takes one at most"),
        ({"loss": "triplet", "negatives": 0}, "negatives=0: the loss triplet takes exactly one"),
        ({"loss": "triplet", "negatives": 2}, "negatives=2: the loss triplet takes exactly one"),
        ({"loss": "cosent", "negatives": 2}, "negatives=2: the loss cosent uses none"),
        ({"loss": "cosine", "negatives": 2}, "negatives=2: the loss cosine uses none"),
        ({"loss": "tsdae", "negatives": 2}, "negatives=2: the loss tsdae uses none"),
        ({"margin": 0.0}, "margin=0"),
        ({"checkpoint_seconds": 0.0}, "checkpoint_seconds=0"),
        ({"loss": "teacher", "negatives": 0}, "negatives=0: the loss teacher"),
        ({"held_out": 0.6}, "held_out=0.6"),
        ({"epochs": 0}, "epochs=0 must be 1 or more"),
        ({"negatives": -1}, "negatives=-1"),
        ({"negatives": 17}, "negatives=17"),
        ({"batch": 1}, "batch=1"),
        ({"random": -1}, "random=-1"),
        ({"matryoshka": (8, 0)}, "matryoshka=0"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
        ({"learning_rate": float("inf")}, "learning_rate=inf"),
        ({"seconds": float("nan")}, "seconds=nan"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=said):
        EncoderTraining(**options)


def test_low_rank_changes_need_a_transformer() -> None:
    static = StaticEmbedding(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), embedding_dim=4)  # noqa: S106
    base = BaseEncoder(HashedEncoder(4), SentenceTransformer(modules=[static], device="cpu"))
    whole_training.require_fitting(base, EncoderTraining())
    with pytest.raises(errors.ConfigurationError, match=r"^lora: 'hashed:4' has no transformer"):
        whole_training.require_fitting(base, EncoderTraining(lora=True))


def test_a_missing_extra_is_named() -> None:
    extra.require()
    with pytest.raises(errors.MissingExtra, match=r"\[train\]'. Not installed: no_such_library\.$"):
        extra.require("no_such_library")
