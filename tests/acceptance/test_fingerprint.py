"""Two encoders with one fingerprint make the same vectors: whatever decides a vector changes it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from pg_semantic.encoders.local import backends
from pg_semantic.settings import Settings


def _fingerprint(folder: Path, *, dimensions: int | None = None) -> str:
    settings = Settings(backend="torch", precision="float32", device="cpu")
    return backends.load(folder, reference="any", dimensions=dimensions, settings=settings).fingerprint


@pytest.fixture
def copied(made: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(made(name), tmp_path / name))


def _edit(file: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def _other_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, file, {"format": "pt"})


def _other_pooling(folder: Path) -> None:
    _edit(folder / "1_Pooling" / "config.json", lambda config: config.update(pooling_mode="max"))


def _prompt_left_out(folder: Path) -> None:
    _edit(folder / "1_Pooling" / "config.json", lambda config: config.update(include_prompt=False))


def _other_prompts(folder: Path) -> None:
    _edit(
        folder / "config_sentence_transformers.json", lambda config: config["prompts"].update(query="look for this: ")
    )


def _other_default_prompt(folder: Path) -> None:
    _edit(
        folder / "config_sentence_transformers.json",
        lambda config: config.update(prompts={"any": "a text: "}, default_prompt_name="any"),
    )


def _words_change_places(folder: Path) -> None:
    def change(tokenizer: Any) -> None:
        vocabulary = tokenizer["model"]["vocab"]
        last, other = list(vocabulary)[-2:]
        vocabulary[last], vocabulary[other] = vocabulary[other], vocabulary[last]

    _edit(folder / "tokenizer.json", change)


def _shorter(folder: Path) -> None:
    _edit(folder / "tokenizer_config.json", lambda config: config.update(model_max_length=50))


def _keeps_capitals(folder: Path) -> None:
    _edit(folder / "tokenizer.json", lambda tokenizer: tokenizer["normalizer"].update(lowercase=False))


def _no_normalising(folder: Path) -> None:
    _edit(folder / "modules.json", lambda modules: modules.pop())


def _other_activation(folder: Path) -> None:
    name = "torch.nn.modules.activation.Sigmoid"
    _edit(folder / "2_Dense" / "config.json", lambda config: config.update(activation_function=name))


def _config(**changed: object) -> Callable[[Path], None]:
    return lambda folder: _edit(folder / "config.json", lambda config: config.update(changed))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bert", _config(hidden_act="relu")),
        ("bert", _config(num_attention_heads=1)),
        ("bert", _config(layer_norm_eps=0.1)),
        ("bert", _config(num_hidden_layers=1)),
        ("bert", _other_weights),
        ("bert", _other_pooling),
        ("prompts", _other_prompts),
        ("bert", _prompt_left_out),
        ("bert", _other_default_prompt),
        ("bert", _words_change_places),
        ("bert", _keeps_capitals),
        ("bert", _shorter),
        ("mpnet", _no_normalising),
        ("dense", _other_activation),
    ],
)
def test_what_decides_a_vector_changes_the_fingerprint(
    made: Callable[[str], Path], copied: Callable[[str], Path], name: str, change: Callable[[Path], None]
) -> None:
    folder = copied(name)
    assert _fingerprint(folder) == _fingerprint(made(name))
    change(folder)
    assert _fingerprint(folder) != _fingerprint(made(name))


def test_what_no_vector_depends_on_leaves_the_fingerprint(
    made: Callable[[str], Path], copied: Callable[[str], Path]
) -> None:
    folder = copied("bert")
    _config(transformers_version="1.0", torch_dtype="bfloat16", _name_or_path="elsewhere")(folder)
    assert _fingerprint(folder) == _fingerprint(made("bert"))


def test_fewer_dimensions_change_the_fingerprint(made: Callable[[str], Path]) -> None:
    folder = made("matryoshka")
    assert _fingerprint(folder, dimensions=16) != _fingerprint(folder)
