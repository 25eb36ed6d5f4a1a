"""TSDAE: an encoder that restores the texts of rows, and which encoders can."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from pg_semantic import errors
from pg_semantic.encoders.local import backends
from pg_semantic.training import EncoderTraining, folder
from pg_semantic.training.encoder import denoising, fit
from pg_semantic.training.encoder import train as whole_training
from pg_semantic.training.time_limit import TimeLimit
from tests import trainings
from tests.acceptance import architectures
from tests.unit import test_training_examples as training_examples
from tests.unit import test_whole_encoder as whole_encoder
from tests.unit.test_whole_encoder import QUERIES, ROWS

TSDAE = EncoderTraining(loss="tsdae", epochs=3, batch=16, learning_rate=1e-3, held_out=0.3)


def opened(name: str, root: Path) -> SentenceTransformer:
    return backends.open_whole(architectures.make(name, root), reference="any", dimensions=None, device="cpu")


def test_most_words_of_a_text_are_deleted_and_the_others_keep_their_order() -> None:
    texts = [" ".join(str(number) for number in range(100)), "one", ""]
    long, short, empty = denoising.damaged(texts, seed=0)
    left = [int(word) for word in long.split()]
    assert left == sorted(left)
    assert 25 <= len(left) <= 55
    assert (short, empty) == ("one", "")
    assert denoising.damaged(texts, seed=0) == [long, short, empty]
    assert denoising.damaged(texts, seed=1)[0] != long


def test_characters_are_deleted_from_texts_without_spaces() -> None:
    text = "猫が寝る。" * 40
    [left, mixed] = denoising.damaged([text, "Python 3.11 は速い" * 50], seed=0)
    assert 50 <= len(left) <= 110
    assert set(left) == set(text)
    assert {"Python", "3.11", "い"} <= set(mixed.replace("い", " い ").replace("は", " ").replace("速", " ").split())


def test_the_texts_of_rows_are_restored_without_those_that_are_held_out() -> None:
    prepared = whole_training.divided(training_examples.rows_and_queries(), TSDAE)
    assert prepared.restored is not None
    held_out = {ROWS[QUERIES.index(query)] for query in prepared.held_out.queries}
    assert len(held_out) == 18
    assert {text for _, text in prepared.restored} == set(ROWS) - held_out
    assert all(set(damaged.split()) < set(text.split()) for damaged, text in prepared.restored)
    assert prepared.count == 42


@pytest.mark.parametrize("name", ["bert", "prompts"])
def test_an_encoder_learns_to_restore_texts_and_is_written_without_its_decoder(tmp_path: Path, name: str) -> None:
    whole = opened(name, tmp_path)
    before = whole_encoder.state(whole)
    prepared = whole_training.divided(whole_encoder.found(), TSDAE)
    told = whole_encoder.Told(prepared.held_out.queries, *range(TSDAE.epochs + 1))
    prepared = dataclasses.replace(prepared, held_out=told)
    fitted = fit.fit(
        prepared, whole, TSDAE, halved=False, limit=TimeLimit(None), checkpoints=trainings.no_checkpoints()
    )
    assert whole_encoder.state(whole) == before
    whole_encoder.assert_both_changed(fitted.trained, whole)
    folder.write(tmp_path / "new", fitted.trained, record={})
    read = backends.open_whole(tmp_path / "new", reference="any", dimensions=None, device="cpu")
    np.testing.assert_allclose(read.encode_query(QUERIES), fitted.trained.encode_query(QUERIES), atol=1e-5)
    assert list(read.state_dict()) == list(whole.state_dict())


@pytest.mark.parametrize("name", ["dense", "router", "static"])
def test_an_encoder_that_has_no_decoder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.EncoderError, match="The loss tsdae needs an encoder of a single transformer"):
        denoising.require_decoder(opened(name, tmp_path))


def test_it_trains_whole_weights_and_vectors() -> None:
    for options in ({"lora": True}, {"matryoshka": (8,)}):
        with pytest.raises(errors.ConfigurationError, match="tsdae can't be combined"):
            EncoderTraining(loss="tsdae", **options)
