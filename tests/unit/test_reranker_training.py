"""A cross-encoder in training: how it begins, what it is trained with, and how it is measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from pg_semantic import errors, rerankers
from pg_semantic.encoders.local import backends
from pg_semantic.search import Diverse, Options
from pg_semantic.settings import Settings
from pg_semantic.training import RerankerTraining
from pg_semantic.training.epoch_measures import EpochMeasures
from pg_semantic.training.quiet_trainer import TrainingProgress
from pg_semantic.training.reranker import candidates, cross_trainer, fit, reranker_folder, starting_point
from pg_semantic.training.reranker.candidates import HeldOutHits
from pg_semantic.training.reranker.fit import RerankerSet
from pg_semantic.training.reranker.starting_point import StartingPoint
from pg_semantic.training.reranker.training_lists import TrainingList
from pg_semantic.training.time_limit import TimeLimit
from tests import cross_encoders, trainings
from tests.acceptance import architectures

PASSAGES = [" ".join(architectures.words(count, start=30 * count)) for count in range(1, 40, 4)]
SETTINGS = Settings(device="cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    folder = architectures.make("prompts", tmp_path_factory.mktemp("encoders"))
    return backends.open_whole(folder, reference="any", dimensions=None, device="cpu")


def scores(made: CrossEncoder, query: str = "a query") -> Any:
    return fit.reranker(made).score(query, PASSAGES)


def test_an_encoder_becomes_a_cross_encoder_that_stays_the_same_once_written(
    whole: SentenceTransformer, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    made = starting_point.with_new_head(whole, loss="bce", seed=3)
    reranker_folder.write(tmp_path / "new", made, record={"kind": "reranker"}, settings=SETTINGS)
    loaded = rerankers.load(str(tmp_path / "new"), settings=SETTINGS)
    np.testing.assert_allclose(loaded.score("a query", PASSAGES), scores(made), atol=1e-6)  # other batches
    again = CrossEncoder(str(tmp_path / "new"), device="cpu").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in made.state_dict().items())
    assert len(set(scores(made).tolist())) == len(PASSAGES)
    assert not np.array_equal(scores(made), scores(made, "another query"))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.state_dict().items())
    assert not list((tmp_path / "new").rglob("README.md"))


def test_the_seed_decides_the_new_head_and_the_loss_what_scores_are(whole: SentenceTransformer) -> None:
    first, same, other = (starting_point.with_new_head(whole, loss="bce", seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(scores(first), scores(same))
    assert not np.array_equal(scores(first), scores(other))
    assert fit.reranker(first).score_type == "probability"
    assert fit.reranker(starting_point.with_new_head(whole, loss="lambda", seed=0)).score_type == "logit"


def test_an_encoder_that_reads_no_two_texts_together_is_refused() -> None:
    from tokenizers import Tokenizer, models

    static = StaticEmbedding(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), embedding_dim=4)  # noqa: S106
    with pytest.raises(errors.EncoderError, match="has no transformer with pooling"):
        starting_point.with_new_head(SentenceTransformer(modules=[static], device="cpu"), loss="bce", seed=0)


def test_a_limit_of_tokens_is_kept_in_the_folder_and_cannot_be_raised(
    whole: SentenceTransformer, tmp_path: Path
) -> None:
    made = starting_point.with_new_head(whole, loss="bce", seed=0)
    starting_point.limit_tokens(made, 12)
    reranker_folder.write(tmp_path / "new", made, record={}, settings=SETTINGS)
    loaded = rerankers.load(str(tmp_path / "new"), settings=SETTINGS)
    long, longer = (" ".join(architectures.words(count)) for count in (30, 60))
    both = loaded.score("a query", [long, longer])
    assert both[0] == both[1]
    assert loaded.max_tokens == 12  # type: ignore[attr-defined]
    with pytest.raises(errors.ConfigurationError, match="these weights read at most 12 tokens"):
        starting_point.limit_tokens(made, 13)


LISTS = [
    TrainingList("one", ("yes",), ("no", "never", "not")),
    TrainingList("two", ("right", "true"), ("wrong", "false")),
]


def trainer(loss: Any, tmp_path: Path, **options: Any) -> Any:
    start = CrossEncoder(str(cross_encoders.save(tmp_path / "tiny")), device="cpu")
    return cross_trainer.trainer(
        StartingPoint(start, None, is_new=False, source={}),
        LISTS,
        RerankerTraining(loss=loss, **options),
        progress=TrainingProgress(lambda: None, lambda: True, is_due=lambda: False),
        scratch=tmp_path / "scratch",
    )


def test_answers_together_weigh_as_much_as_all_other_passages(tmp_path: Path) -> None:
    made = trainer("bce", tmp_path, batch=3)
    assert [tuple(row.values()) for row in made.train_dataset] == [
        ("one", "yes", 1.0),
        ("one", "no", 0.0),
        ("one", "never", 0.0),
        ("one", "not", 0.0),
        ("two", "right", 1.0),
        ("two", "true", 1.0),
        ("two", "wrong", 0.0),
        ("two", "false", 0.0),
    ]
    assert made.loss.pos_weight.item() == pytest.approx(5 / 3)
    assert len(cross_trainer.batches(LISTS, RerankerTraining(batch=3))) == 3


def test_lists_have_the_passages_of_a_query_and_a_step_has_about_as_many_pairs(tmp_path: Path) -> None:
    made = trainer("lambda", tmp_path, batch=8)
    assert [tuple(row.values()) for row in made.train_dataset] == [
        ("one", ["yes", "no", "never", "not"], [1, 0, 0, 0]),
        ("two", ["right", "true", "wrong", "false"], [1, 1, 0, 0]),
    ]
    assert made.args.per_device_train_batch_size == 2
    assert len(cross_trainer.batches(LISTS, RerankerTraining(loss="lambda", batch=4))) == 2


def test_the_trainer_writes_and_reports_nothing(tmp_path: Path) -> None:
    made, kept = trainer("bce", tmp_path, epochs=1), trainings.no_checkpoints()
    batches = cross_trainer.batches(LISTS, RerankerTraining())
    made.run(batches, halved=False, checkpoints=kept, measures=EpochMeasures())
    assert [file for file in (tmp_path / "scratch").rglob("*") if file.is_file()] == []
    assert not kept.folder.exists()
    assert made.args.report_to == []
    assert not any("Card" in type(one).__name__ for one in made.callback_handler.callbacks)


class Reverses:
    """A reranker that prefers what the first stage ranked last, or finds all equal."""

    reference, score_type = "reverses", "logit"

    def __init__(self, *, by: float) -> None:
        self.by = by

    def score(self, _: str, passages: list[str]) -> Any:
        return np.arange(len(passages), dtype=np.float32) * self.by


def test_the_same_hits_are_measured_before_and_after_and_equal_scores_keep_their_order() -> None:
    keys = tuple(str(number) for number in range(20))
    found = [
        HeldOutHits("first", {"0"}, keys, keys),
        HeldOutHits("last", {"19"}, keys, keys),
        HeldOutHits("second of two, one not found", {"1", "99"}, keys, keys),
        HeldOutHits("nothing found", {"7"}, (), ()),
    ]
    ideal = 1 + 1 / np.log2(3)
    assert candidates.first_stage(found).tolist() == pytest.approx([1, 0, 1 / np.log2(3) / ideal, 0])
    equal, reversed_ = (candidates.reranked(found, Reverses(by=by)) for by in (0, 1))  # type: ignore[arg-type]
    assert equal.tolist() == candidates.first_stage(found).tolist()
    assert reversed_.tolist() == pytest.approx([0, 1, 0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss='hinge' is unknown: use one of bce, lambda"),
        ({"mode": "both"}, "mode='both' is unknown"),
        ({"depth": 9}, "depth=9 must be 10 to 1000"),
        ({"depth": 1001}, "depth=1001 must be 10 to 1000"),
        ({"held_out": 0.6}, "held_out=0.6 must be above 0 and at most 0.5"),
        ({"epochs": 0}, "epochs=0 must be 1 or more"),
        ({"batch": 1}, "batch=1 must be 2 or more"),
        ({"max_tokens": 7}, "max_tokens=7 must be 8 or more"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be above 0"),
        ({"learning_rate": float("inf")}, "learning_rate=inf must be above 0, and finite"),
        ({"seconds": float("nan")}, "seconds=nan must be above 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"^{message}"):
        RerankerTraining(**options)


def test_a_first_stage_that_reorders_its_hits_itself_is_refused() -> None:
    with pytest.raises(errors.QueryError, match="can't rerank or diversify"):
        RerankerTraining(search=Options(diverse=Diverse()))


def test_memory_that_runs_out_is_a_message_that_says_what_to_change(tmp_path: Path) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError

    start = CrossEncoder(str(cross_encoders.save(tmp_path / "tiny")), device="cpu")
    start.register_forward_pre_hook(fails)
    keys = tuple(str(number) for number in range(10))
    data = RerankerSet(LISTS, [HeldOutHits(str(n), {"0"}, keys, keys) for n in range(4)], np.arange(4))
    with pytest.raises(errors.ConfigurationError, match="Memory ran out while training: choose a smaller batch"):
        fit.fit(
            data,
            StartingPoint(start, None, is_new=False, source={}),
            RerankerTraining(),
            halved=False,
            limit=TimeLimit(None),
            checkpoints=trainings.no_checkpoints(),
        )
