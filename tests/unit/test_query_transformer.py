"""A query encoder in training: it learns, and the encoder that it started from stays as it is."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from pg_semantic import errors
from pg_semantic.encoders.local import backends
from pg_semantic.training import Pair, QueryTraining
from pg_semantic.training.query_side import fit_encoder, folds, training_queries
from pg_semantic.training.query_side.fit import Fit, TrainingSet
from pg_semantic.training.query_side.query_transformer import QueryTransformer
from pg_semantic.training.query_side.stored_vectors import StoredVectors
from pg_semantic.training.time_limit import TimeLimit
from tests.acceptance import architectures

COUNT = 60
ROWS = [" ".join(architectures.words(12, start=17 * number)) for number in range(COUNT)]
QUERIES = [" ".join(row.split()[3:7]) for row in ROWS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    folder = architectures.make("prompts", tmp_path_factory.mktemp("encoders"))
    return backends.open_whole(folder, reference="any", dimensions=None, device="cpu")


@pytest.fixture(scope="module")
def data(whole: SentenceTransformer) -> TrainingSet:
    vectors = whole.encode_document(ROWS, normalize_embeddings=True)
    stored = StoredVectors(tuple(f"{n:03}" for n in range(COUNT)), np.arange(COUNT), vectors)
    queries = training_queries.of([Pair(text, f"{n:03}") for n, text in enumerate(QUERIES)], stored)
    fold = folds.divide(folds.component_numbers(queries), count=5, seed=0)
    return TrainingSet(queries, whole.encode_query(QUERIES), fold, fold)


def fit(data: TrainingSet, whole: SentenceTransformer) -> Fit:
    torch.manual_seed(0)
    recipe = dataclasses.replace(QueryTraining(kind="encoder", epochs=4).recipe, learning_rate=3e-4)
    return fit_encoder.fit_encoder(data, recipe, whole=whole, limit=TimeLimit(None))


def state(encoder: SentenceTransformer) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in encoder.state_dict().values())


def test_before_training_queries_have_the_vectors_of_the_encoder_with_its_prompt(whole: SentenceTransformer) -> None:
    side = QueryTransformer(whole, QUERIES, dimensions=16)
    expected = whole.encode_query(QUERIES)[:, :16]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(side.vectors(range(COUNT)), expected, atol=1e-5)


def test_training_that_diverges_is_an_error_and_no_gain(data: TrainingSet, whole: SentenceTransformer) -> None:
    recipe = QueryTraining(kind="encoder", epochs=2, learning_rate=1e30).recipe
    with pytest.raises(errors.EncoderError, match="Lower the learning rate"):
        fit_encoder.fit_encoder(data, recipe, whole=whole, limit=TimeLimit(None))


def test_it_learns_and_leaves_the_encoder_as_it_was(data: TrainingSet, whole: SentenceTransformer) -> None:
    before = state(whole)
    fitted = fit(data, whole)
    was, now = fitted.trained_on
    assert now.mean() > was.mean() + 0.05
    assert state(whole) == before
    assert len(fitted.held_out[0]) == len(data.inside(0))
    assert len(was) == len(data.outside(0))


def test_the_same_seed_gives_the_same_weights(data: TrainingSet, whole: SentenceTransformer) -> None:
    first, again = fit(data, whole).trained, fit(data, whole).trained
    assert state(first) == state(again)


def test_the_weights_are_those_after_the_chosen_epoch(data: TrainingSet, whole: SentenceTransformer) -> None:
    fitted = fit(data, whole)
    side = QueryTransformer(fitted.trained, QUERIES, dimensions=data.vectors.shape[1])
    found = data.ndcg(data.outside(0), side.vectors(data.outside(0)))
    np.testing.assert_allclose(found, fitted.trained_on[1])
    assert 1 <= fitted.epochs <= 4


def test_memory_that_runs_out_is_a_message_that_says_what_to_change(
    data: TrainingSet, whole: SentenceTransformer
) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError

    small = copy.deepcopy(whole)
    small[0].register_forward_pre_hook(fails)
    with pytest.raises(errors.ConfigurationError, match="Memory ran out while training: train a map"):
        fit(data, small)
