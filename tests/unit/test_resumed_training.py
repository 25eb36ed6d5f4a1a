"""A training that was stopped, by whatever, is resumed from its last checkpoint and gives the same encoder."""

import dataclasses
import errno
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from sentence_transformers import SentenceTransformer

from pg_semantic import errors
from pg_semantic.training import EncoderTraining
from pg_semantic.training.checkpoints import Checkpoints
from pg_semantic.training.encoder import fit
from pg_semantic.training.encoder.fit import WholeFit, WholeSet
from pg_semantic.training.shuffled_batches import ShuffledBatches
from pg_semantic.training.time_limit import TimeLimit
from tests.acceptance import architectures
from tests.unit.test_whole_encoder import PLAIN, QUERIES, ROWS, Small, data, opened, state

pytestmark = pytest.mark.slow

NEVER = float("inf")
TRAINING = {"pairs": "some"}


class InterruptedTrainingError(Exception):
    """What stops a training."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SentenceTransformer]:
    root = tmp_path_factory.mktemp("encoders")
    return lambda name: opened(root / name if (root / name).exists() else architectures.make(name, root))


def checkpoints(out: Path, *, resume: bool = False, seconds: float = 0.0) -> Checkpoints:
    """Checkpoints after each step but the last one of an epoch, which cost no time."""
    opened = Checkpoints(out, seconds=seconds, resume=resume, clock=lambda: 0.0)
    opened.begin(TRAINING)
    return opened


def train(
    prepared: WholeSet,
    whole: SentenceTransformer,
    options: EncoderTraining,
    kept: Checkpoints,
    *,
    stop_at: int | None = None,
) -> tuple[WholeFit, list[int]]:
    """Returns what was trained, and the numbers of the steps."""
    steps: list[int] = []

    def on_step(done: int, _: int) -> None:
        steps.append(done)
        if done == stop_at:
            raise InterruptedTrainingError

    limit = TimeLimit(None)
    return fit.fit(prepared, whole, options, halved=False, limit=limit, checkpoints=kept, on_step=on_step), steps


KINDS = [
    (PLAIN, "prompts", 3),
    (PLAIN, "prompts", 6),
    (PLAIN, "prompts", 9),
    (dataclasses.replace(PLAIN, lora=True), "bert", 6),
    (dataclasses.replace(PLAIN, loss="gist"), "bert", 6),
    (dataclasses.replace(PLAIN, loss="cosent"), "prompts", 3),
    (dataclasses.replace(PLAIN, loss="tsdae"), "bert", 9),
]


@pytest.mark.parametrize(("options", "name", "stop_at"), KINDS, ids=lambda one: getattr(one, "loss", None))
def test_a_resumed_training_gives_what_it_would_have_given(
    made: Callable[[str], SentenceTransformer],
    tmp_path: Path,
    options: EncoderTraining,
    name: str,
    stop_at: int,
) -> None:
    options = dataclasses.replace(options, epochs=3)
    prepared = data(options, scored=options.is_scored)
    expected, all_steps = train(prepared, made(name), options, checkpoints(tmp_path / "whole", seconds=NEVER))
    with pytest.raises(InterruptedTrainingError):
        train(prepared, made(name), options, checkpoints(tmp_path / "out"), stop_at=stop_at)
    resumed, steps = train(prepared, made(name), options, checkpoints(tmp_path / "out", resume=True))
    assert steps == all_steps[stop_at - 1 :]
    assert state(resumed.trained) == state(expected.trained)
    assert resumed.epochs == expected.epochs
    for ours, theirs in zip(resumed.held_out, expected.held_out, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_has_no_text_of_a_query_or_a_row(
    made: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    with pytest.raises(InterruptedTrainingError):
        train(data(PLAIN), made("prompts"), PLAIN, checkpoints(tmp_path / "out"), stop_at=6)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"weights.safetensors", "epochs.safetensors", "optimizer.pt", "plan.json"} <= {file.name for file in files}
    contents = b"".join(file.read_bytes() for file in files)
    assert not any(text.encode() in contents for text in (*QUERIES, *ROWS))


def test_a_checkpoint_has_no_weights_that_are_not_trained(
    made: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    options, whole = dataclasses.replace(PLAIN, loss="gist", lora=True), made("bert")
    with pytest.raises(InterruptedTrainingError):
        train(data(options), whole, options, checkpoints(tmp_path / "out"), stop_at=3)
    [file] = tmp_path.rglob("weights.safetensors")
    size = sum(parameter.nbytes for parameter in whole.parameters())
    assert 0 < file.stat().st_size < size
    names = set(safetensors.torch.load_file(file))
    assert names
    assert all("lora" in name for name in names)


def test_a_batch_that_did_not_fit_is_not_tried_again(
    made: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    whole = made("prompts")
    small = Small(modules=list(whole), prompts=whole.prompts, device="cpu").eval()
    expected, _ = train(data(PLAIN), small, PLAIN, checkpoints(tmp_path / "whole", seconds=NEVER))
    with pytest.raises(InterruptedTrainingError):
        train(data(PLAIN), small, PLAIN, checkpoints(tmp_path / "out"), stop_at=6)
    kept = checkpoints(tmp_path / "out", resume=True)
    assert kept.plan["mini_batch"] <= 4
    resumed, steps = train(data(PLAIN), small, PLAIN, kept)
    assert steps[0] > 1
    assert state(resumed.trained) == state(expected.trained)


def test_a_checkpoint_is_written_although_the_folder_of_the_result_has_no_parent_yet(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path / "encoders" / "new")
    kept.write(lambda: kept.write_plan(kept.folder))
    assert json.loads((kept.folder / "plan.json").read_text()) == {"training": TRAINING}
    assert kept.folder.stat().st_mode & 0o077 == 0


def cut_off(file: Path) -> None:
    """What a crash may leave of a file."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [cut_off, Path.unlink])
@pytest.mark.parametrize(
    "name", ["weights.safetensors", "epochs.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"]
)
def test_a_checkpoint_with_a_damaged_or_missing_file_is_refused(
    made: Callable[[str], SentenceTransformer], tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    with pytest.raises(InterruptedTrainingError):
        train(data(PLAIN), made("prompts"), PLAIN, checkpoints(tmp_path / "out"), stop_at=3)
    kept = checkpoints(tmp_path / "out", resume=True)
    [file] = kept.folder.rglob(name)
    damage(file)
    with pytest.raises(errors.ConfigurationError, match=f"can't be read: remove {kept.folder} to begin again"):
        train(data(PLAIN), made("prompts"), PLAIN, kept)


def test_training_goes_on_if_no_checkpoint_can_be_written(
    made: Callable[[str], SentenceTransformer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = checkpoints(tmp_path / "out")
    kept.folder.write_text("a file is in the way")
    options = dataclasses.replace(PLAIN, epochs=1)
    fitted, _ = train(data(options), made("prompts"), options, kept)
    assert fitted.epochs == 1
    assert "No checkpoint was written" in caplog.text


def test_a_checkpoint_that_does_not_fit_on_the_disk_leaves_its_space_and_the_one_before(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "out")
    kept = checkpoints(tmp_path / "out", resume=True)

    def write() -> None:
        (folder / "checkpoint-6").mkdir()
        for file in ("weights.safetensors", "trainer_state.json"):  # cut off, so it must not count as complete
            (folder / "checkpoint-6" / file).write_text("")
        raise OSError(errno.ENOSPC, "No space left on device")

    kept.write(write)
    assert kept.latest == folder / "checkpoint-3"
    assert not (folder / "checkpoint-6").exists()


def stopped(out: Path) -> Path:
    """Writes what a complete checkpoint of another training begins with, and one that was being written."""
    folder = Checkpoints(out, seconds=0, resume=False).folder
    for number, file in ((3, "trainer_state.json"), (12, "optimizer.pt")):
        (folder / f"checkpoint-{number}").mkdir(parents=True)
        (folder / f"checkpoint-{number}" / file).write_text("{}")
    (folder / "checkpoint-3" / "plan.json").write_text(json.dumps({"training": TRAINING}))
    return folder


def test_the_last_complete_checkpoint_counts(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "out")
    kept = checkpoints(tmp_path / "out", resume=True)
    assert (kept.latest, kept.steps) == (folder / "checkpoint-3", 3)
    shutil.copytree(folder / "checkpoint-3", folder / "checkpoint-3 (copy)")
    assert checkpoints(tmp_path / "out", resume=True).steps == 3


def test_a_stopped_training_is_not_begun_again_unasked(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "out")
    with pytest.raises(errors.ConfigurationError, match=f"was stopped before its end: resume it, or remove {folder}"):
        checkpoints(tmp_path / "out")
    assert checkpoints(tmp_path / "other").latest is None


def test_another_training_is_not_taken_for_the_one_that_was_stopped(tmp_path: Path) -> None:
    stopped(tmp_path / "out")
    with pytest.raises(errors.ConfigurationError, match="had other pairs and versions: pass the same, or remove"):
        Checkpoints(tmp_path / "out", seconds=0, resume=True).begin({"pairs": "others", "versions": {"torch": "9"}})


def test_a_training_whose_texts_make_more_batches_now_is_not_resumed(
    made: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    prepared = data(PLAIN)
    with pytest.raises(InterruptedTrainingError):
        train(prepared, made("prompts"), PLAIN, checkpoints(tmp_path / "out"), stop_at=3)
    same = {one.positive: ROWS[0] for one in prepared.examples[:9]}
    changed = dataclasses.replace(prepared, texts={**prepared.texts, **same})
    kept = checkpoints(tmp_path / "out", resume=True)
    with pytest.raises(errors.ConfigurationError, match=r"an epoch has \d+ steps instead of 3: remove"):
        train(changed, made("prompts"), PLAIN, kept)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "out")
    (folder / "checkpoint-3" / "plan.json").write_text("{")
    with pytest.raises(errors.ConfigurationError, match=f"can't be read: remove {folder} to begin again"):
        checkpoints(tmp_path / "out", resume=True)


def test_writing_takes_a_twentieth_of_the_time_at_most(tmp_path: Path) -> None:
    now = 0.0

    def slow() -> None:
        nonlocal now
        now += 60

    kept = Checkpoints(tmp_path / "out", seconds=600, resume=False, clock=lambda: now)
    assert not kept.is_due()
    now = 600
    assert kept.is_due()
    kept.write(slow)
    now += 1199
    assert not kept.is_due()
    now += 1
    assert kept.is_due()


def test_each_example_is_in_one_batch_of_an_epoch_and_the_order_depends_on_seed_and_epoch() -> None:
    made = ShuffledBatches(10, size=4, seed=0)
    first: Any = made.epoch(0)
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert len(made) == 3
    assert sorted(itertools.chain(*first)) == list(range(10))
    assert first == ShuffledBatches(10, size=4, seed=0).epoch(0)
    assert first != made.epoch(1)
    assert first != ShuffledBatches(10, size=4, seed=1).epoch(0)
