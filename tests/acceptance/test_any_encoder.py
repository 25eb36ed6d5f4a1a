"""Whatever the architecture and the back end: the vectors are those of sentence-transformers in 32 bits."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from pg_semantic import settings
from pg_semantic.encoders import self_check
from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.local import backends
from pg_semantic.encoders.local.torch import Halved
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.settings import Settings
from tests.acceptance import architectures

WORDS = architectures.words(2000)
COUNTS = (1, 5, 200, 3, 20, 80, 2, 60, 40, 7, 9, 30, 33, 12)
TEXTS = [" ".join(WORDS[100 * row : 100 * row + count]) for row, count in enumerate(COUNTS)]
LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.999}
LENGTHS_DIFFER = {"float32": 1e-4, "bfloat16": 0.02}
BACKENDS = [("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16")]

Load = Callable[..., TransformerEncoder]


@pytest.fixture(scope="module")
def load(made: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Loads an encoder on the CPU with one back end; what was converted is kept for the next."""
    cache = tmp_path_factory.mktemp("converted")

    @functools.cache
    def _load(name: str, backend: str = "torch", precision: str = "float32") -> TransformerEncoder:
        chosen = Settings(backend=backend, precision=precision, device="cpu", cache_folder=cache)
        dimensions = architectures.TRUNCATED.get(name)
        return backends.load(made(name), reference=name, dimensions=dimensions, settings=chosen)

    return _load


@pytest.fixture(scope="module")
def theirs(made: Callable[[str], Path]) -> Callable[[str], SentenceTransformer]:
    """The same encoder as sentence-transformers itself loads it."""
    return functools.cache(
        lambda name: SentenceTransformer(
            str(made(name)), device="cpu", truncate_dim=architectures.TRUNCATED.get(name), local_files_only=True
        )
    )


def _like(found: Vectors, expected: Vectors, precision: str) -> bool:
    lengths, wanted = np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(axis=1) / lengths / wanted
    return bool(
        cosines.min() >= LEAST_COSINE[precision] and np.abs(lengths / wanted - 1).max() <= LENGTHS_DIFFER[precision]
    )


def _backends(name: str) -> Iterator[tuple[str, str]]:
    """The back ends, with their precisions, that are fit for an encoder and for this CPU."""
    for backend, precision in BACKENDS:
        is_fit = precision != "bfloat16" or settings.allows_bfloat16()  # else oneDNN has no such product
        if is_fit and (name != "static" or (backend, precision) == ("torch", "float32")):
            yield backend, precision


def _cases() -> Iterator[tuple[str, str, str]]:
    for name in architectures.ENCODERS:
        for backend, precision in _backends(name):
            yield name, backend, precision


@pytest.mark.parametrize(("name", "backend", "precision"), list(_cases()))
def test_every_back_end_makes_the_vectors_of_sentence_transformers_whatever_the_batches(
    load: Load, theirs: Callable[[str], SentenceTransformer], name: str, backend: str, precision: str
) -> None:
    encoder = load(name, backend, precision)
    documents, queries = theirs(name).encode_document(TEXTS), theirs(name).encode_query(TEXTS)
    assert str(encoder.backend) == f"{backend} in {precision}"
    for budget in (1, 100, 100_000):
        encoder.budget.tokens, encoder.budget.is_tuned = budget, True
        assert _like(encoder.encode_documents(TEXTS), documents, precision)
        assert _like(encoder.encode_queries(TEXTS), queries, precision)


@pytest.mark.parametrize("name", architectures.ENCODERS)
def test_these_encoders_tell_texts_apart_so_that_a_wrong_vector_would_show(
    theirs: Callable[[str], SentenceTransformer], name: str
) -> None:
    vectors: Vectors = theirs(name).encode_document(TEXTS)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    others = (vectors @ vectors.T)[~np.eye(len(TEXTS), dtype=bool)]
    assert others.max() < min(LEAST_COSINE.values())


@pytest.mark.parametrize("name", architectures.ENCODERS)
def test_counted_before_or_not_in_any_order_a_text_gets_the_same_vector(load: Load, name: str) -> None:
    encoder = load(name)
    expected = dict(zip(TEXTS, encoder.encode_documents(TEXTS), strict=True))
    mixed = [TEXTS[place] for place in np.random.default_rng(0).permutation(len(TEXTS))]
    encoder.count_tokens(mixed[::2])
    found = encoder.encode_documents(mixed)
    assert _like(found, np.array([expected[text] for text in mixed]), "float32")


@pytest.mark.parametrize("name", architectures.ENCODERS)
def test_tokens_are_counted_as_the_encoder_reads_them(
    load: Load, theirs: Callable[[str], SentenceTransformer], name: str
) -> None:
    encoder = load(name)
    counts = np.array(encoder.count_tokens(TEXTS))
    assert np.minimum(counts, encoder.max_tokens).tolist() == _read(theirs(name), TEXTS).tolist()
    assert name == "static" or counts.max() > encoder.max_tokens


def _read(transformer: SentenceTransformer, texts: list[str]) -> NDArray[np.int64]:
    """How many tokens sentence-transformers reads of each document."""
    prompt = transformer.prompts.get("document") or None
    features = transformer.preprocess(texts, prompt=prompt, task="document")
    if "attention_mask" in features:
        return np.asarray(features["attention_mask"].sum(dim=1).numpy())
    ends = torch.cat([features["offsets"], torch.tensor([len(features["input_ids"])])])
    return np.asarray(ends.diff().numpy())


@pytest.mark.parametrize("name", architectures.ENCODERS)
def test_the_fingerprint_is_the_same_for_every_back_end(load: Load, name: str) -> None:
    found = {load(name, *backend).fingerprint for backend in _backends(name)}
    assert len(found) == 1


@pytest.mark.parametrize("name", architectures.ENCODERS)
def test_the_fastest_back_end_is_fit_for_every_architecture(
    load: Load, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    encoder = load(name, "auto", "auto")
    assert encoder.backend.name == ("torch" if name == "static" else "openvino")
    assert name == "static" or "is not used" not in caplog.text


def test_frequencies_of_rotary_positions_stay_in_32_bits(theirs: Callable[[str], SentenceTransformer]) -> None:
    halved = Halved(theirs("qwen")[0].model, "bfloat16")
    assert {buffer.dtype for name, buffer in halved.named_buffers() if "inv_freq" in name} == {torch.float32}
    assert {parameter.dtype for parameter in halved.parameters()} == {torch.bfloat16}


def test_a_table_of_words_has_nothing_for_another_back_end_to_compute(load: Load) -> None:
    assert load("static", "openvino").backend == backends.PLAIN


def test_the_texts_of_the_self_check_are_longer_than_these_encoders_read(load: Load) -> None:
    encoder = load("bert")
    assert max(encoder.count_tokens(self_check.TEXTS)) > encoder.max_tokens
