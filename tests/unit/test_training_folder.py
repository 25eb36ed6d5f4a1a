"""The folder of a trained encoder: documents as before, queries as trained, and no text, pickle or card in it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from pg_semantic import errors
from pg_semantic.encoders.local import backends
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.settings import Settings
from pg_semantic.training import base_encoder, folder
from tests.acceptance import architectures

RECORD = {"side": "queries"}
TEXTS = [" ".join(architectures.words(count, start=30 * count)) for count in range(1, 20)]
TORCH, FASTEST = Settings(backend="torch", precision="float32", device="cpu"), Settings(device="cpu")


def opened(place: Path, dimensions: int | None = None) -> SentenceTransformer:
    return backends.open_whole(place, reference="any", dimensions=dimensions, device="cpu")


def load(place: Path, *, settings: Settings = TORCH, dimensions: int | None = None) -> TransformerEncoder:
    return backends.load(place, reference="any", dimensions=dimensions, settings=settings)


def turned(width: int, seed: int = 0) -> NDArray[np.float32]:
    change = 0.1 * np.random.default_rng(seed).normal(size=(width, width))
    return (np.eye(width) + change).astype(np.float32)


def retrained(whole: SentenceTransformer) -> SentenceTransformer:
    """The encoder with other weights, as after training."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in whole.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return whole


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


KINDS = ("map", "encoder")


def write(kind: str, place: Path, out: Path) -> Path:
    whole = opened(place)
    mapped = folder.with_map(whole, turned(int(whole.get_embedding_dimension())))
    made = mapped if kind == "map" else folder.with_query_encoder(whole, retrained(opened(place)))
    folder.write(out, made, base=whole, record=RECORD)
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("encoders")
    return lambda name: root / name if (root / name).exists() else architectures.make(name, root)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bert", "mpnet", "dense", "prompts", "router", "half_static", "static"])
def test_documents_have_the_vectors_of_the_base_to_the_last_bit_and_queries_others(
    made: Callable[[str], Path], tmp_path: Path, name: str, kind: str
) -> None:
    base, trained = load(made(name)), load(write(kind, made(name), tmp_path / "new"))
    assert trained.encode_documents(TEXTS).tobytes() == base.encode_documents(TEXTS).tobytes()
    assert not np.allclose(unit(trained.encode_queries(TEXTS)), unit(base.encode_queries(TEXTS)), atol=1e-2)
    assert trained.document_fingerprint == base.document_fingerprint
    assert trained.fingerprint != base.fingerprint
    assert (trained.dimensions, trained.max_tokens) == (base.dimensions, base.max_tokens)
    assert (trained.query_prompt, trained.document_prompt) == (base.query_prompt, base.document_prompt)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fastest_back_end_also_has_the_vectors_of_the_base(
    made: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    base, trained = (
        load(place, settings=FASTEST) for place in (made("mpnet"), write(kind, made("mpnet"), tmp_path / "new"))
    )
    assert trained.backend == base.backend
    assert trained.encode_documents(TEXTS).tobytes() == base.encode_documents(TEXTS).tobytes()


@pytest.mark.parametrize("name", ["bert", "mpnet", "dense", "router"])
def test_a_query_is_mapped_by_the_matrix(made: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    base = load(made(name))
    trained = load(write("map", made(name), tmp_path / "new"))
    expected = unit(base.encode_queries(TEXTS) @ turned(base.dimensions).T)
    np.testing.assert_allclose(unit(trained.encode_queries(TEXTS)), expected, atol=1e-5)


def test_a_map_of_truncated_vectors_leaves_the_other_dimensions(made: Callable[[str], Path], tmp_path: Path) -> None:
    whole = opened(made("matryoshka"), 16)
    folder.write(tmp_path / "new", folder.with_map(whole, turned(16)), base=whole, record=RECORD)
    base, trained = load(made("matryoshka"), dimensions=16), load(tmp_path / "new")
    assert trained.dimensions == 16
    assert trained.encode_documents(TEXTS).tobytes() == base.encode_documents(TEXTS).tobytes()
    expected = unit(base.encode_queries(TEXTS) @ turned(16).T)
    np.testing.assert_allclose(unit(trained.encode_queries(TEXTS)), expected, atol=1e-5)


def test_a_trained_encoder_can_be_trained_again(made: Callable[[str], Path], tmp_path: Path) -> None:
    first = write("map", made("mpnet"), tmp_path / "first")
    base = load(first)
    for kind in KINDS:
        again = load(write(kind, first, tmp_path / kind))
        assert again.encode_documents(TEXTS).tobytes() == base.encode_documents(TEXTS).tobytes()
    mapped = load(tmp_path / "map").encode_queries(TEXTS)
    expected = unit(base.encode_queries(TEXTS) @ turned(base.dimensions).T)
    np.testing.assert_allclose(unit(mapped), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_has_float32_safetensors_and_a_record_but_no_card_and_no_pickle(
    made: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    out = write(kind, made("mpnet"), tmp_path / "new")
    files = [file for file in out.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".txt", ".model"}
    tensors = [one for file in out.rglob("*.safetensors") for one in load_file(file).values()]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float32}
    assert json.loads((out / "training.json").read_text()) == RECORD
    assert not any(str(tmp_path).encode() in file.read_bytes() for file in files)


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "new"
    out.mkdir()
    folder.require_free(out)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(errors.ConfigurationError, match="is not empty"):
        folder.require_free(out)
    with pytest.raises(errors.ConfigurationError, match="is not empty"):
        folder.require_free(out / "mine.txt")
    with pytest.raises(errors.ConfigurationError, match="cannot be created"):
        folder.require_free(out / "mine.txt" / "new")
    assert [file.name for file in out.iterdir()] == ["mine.txt"]


def test_a_disk_without_space_for_the_weights_is_refused(
    made: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = opened(made("bert"))
    size = sum(tensor.numel() * 4 for tensor in whole.state_dict().values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size + 1000))
    folder.require_space(tmp_path / "no" / "such" / "folder", whole)
    with pytest.raises(errors.ConfigurationError, match=rf"the disk of {tmp_path} has only .* MB of free space"):
        folder.require_space(tmp_path / "no" / "such" / "folder", whole, copies=2)


class Interrupted(SentenceTransformer):  # type: ignore[misc]  # its types are not followed
    """An encoder during whose saving a person presses Ctrl-C."""

    def save(self, path: str, *given: Any, **options: Any) -> None:
        super().save(path, *given, **options)
        raise KeyboardInterrupt


def test_an_interruption_leaves_nothing_behind(made: Callable[[str], Path], tmp_path: Path) -> None:
    whole = opened(made("bert"))
    with pytest.raises(KeyboardInterrupt):
        folder.write(tmp_path / "new", Interrupted(modules=list(whole), device="cpu"), base=whole, record=RECORD)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_reads_back_with_other_documents_is_not_written(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(errors.EncoderError, match="other vectors"):
        folder.write(tmp_path / "new", retrained(opened(made("bert"))), base=opened(made("bert")), record=RECORD)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_filled_meanwhile_is_not_overwritten(made: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "new"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(errors.ConfigurationError, match="cannot be written"):
        write("map", made("bert"), out)
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
    assert [file.name for file in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    "error", [SafetensorError("No space left on device (os error 28)"), OSError("No space left on device")]
)
def test_a_full_disk_is_a_message_that_says_why(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(errors.ConfigurationError, match=r"cannot be written to .* \(No space left on device"),
        folder.new(tmp_path / "new", what="encoder"),
    ):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_training_goes_back_to_the_first_encoder_and_refuses_damaged_records(tmp_path: Path) -> None:
    first = architectures.make("bert", tmp_path)
    second, third = (shutil.copytree(first, tmp_path / name) for name in ("second", "third"))
    for trained, base in ((second, first), (third, second)):
        record = {"side": "queries", "base": {"reference": str(base)}}
        (trained / "training.json").write_text(json.dumps(record), "utf-8")
    assert base_encoder.original(str(third), TORCH) == str(first)
    for damaged in ("{", "[]", '{"side": "queries"}'):
        (second / "training.json").write_text(damaged, "utf-8")
        with pytest.raises(errors.EncoderError, match="isn't a record of a training"):
            base_encoder.original(str(third), TORCH)
