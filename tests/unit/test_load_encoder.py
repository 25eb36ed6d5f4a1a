import sys
from pathlib import Path

import pytest

from pg_semantic import encoders, errors
from pg_semantic.encoders.local import weights as local
from pg_semantic.settings import Settings


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("PG_SEMANTIC_ENCODER_PATHS", raising=False)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder that looks like an encoder's."""
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_a_hashed_encoder_needs_no_weights() -> None:
    encoder = encoders.load("hashed:64", dimensions=64)
    assert (encoder.reference, encoder.dimensions) == ("hashed:64", 64)


@pytest.mark.parametrize("reference", ["hashed:x", "hashed:", "hashed:0", "hashed:-8", "hashed:12345"])
def test_a_hashed_encoder_of_no_dimensions_is_refused_with_an_example(reference: str) -> None:
    with pytest.raises(errors.EncoderError, match="as hashed:64"):
        encoders.load(reference)


def test_other_dimensions_than_declared_are_a_mismatch_that_says_what_to_declare() -> None:
    with pytest.raises(errors.EncoderMismatch, match="declare the index with dimensions=64"):
        encoders.load("hashed:64", dimensions=32)


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(errors.EncoderError, match=r"absent is not a folder with modules\.json"):
        encoders.load(str(tmp_path / "absent"))


def test_a_folder_from_the_settings_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    settings = Settings(encoder_paths={"org/name": str(tmp_path / "absent")})
    with pytest.raises(errors.EncoderError, match=r"'org/name': .*absent is not a folder"):
        encoders.load("org/name", settings=settings)


def test_a_folder_has_an_absolute_path_wherever_a_process_is_started_and_other_names_stay(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(weights.parent)
    kept = {"org/name": "/elsewhere", weights.name: "/elsewhere"}
    for given in (weights.name, f"./{weights.name}", f"../{weights.parent.name}/{weights.name}", str(weights)):
        assert local.absolute(given, {"org/name": "/elsewhere"}) == str(weights)
    for given in ("hashed:64", "org/name", weights.name, "intfloat/e5-small-v2", "./absent"):
        assert local.absolute(given, kept) == given
    monkeypatch.setenv("HOME", str(weights.parent))
    assert local.absolute(f"~/{weights.name}", kept) == str(weights)


def test_a_relative_folder_that_is_not_there_is_refused_with_how_to_give_another(here: Path) -> None:
    with pytest.raises(errors.EncoderError, match=r"copy the folder to this machine, or say where a copy is"):
        encoders.load("./absent")
    settings = Settings(encoder_paths={"./absent": str(here)})
    with pytest.raises(errors.EncoderError, match=f"{here} is not a folder"):
        encoders.load("./absent", settings=settings)


def test_a_folder_without_safetensors_is_refused(weights: Path) -> None:
    (weights / "model.safetensors").unlink()
    with pytest.raises(errors.EncoderError, match="no safetensors weights"):
        encoders.load(str(weights))


@pytest.mark.parametrize("reference", ["nobody/nothing", "nobody/nothing@main", "no such name"])
def test_a_hub_name_that_is_nowhere_is_refused_with_how_to_give_a_folder(reference: str) -> None:
    with pytest.raises(errors.EncoderError) as refusal:
        encoders.load(reference)
    assert f"""PG_SEMANTIC_ENCODER_PATHS='{{"{reference}": "/path/to/folder"}}'""" in str(refusal.value)


def test_a_folder_without_the_encode_extra_is_refused_with_how_to_install_it(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[encode\]'"):
        encoders.load(str(weights))


def test_a_hub_name_without_the_encode_extra_is_refused_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[encode\]'"):
        encoders.load("nobody/nothing")
