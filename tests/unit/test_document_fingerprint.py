"""The document fingerprint changes with everything that decides the vectors of documents."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from tokenizers import normalizers, pre_tokenizers

from pg_semantic.encoders.local import backends, fingerprints
from tests.acceptance import architectures

TEXT = "a word\u2603word"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return architectures.make("bert", tmp_path_factory.mktemp("encoders"))


def opened(folder: Path) -> SentenceTransformer:
    return backends.open_whole(folder, reference="any", dimensions=None, device="cpu")


def documents(encoder: SentenceTransformer) -> str:
    return fingerprints.of(encoder, digest="of files").documents


def with_lora(folder: Path, alpha: int) -> SentenceTransformer:
    """An encoder with the same adapter tensors for each alpha, which says how much they count."""
    encoder = opened(folder)
    torch.manual_seed(0)
    encoder[0].model.add_adapter(LoraConfig(r=2, lora_alpha=alpha, target_modules=["query"], init_lora_weights=False))
    return encoder.eval()


def test_loads_of_the_same_files_have_the_same(folder: Path) -> None:
    assert documents(opened(folder)) == documents(opened(folder))
    assert documents(with_lora(folder, 4)) == documents(with_lora(folder, 4))


def _replace_snowmen(backend: Any) -> None:
    backend.normalizer = normalizers.Sequence([backend.normalizer, normalizers.Replace("\u2603", " ")])


def _split_at_snowmen(backend: Any) -> None:
    split = pre_tokenizers.Split("\u2603", "removed")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, backend.pre_tokenizer])


@pytest.mark.parametrize("change", [_replace_snowmen, _split_at_snowmen])
def test_a_rule_of_the_tokenizer_that_no_sample_shows_changes_it(folder: Path, change: Callable[[Any], None]) -> None:
    plain, changed = opened(folder), opened(folder)
    change(changed.tokenizer.backend_tokenizer)
    ids = [encoder.tokenizer.backend_tokenizer.encode(TEXT).ids for encoder in (plain, changed)]
    assert ids[0] != ids[1]
    assert documents(plain) != documents(changed)


def test_the_end_at_which_a_long_text_is_truncated_changes_it_and_the_whole_one(folder: Path) -> None:
    """Also of an encoder that reads longer texts than any of the self-check, whose tokens can't tell."""
    plain, left = opened(folder), opened(folder)
    plain.max_seq_length = left.max_seq_length = 4000
    assert documents(plain) == documents(left)
    left.tokenizer.truncation_side = "left"
    one, other = [word for word in sorted(plain.tokenizer.get_vocab()) if word.isalpha()][:2]
    text = f"{one} " * plain.max_seq_length + f"{other} " * plain.max_seq_length
    first, last = (encoder.preprocess([text])["input_ids"] for encoder in (plain, left))
    assert first.shape == last.shape
    assert not first.equal(last)
    assert documents(plain) != documents(left)
    assert fingerprints.of(plain, digest="of files").whole != fingerprints.of(left, digest="of files").whole


def test_truncation_and_padding_of_the_last_batch_do_not_change_it(folder: Path) -> None:
    encoder = opened(folder)
    before = documents(encoder)
    encoder.tokenizer.backend_tokenizer.enable_padding(length=7)
    encoder.tokenizer.backend_tokenizer.enable_truncation(5)
    assert documents(encoder) == before


def test_how_much_an_adapter_counts_and_whether_it_is_on_change_it(folder: Path) -> None:
    weak, strong = with_lora(folder, 4), with_lora(folder, 64)
    assert {name: value.tolist() for name, value in weak.state_dict().items()} == {
        name: value.tolist() for name, value in strong.state_dict().items()
    }
    assert not (weak.encode([TEXT]) == strong.encode([TEXT])).all()
    assert documents(weak) != documents(strong)
    off = copy.deepcopy(weak)
    off[0].model.disable_adapters()
    assert documents(off) != documents(weak)
