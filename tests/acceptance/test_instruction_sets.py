"""An encoder makes the same vectors whatever the CPU can multiply; one that cannot is refused in words.

oneDNN, with which OpenVINO and torch multiply, obeys ONEDNN_MAX_CPU_ISA, so that one machine shows several kinds.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import nncf
import numpy as np
import pytest

from pg_semantic import errors
from pg_semantic.encoders import self_check
from pg_semantic.encoders.base import Vectors
from pg_semantic.encoders.local import backends, openvino, weights
from pg_semantic.settings import Settings
from tests.acceptance import restricted
from tests.acceptance.test_int8 import WORDS, _load, _quantize

TEXTS = [text for text in self_check.TEXTS if "\n" not in text] + WORDS
ARCHITECTURES = ["bert", "qwen", "modernbert", "mpnet", "t5"]


@pytest.fixture(scope="module")
def quantized(made: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of folders, one for each architecture in int8."""
    root = tmp_path_factory.mktemp("isa")
    for name in ARCHITECTURES:
        _quantize(made(name), root / name)
    return root


@pytest.fixture(scope="module")
def overflowing(made: Callable[[str], Path], quantized: Path) -> Path:
    """A decoder whose weights were quantized to all of 8 bits, beside recorded vectors that are right."""
    folder = Path(shutil.copytree(quantized / "qwen", quantized / "overflowing"))
    whole = backends.open_whole(made("qwen"), reference="any", dimensions=None, device="cpu")
    [module] = backends.transformers_of(whole)
    file = weights.quantized(folder, 0)
    openvino.convert(module, at=file)
    samples = nncf.Dataset(WORDS[:20], openvino.reader(module))
    openvino.save(nncf.quantize(openvino.read(file), samples, model_type=nncf.ModelType.TRANSFORMER), at=file)
    return folder


@pytest.fixture(scope="module")
def without_vnni(quantized: Path, overflowing: Path) -> dict[str, Vectors | str]:
    """What each of the encoders gives on a CPU that has AVX2 and no more."""
    return restricted.load([*(quantized / name for name in ARCHITECTURES), overflowing], TEXTS, isa="AVX2")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_int8_encoder_makes_the_same_vectors_without_vnni(
    quantized: Path, without_vnni: dict[str, Vectors | str], name: str
) -> None:
    found = without_vnni[name]
    assert not isinstance(found, str), found
    assert self_check.cosines(found, _load(quantized / name).encode_documents(TEXTS)).min() > 0.998


def test_weights_of_all_8_bits_overflow_without_vnni_and_are_refused_in_words(
    without_vnni: dict[str, Vectors | str],
) -> None:
    refused = without_vnni["overflowing"]
    assert isinstance(refused, str)
    assert "on this CPU, its vectors differ from those recorded when it was quantized (cosine 0." in refused
    assert "Quantize the encoder again" in refused


@pytest.mark.parametrize(
    ("limit", "precision"),
    [("AVX2", "float32"), ("AVX512_CORE_VNNI", "float32"), ("avx512_core_bf16", "bfloat16"), ("ALL", "bfloat16")],
)
def test_precision_follows_a_limit_on_the_instruction_set(
    monkeypatch: pytest.MonkeyPatch, limit: str, precision: str
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    has_bfloat16 = openvino.precision_of_cpu() == "bfloat16"
    [first, *_] = backends.candidates("cpu", Settings(), has_openvino=True)
    assert first.precision == (precision if has_bfloat16 else "float32")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.unlink(), "is missing: copy the whole folder again, or quantize"),
        (lambda file: file.write_bytes(file.read_bytes()[:100]), "is damaged"),
        (lambda file: np.savez(file, texts=np.array(["a"])), "is damaged"),
    ],
    ids=["missing", "cut off", "of another form"],
)
def test_a_folder_without_its_recorded_vectors_is_refused_with_what_to_do(
    quantized: Path, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    folder = Path(shutil.copytree(quantized / "bert", tmp_path / "bert"))
    damage(weights.recorded(folder))
    with pytest.raises(errors.EncoderError, match=words):
        _load(folder)


def test_recorded_vectors_are_compared_where_fewer_dimensions_are_asked_for(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    _quantize(made("matryoshka"), tmp_path / "int8")
    load = backends.load
    settings = Settings(device="cpu")
    assert load(tmp_path / "int8", reference="any", dimensions=16, settings=settings).dimensions == 16
