"""An encoder in int8 is another encoder, near to the one that it was made of, and never mixed with it."""

import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from typer.testing import CliRunner

from pg_semantic import Searcher, cli, encoders, errors
from pg_semantic.demo import tldr_pages
from pg_semantic.encoders.local import backends, weights
from pg_semantic.encoders.local.quantize import Calibration, quantize
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.settings import Settings
from tests.acceptance import architectures
from tests.db.library import sync

TEXTS = [f"{page.title}\n\n{page.text}" for page in itertools.islice(tldr_pages.pages(), 0, 2000, 40)]
WORDS = [" ".join(architectures.words(12, start=start)) for start in range(0, 600, 20)]


def _load(folder: Path) -> TransformerEncoder:
    return backends.load(folder, reference="any", dimensions=None, settings=Settings(device="cpu"))


def _quantize(source: Path, target: Path, **given: Any) -> Calibration:
    return quantize(str(source), target, **{"texts": WORDS, "samples": 20, "settings": Settings(), **given})


@pytest.fixture(scope="module")
def bert(made: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder in int8."""
    folder = tmp_path_factory.mktemp("int8") / "bert"
    _quantize(made("bert"), folder)
    return folder


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 in int8."""
    folder = tmp_path_factory.mktemp("int8") / "minilm"
    quantize(tldr_pages.ENCODER, folder, texts=TEXTS, samples=20, settings=Settings())
    return folder


@pytest.mark.weights
def test_real_weights_in_int8_make_vectors_near_to_those_in_32_bits(minilm: Path) -> None:
    exact = encoders.load(tldr_pages.ENCODER, settings=Settings(backend="torch", precision="float32"))
    encoder = _load(minilm)
    cosines = (encoder.encode_documents(TEXTS) * exact.encode_documents(TEXTS)).sum(axis=1)
    assert str(encoder.backend) == "openvino in int8"
    assert cosines.min() > 0.95
    assert cosines.mean() < 0.9999  # computed in int8 indeed
    assert (weights.quantized(minilm, 0).with_suffix(".bin").stat().st_size) < 30_000_000  # of 90


@pytest.mark.weights
def test_an_index_made_in_32_bits_refuses_the_same_encoder_in_int8(engine: sa.Engine, minilm: Path) -> None:
    tldr_pages.Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(next(tldr_pages.pages()))
        session.commit()
        sync(engine)
        moved = Settings(encoder_paths={tldr_pages.ENCODER: str(minilm)})
        searcher = Searcher(encoders.load(tldr_pages.ENCODER, settings=moved))
        with pytest.raises(errors.EncoderMismatch):
            searcher.search(session, tldr_pages.Page.semantic, "any question")


def test_the_fingerprint_is_of_the_quantized_files_too(made: Callable[[str], Path], bert: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    _quantize(made("bert"), other, texts=WORDS[:3])
    assert len({_load(folder).fingerprint for folder in (made("bert"), bert, other)}) == 3
    moved = Path(shutil.copytree(bert, tmp_path / "moved"))
    assert _load(moved).fingerprint == _load(bert).fingerprint


def test_only_int8_is_ever_used_of_a_quantized_encoder(bert: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(bert, tmp_path / "damaged"))
    weights.quantized(damaged, 0).write_bytes(b"")
    with pytest.raises(errors.EncoderError, match="openvino in int8"):
        _load(damaged)


def test_an_encoder_that_is_broken_in_int8_is_refused(bert: Path, tmp_path: Path, made: Callable[[str], Path]) -> None:
    _quantize(made("dense"), tmp_path / "dense")
    broken = Path(shutil.copytree(bert, tmp_path / "broken"))
    for suffix in (".xml", ".bin"):
        file = weights.quantized(tmp_path / "dense", 0).with_suffix(suffix)
        shutil.copyfile(file, weights.quantized(broken, 0).with_suffix(suffix))
    with pytest.raises(errors.EncoderError, match="its vectors differ"):
        _load(broken)


@pytest.mark.parametrize("name", ["qwen", "modernbert", "router"])
def test_other_architectures_can_be_quantized(made: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    calibration = _quantize(made(name), tmp_path / name)
    assert calibration.least_cosine > 0.98
    assert len(list((tmp_path / name / weights.INT8_FOLDER).glob("*.xml"))) == (2 if name == "router" else 1)


def test_the_record_says_what_was_calibrated_on_and_nothing_of_the_text(bert: Path) -> None:
    text = (bert / weights.INT8_FOLDER / "calibration.json").read_text()
    record = json.loads(text)
    assert (record["texts"], record["compared_texts"], len(record["texts_sha256"])) == (20, 10, 64)
    assert record["fingerprint"] == _load(bert).fingerprint
    assert 0.9 < record["least_cosine"] <= record["mean_cosine"] <= 1
    assert {"nncf", "openvino"} <= record["tools"].keys()
    assert not any(line[:30] in text for line in WORDS)


def test_the_same_texts_are_drawn_each_time(made: Callable[[str], Path], bert: Path, tmp_path: Path) -> None:
    again = _quantize(made("bert"), tmp_path / "again")
    assert (
        again.texts_sha256 == json.loads((bert / weights.INT8_FOLDER / "calibration.json").read_text())["texts_sha256"]
    )
    assert np.allclose(_load(tmp_path / "again").encode_documents(WORDS), _load(bert).encode_documents(WORDS))


def test_prompts_of_the_catalog_are_in_the_files_of_the_new_encoder(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    source = Path(shutil.copytree(made("bert"), tmp_path / "source"))
    config = source / "config_sentence_transformers.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prompts": {}}))
    settings = Settings(encoder_paths={"intfloat/e5-small-v2": str(source)})
    done = quantize("intfloat/e5-small-v2", tmp_path / "int8", texts=WORDS, samples=20, settings=settings)
    loaded = _load(tmp_path / "int8")
    assert (loaded.query_prompt, loaded.document_prompt) == ("query: ", "passage: ")
    assert loaded.fingerprint == done.fingerprint


def test_a_folder_that_is_not_empty_is_left_alone(made: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(errors.EncoderError, match="is not empty"):
        _quantize(made("bert"), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_nothing_is_left_of_an_attempt_that_failed(made: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(errors.EncoderError, match="nothing to quantize"):
        _quantize(made("static"), tmp_path / "static")
    assert list(tmp_path.iterdir()) == []


def test_what_is_quantized_is_not_quantized_again(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.EncoderError, match="is already quantized"):
        _quantize(bert, tmp_path / "again")


def test_no_text_to_calibrate_on_is_refused(made: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(errors.EncoderError, match="no text"):
        _quantize(made("bert"), tmp_path / "none", texts=["", "  "])


def test_without_nncf_how_to_install_it_is_said(
    made: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[int8\]'"):
        _quantize(made("bert"), tmp_path / "none")


def test_the_commands_make_an_int8_encoder_and_show_what_it_is(made: Callable[[str], Path], tmp_path: Path) -> None:
    lines, folder = tmp_path / "texts.txt", tmp_path / "int8"
    lines.write_text("\n".join(WORDS))
    runner = CliRunner()
    done = runner.invoke(cli.app, ["encoder", "quantize", str(made("bert")), str(folder), "--texts", str(lines)])
    assert done.exit_code == 0, done.output
    assert "calibrated on 30 texts" in " ".join(done.output.split())
    shown = json.loads(runner.invoke(cli.app, ["encoder", "show", str(folder), "--json"]).stdout)
    assert (shown["back_end"], shown["precision"], shown["dimensions"]) == ("openvino", "int8", architectures.WIDTH)
    assert shown["fingerprint"] == _load(folder).fingerprint
    assert 0.9 < shown["least_cosine"] < 1
    assert shown["texts_per_second"] > 0


def test_a_file_of_texts_that_can_not_be_read_is_wrong_usage(tmp_path: Path) -> None:
    absent = tmp_path / "absent.txt"
    done = CliRunner().invoke(cli.app, ["encoder", "quantize", "any", str(tmp_path / "int8"), "--texts", str(absent)])
    assert done.exit_code == 2
    assert "--texts" in done.output


def test_an_encoder_without_weights_is_shown_too() -> None:
    shown = CliRunner().invoke(cli.app, ["encoder", "show", "hashed:32"])
    assert shown.exit_code == 0, shown.output
    assert "hashed:32" in shown.output
