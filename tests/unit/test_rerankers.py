"""Cross-encoders as rerankers: which are loaded, and that their scores are those of sentence-transformers."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder

from pg_semantic import errors, rerankers
from pg_semantic.encoders.local.token_budget import TokenBudget
from pg_semantic.rerankers.cross_encoder import CrossEncoderReranker
from pg_semantic.settings import Settings
from tests import cross_encoders

TEXTS = st.lists(st.sampled_from(cross_encoders.WORDS), max_size=120).map(" ".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross_encoders.save(tmp_path_factory.mktemp("cross_encoder") / "probability")


@pytest.fixture(scope="module")
def reference(folder: Path) -> CrossEncoder:
    return CrossEncoder(str(folder), device="cpu", local_files_only=True)


@pytest.fixture(scope="module")
def reranker(reference: CrossEncoder) -> CrossEncoderReranker:
    return CrossEncoderReranker(reference, reference="tiny", budget=TokenBudget(200))


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """A cross-encoder whose files a test may change."""
    return cross_encoders.save(tmp_path / "own")


def predicted(reference: CrossEncoder, query: str, passages: list[str]) -> list[float]:
    """What sentence-transformers makes of each pair alone."""
    return [float(reference.predict((query, passage), show_progress_bar=False)) for passage in passages]


@settings(max_examples=20)
@given(query=TEXTS, passages=st.lists(TEXTS, max_size=8))
def test_scores_are_those_of_sentence_transformers_whatever_the_order_and_the_batch(
    reference: CrossEncoder, reranker: CrossEncoderReranker, query: str, passages: list[str]
) -> None:
    scores = reranker.score(query, passages)
    assert (scores.dtype.name, scores.shape) == ("float32", (len(passages),))
    np.testing.assert_allclose(scores, predicted(reference, query, passages), rtol=0, atol=1e-5)
    backwards = reranker.score(query, passages[::-1])
    np.testing.assert_allclose(backwards[::-1], scores, rtol=0, atol=1e-5)


def test_different_passages_get_different_scores(reranker: CrossEncoderReranker) -> None:
    assert len({round(float(score), 4) for score in reranker.score("harbour", cross_encoders.WORDS)}) == 10


def test_of_a_pair_longer_than_can_be_read_the_end_is_not_read(reranker: CrossEncoderReranker) -> None:
    long = " ".join(cross_encoders.WORDS * 20)
    whole, longer, both = (*reranker.score("harbour", [long, f"{long} violin"]), *reranker.score(long, [long]))
    assert whole == pytest.approx(longer, abs=1e-6)
    assert 0 < both < 1


def test_many_threads_get_the_scores_of_their_own_query(
    reference: CrossEncoder, reranker: CrossEncoderReranker
) -> None:
    passages = [" ".join(cross_encoders.WORDS[:number]) for number in range(1, 4)]
    queries = [f"{one} {another}" for one in cross_encoders.WORDS for another in cross_encoders.WORDS[:2]]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda query: reranker.score(query, passages), queries))
    for query, scores in zip(queries, made, strict=True):
        np.testing.assert_allclose(scores, predicted(reference, query, passages), rtol=0, atol=1e-5)


def test_threads_take_turns_with_the_cross_encoder(
    reference: CrossEncoder, reranker: CrossEncoderReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = threading.Lock()

    def predict(pairs: list[tuple[str, str]], **_: object) -> list[float]:
        assert inside.acquire(blocking=False)
        threading.Event().wait(0.001)  # lets others in, if they can
        inside.release()
        return [0.5] * len(pairs)

    monkeypatch.setattr(reference, "predict", predict)
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda query: reranker.score(query, ["candle"]), cross_encoders.WORDS * 4))
    assert [scores.tolist() for scores in made] == [[0.5]] * 40


def test_a_folder_is_loaded_by_its_name_or_by_one_from_the_settings(
    folder: Path, reranker: CrossEncoderReranker
) -> None:
    expected = reranker.score("harbour", cross_encoders.WORDS)
    for name, known in ((str(folder), None), ("org/name", Settings(encoder_paths={"org/name": str(folder)}))):
        loaded = rerankers.load(name, settings=known)
        assert (loaded.reference, loaded.score_type) == (name, "probability")
        np.testing.assert_allclose(loaded.score("harbour", cross_encoders.WORDS), expected, atol=1e-5)


def test_a_cross_encoder_without_a_sigmoid_makes_logits(tmp_path: Path, reranker: CrossEncoderReranker) -> None:
    logits = rerankers.load(str(cross_encoders.save(tmp_path / "logit", activation=torch.nn.Identity())))
    assert logits.score_type == "logit"
    scores = logits.score("harbour", cross_encoders.WORDS)
    assert scores.min() < 0
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), reranker.score("harbour", cross_encoders.WORDS), atol=1e-5)


def test_a_cross_encoder_as_older_releases_saved_it_is_loaded(own_folder: Path) -> None:
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (own_folder / name).unlink()
    config = json.loads((own_folder / "config.json").read_text())
    config["sbert_ce_default_activation_function"] = "torch.nn.modules.linear.Identity"
    (own_folder / "config.json").write_text(json.dumps(config))
    assert rerankers.load(str(own_folder)).score_type == "logit"


def test_an_activation_that_makes_neither_probabilities_nor_logits_is_refused(tmp_path: Path) -> None:
    folder = cross_encoders.save(tmp_path / "tanh", activation=torch.nn.Tanh())
    with pytest.raises(errors.EncoderError, match=r"Tanh.*neither"):
        rerankers.load(str(folder))


def test_a_cross_encoder_of_two_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.EncoderError, match="returns 2 scores per pair, as a classifier"):
        rerankers.load(str(cross_encoders.save(tmp_path / "two", labels=2)))


def test_weights_in_a_pickle_are_not_loaded(own_folder: Path) -> None:
    torch.save(load_file(own_folder / "model.safetensors"), own_folder / "pytorch_model.bin")
    (own_folder / "model.safetensors").unlink()
    with pytest.raises(errors.EncoderError, match="no safetensors weights; other formats are not loaded"):
        rerankers.load(str(own_folder))


def test_weights_in_a_pickle_are_not_loaded_beside_other_safetensors(own_folder: Path) -> None:
    torch.save(load_file(own_folder / "model.safetensors"), own_folder / "pytorch_model.bin")
    (own_folder / "model.safetensors").rename(own_folder / "another.safetensors")
    with pytest.raises(errors.EncoderError, match="cannot be loaded"):
        rerankers.load(str(own_folder))


def test_an_encoder_is_refused_as_it_would_score_at_random(own_folder: Path) -> None:
    about = own_folder / "config_sentence_transformers.json"
    about.write_text(about.read_text().replace("CrossEncoder", "SentenceTransformer"))
    with pytest.raises(errors.EncoderError, match="not those of a cross-encoder"):
        rerankers.load(str(own_folder))


def test_weights_that_make_no_numbers_are_refused(own_folder: Path) -> None:
    weights = load_file(own_folder / "model.safetensors")
    weights["classifier.bias"][:] = torch.nan
    save_file(weights, own_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(errors.EncoderError, match="not a finite number"):
        rerankers.load(str(own_folder))


def test_damaged_files_are_an_error_that_names_the_reranker(own_folder: Path) -> None:
    (own_folder / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(errors.EncoderError, match=r"Reranker '.*own' cannot be loaded"):
        rerankers.load(str(own_folder))


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(errors.EncoderError, match=r"Reranker '.*': .*absent is not a folder"):
        rerankers.load(str(tmp_path / "absent"))


@pytest.mark.parametrize("name", ["nobody/nothing", "nobody/nothing@main"])
def test_a_hub_name_that_is_nowhere_is_refused_with_how_to_give_a_folder(name: str) -> None:
    with pytest.raises(errors.EncoderError, match=r"Reranker '.*PG_SEMANTIC_ENCODER_PATHS"):
        rerankers.load(name)


def test_without_the_encode_extra_it_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(errors.MissingExtra, match=r"Reranker '.*: pip install 'pg-semantic-index\[encode\]'"):
        rerankers.load(str(folder))
