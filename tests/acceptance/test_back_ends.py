"""A back end that cannot be used is not used, and the log says so; files that are damaged are made once more."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pg_semantic import errors
from pg_semantic.encoders.local import backends
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.settings import Settings

TEXTS = ["list the open files", "a", "copy a folder and all that is in it " * 9]

Load = Callable[..., TransformerEncoder]


@pytest.fixture
def load(made: Callable[[str], Path], tmp_path: Path) -> Load:
    """Loads an encoder in 32 bits; the cache is the test's own."""

    def _load(name: str, backend: str) -> TransformerEncoder:
        settings = Settings(backend=backend, precision="float32", device="cpu", cache_folder=tmp_path)
        return backends.load(made(name), reference=name, dimensions=None, settings=settings)

    return _load


def _converted(cache: Path) -> list[Path]:
    return sorted(cache.glob("openvino/*/transformer.xml"))


def _put_another_there(load: Load, cache: Path) -> None:
    """Puts what was converted of XLM-RoBERTa where that of T5, which reads the same, is looked for."""
    load("t5", "openvino")
    [ours] = _converted(cache)
    load("xlm_roberta", "openvino")
    [other] = set(_converted(cache)) - {ours}
    for suffix in (".xml", ".bin"):
        shutil.copyfile(other.with_suffix(suffix), ours.with_suffix(suffix))


def test_a_back_end_with_other_vectors_is_not_used_and_the_log_says_so(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _put_another_there(load, tmp_path)
    encoder = load("t5", "auto")
    assert str(encoder.backend) == "torch in float32"
    assert "t5: openvino in float32 is not used: its vectors differ from the reference's (cosine" in caplog.text
    assert encoder.encode_documents(TEXTS) == pytest.approx(load("t5", "torch").encode_documents(TEXTS))


def test_a_back_end_with_other_vectors_is_an_error_when_it_was_asked_for(load: Load, tmp_path: Path) -> None:
    _put_another_there(load, tmp_path)
    with pytest.raises(errors.EncoderError, match=r"openvino in float32: its vectors differ"):
        load("t5", "openvino")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        lambda file: file.write_bytes(b""),
        lambda file: _cut(file.with_suffix(".bin")),
        lambda file: file.with_suffix(".bin").unlink(),
        lambda file: file.with_suffix(".bin").write_bytes(b""),
    ],
    ids=["half of the graph", "no graph", "half of the weights", "weights missing", "no weights"],
)
def test_damaged_files_are_made_once_more(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    expected = load("bert", "openvino").encode_documents(TEXTS)
    [file] = _converted(tmp_path)
    damage(file)
    assert np.array_equal(load("bert", "openvino").encode_documents(TEXTS), expected)
    assert "is damaged, converting again" in caplog.text
    caplog.clear()
    load("bert", "openvino")
    assert "converting again" not in caplog.text


def test_an_encoder_that_is_loaded_twice_is_converted_once(load: Load, tmp_path: Path) -> None:
    load("bert", "openvino")
    [file] = _converted(tmp_path)
    when = file.stat().st_mtime_ns, file.with_suffix(".bin").stat().st_mtime_ns
    load("bert", "openvino")
    assert (file.stat().st_mtime_ns, file.with_suffix(".bin").stat().st_mtime_ns) == when
    assert sorted(file.parent.iterdir()) == [file.with_suffix(".bin"), file]


def test_safetensors_that_are_cut_off_are_an_error_of_the_encoder(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made("bert"), tmp_path / "cut"))
    _cut(folder / "model.safetensors")
    with pytest.raises(errors.EncoderError, match="cannot be loaded"):
        backends.load(folder, reference="cut", dimensions=None, settings=Settings(device="cpu"))
