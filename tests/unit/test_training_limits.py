"""What training keeps to: the time, the memory of a container, the device that is named, and the share held out."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from pg_semantic import errors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.encoders.local import backends
from pg_semantic.rerankers import Scores, ScoreType
from pg_semantic.training import EncoderTraining, quiet_trainer
from pg_semantic.training.base_encoder import BaseEncoder
from pg_semantic.training.encoder import fit, memory, teacher
from pg_semantic.training.encoder import train as whole_training
from pg_semantic.training.encoder.plain_trainer import PlainArguments
from pg_semantic.training.query_side import folds
from pg_semantic.training.reranker.cross_trainer import CrossArguments
from pg_semantic.training.static_student.teacher_vectors import BLOCK, TeacherVectors
from pg_semantic.training.time_limit import TimeLimit
from tests import trainings
from tests.acceptance import architectures
from tests.unit import test_whole_encoder as whole_encoder


class Counting(SentenceTransformer):  # type: ignore[misc]  # its types are not followed
    """Remembers how many texts each step of training encodes at once, also in copies of it."""

    def __init__(self, sizes: list[int], **given: Any) -> None:
        super().__init__(**given)
        self.sizes = sizes

    def forward(self, *given: Any, **options: Any) -> Any:
        if self.training:
            self.sizes.append(len(given[0]["input_ids"]))
        return super().forward(*given, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Counting":
        return Counting(self.sizes, modules=copy.deepcopy(list(self), memo), prompts=self.prompts, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return architectures.make("prompts", tmp_path_factory.mktemp("encoders"))


@pytest.fixture
def counting(folder: Path) -> Counting:
    whole = backends.open_whole(folder, reference="any", dimensions=None, device="cpu")
    made = Counting([], modules=list(whole), prompts=whole.prompts, device="cpu")
    made.eval()
    return made


@pytest.mark.parametrize("loss", ["ranking", "gist"])
def test_an_epoch_trains_on_each_pair_of_a_query_with_many_answers(counting: Counting, loss: Any) -> None:
    options = dataclasses.replace(whole_encoder.PLAIN, loss=loss, negatives=0, epochs=2, batch=8)
    found = whole_encoder.found()
    few = [dataclasses.replace(one, query=whole_encoder.QUERIES[0], negatives=()) for one in found.all[:10]]
    some = dataclasses.replace(
        found, all=(*few, *(dataclasses.replace(one, negatives=()) for one in found.all[10:])), spare=()
    )
    prepared = whole_training.divided(some, dataclasses.replace(options, held_out=0.1))
    assert sum(one.query == whole_encoder.QUERIES[0] for one in prepared.examples) == 10
    fit.fit(prepared, counting, options, halved=False, limit=TimeLimit(None), checkpoints=trainings.no_checkpoints())
    assert sum(counting.sizes) == 2 * 2 * len(prepared.examples)
    assert max(counting.sizes) <= 8


def test_a_batch_of_scored_pairs_that_does_not_fit_into_memory_gets_smaller(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_total", lambda: 4_000_000)
    fits = memory.texts_at_once(counting, tokens=15)
    assert fits is not None
    assert fits < 32
    options = dataclasses.replace(whole_encoder.PLAIN, loss="cosent", epochs=1, batch=16)
    fit.fit(
        whole_encoder.data(options, scored=True),
        counting,
        options,
        halved=False,
        limit=TimeLimit(None),
        checkpoints=trainings.no_checkpoints(),
    )
    assert max(counting.sizes) == fits // 2


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowJudge:
    """A reranker that takes a second per query."""

    reference = "slow"
    score_type: ScoreType = "logit"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def score(self, query: str, passages: Sequence[str]) -> Scores:  # noqa: ARG002
        self._clock.now += 1
        return np.zeros(len(passages), np.float32)


class SlowEncoder:
    """An encoder that takes a second per text."""

    reference = "slow"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def encode_queries(self, texts: Sequence[str]) -> Any:
        self._clock.now += len(texts)
        return np.ones((len(texts), 4), np.float32)

    encode_documents = encode_queries


@pytest.mark.parametrize("kind", [SlowJudge, SlowEncoder])
def test_a_teacher_that_is_too_slow_is_stopped_early(kind: Any) -> None:
    prepared = whole_encoder.data(dataclasses.replace(whole_encoder.PLAIN, loss="teacher", negatives=2))
    count = len(prepared.examples)
    examples = list(prepared.examples) * (8 if kind is SlowEncoder else 1)
    examples = [dataclasses.replace(one, query=f"{one.query} {n}") for n, one in enumerate(examples)]
    clock = Clock()
    with pytest.raises(errors.ConfigurationError, match="too short: scoring with the teacher takes about"):
        teacher.scores(kind(clock), examples, prepared.texts, limit=TimeLimit(count / 2, clock=clock))
    assert clock.now <= (2 if kind is SlowJudge else 128)
    scored = teacher.scores(SlowJudge(clock), examples[:5], prepared.texts, limit=TimeLimit(60, clock=clock))
    assert len(scored) == 5


def test_the_message_says_which_texts_a_static_student_cannot_have_encoded_in_time() -> None:
    clock = Clock()
    encoder: Any = SlowEncoder(clock)
    teaching = TeacherVectors(encoder, TimeLimit(BLOCK + 1, clock=clock))
    with pytest.raises(errors.ConfigurationError, match="too short: encoding the held-out sentences takes about"):
        teaching.needed(["text"] * (3 * BLOCK), what="the held-out sentences")


def test_encoding_queries_ends_once_it_is_clear_that_the_time_is_too_short(counting: Counting) -> None:
    texts, clock = [f"query {number}" for number in range(5_000)], Clock()
    slow: Any = SlowEncoder(clock)
    with pytest.raises(errors.ConfigurationError, match="too short: encoding the queries takes about 4000 s"):
        BaseEncoder(slow, counting).encode_queries(texts, limit=TimeLimit(2_000, clock=clock))
    assert clock.now == 1_000
    base = BaseEncoder(HashedEncoder(4), counting)
    made = base.encode_queries(texts, limit=TimeLimit(None))
    np.testing.assert_array_equal(made, HashedEncoder(4).encode_queries(texts))
    assert base.encode_queries([], limit=TimeLimit(None)).shape == (0, 4)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "4096\n"}, 4096),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "9000\n"}, 9000),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "9000\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
            },
            9000,
        ),
        ({"proc/self/cgroup": "0::/docker/outside\n", "sys/fs/cgroup/memory.max": "512\n"}, 512),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/x\n2:memory:/docker/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "2048\n",
            },
            2048,
        ),
    ],
)
def test_the_limit_of_a_container_is_the_lowest_one_of_its_groups(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    assert memory.limit_of_group(write(tmp_path, files)) == limit


def test_the_memory_of_a_container_counts_if_it_is_less_than_that_of_the_machine(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_machine", lambda: 8_000_000)
    for limit, fits in ((None, 8_000_000), (4_000_000, 4_000_000), (2**63, 8_000_000)):
        monkeypatch.setattr(memory, "limit_of_group", lambda limit=limit: limit)
        expected = int(fits / 2 / (15 * 200 * architectures.WIDTH * counting[0].model.config.num_hidden_layers))
        assert memory.texts_at_once(counting, tokens=15) == expected


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What torch says on a machine with two GPUs. Nothing is computed on them."""
    from accelerate.state import AcceleratorState

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("kind", [PlainArguments, CrossArguments])
@pytest.mark.parametrize("name", ["cuda:1", "cuda:0", "cpu"])
@pytest.mark.usefixtures("two_gpus")
def test_training_takes_the_device_that_is_named_and_no_other(tmp_path: Path, name: str, kind: Any) -> None:
    from accelerate import Accelerator

    device = torch.device(name)
    made = quiet_trainer.arguments(kind, device, scratch=tmp_path, epochs=1, batch=2, learning_rate=1e-3, seed=0)
    assert made.device == device
    assert made.n_gpu <= 1
    assert Accelerator().device == device


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.34, 0.4, 0.5])
def test_the_share_that_is_held_out_is_exact_if_no_queries_are_connected(share: float) -> None:
    options = dataclasses.replace(whole_encoder.PLAIN, held_out=share, negatives=0)
    assert len(whole_training.divided(whole_encoder.found(), options).held_out.queries) == int(60 * share)


def test_connected_queries_are_held_out_together_as_near_to_the_share_as_they_allow() -> None:
    components = np.repeat([0, 1, 2, 3, 4], [40, 20, 20, 10, 10])
    for seed in range(10):
        held_out = folds.share_of(components, 0.4, seed=seed)
        assert all(len(set(held_out[components == one])) == 1 for one in range(5))
        assert held_out.sum() == 40
    assert {int(folds.share_of(components, 0.02, seed=seed).sum()) for seed in range(5)} == {10}
    with pytest.raises(errors.QueryError, match="Too few queries can be held out"):
        folds.share_of(np.zeros(60, np.int64), 0.2, seed=0)


def test_a_share_that_is_too_small_for_the_queries_is_refused_at_once() -> None:
    with pytest.raises(
        errors.QueryError, match=r"^60 queries can't be divided into 1000000000000 parts: hold out a la"
    ):
        folds.hold_out(np.arange(60), count=10**12, seed=0)
    with pytest.raises(errors.QueryError, match="Too few queries can be held out, because they are connected"):
        folds.hold_out(np.zeros(60, np.int64), count=5, seed=0)


def test_different_seeds_hold_out_different_queries() -> None:
    components = np.arange(100)
    assert (folds.share_of(components, 0.3, seed=0) == folds.share_of(components, 0.3, seed=0)).all()
    assert (folds.share_of(components, 0.3, seed=0) != folds.share_of(components, 0.3, seed=1)).any()


def test_a_batch_of_a_loss_with_scores_is_random() -> None:
    assert not EncoderTraining(loss="cosent").is_in_batch
    assert not EncoderTraining(loss="teacher").is_in_batch
