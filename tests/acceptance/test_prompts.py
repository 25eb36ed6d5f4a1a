"""Prompts of real weights: declared, of the catalog, in the encoder's files."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pg_semantic.encoders.local import backends
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.settings import Settings

E5 = "intfloat/e5-small-v2"
OWN = {"query": "look for this: ", "document": "this is: "}


@pytest.fixture
def copied(made: Callable[[str], Path], tmp_path: Path) -> Path:
    """A small encoder whose files name no prompt."""
    folder = Path(shutil.copytree(made("bert"), tmp_path / "copied"))
    configure(folder, {})
    return folder


def configure(folder: Path, prompts: dict[str, str], **further: Any) -> None:
    file = folder / "config_sentence_transformers.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | {"prompts": prompts, "default_prompt_name": None} | further))


def load(folder: Path, reference: str = "any", *, prompts: Prompts = Prompts()) -> TransformerEncoder:  # noqa: B008
    settings = Settings(backend="torch", precision="float32", device="cpu")
    return backends.load(folder, reference=reference, dimensions=None, prompts=prompts, settings=settings)


def puts(encoder: TransformerEncoder, plain: TransformerEncoder, query: str, document: str) -> bool:
    """Whether an encoder puts these before texts, and says so."""
    for text in ("tea with milk", "a harbour"):
        np.testing.assert_allclose(encoder.encode_queries([text]), plain.encode_queries([query + text]), atol=1e-5)
        found, expected = encoder.encode_documents([text]), plain.encode_documents([document + text])
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert encoder.count_tokens([text]) == plain.count_tokens([document + text])
    return (encoder.query_prompt, encoder.document_prompt) == (query, document)


@pytest.fixture
def plain(copied: Path) -> TransformerEncoder:
    return load(copied)


def test_an_encoder_of_the_catalog_whose_files_name_no_prompt_gets_those_of_the_catalog(
    copied: Path, plain: TransformerEncoder
) -> None:
    assert puts(plain, plain, "", "")
    assert puts(load(copied, E5), plain, "query: ", "passage: ")
    assert puts(load(copied, "BAAI/bge-m3"), plain, "", "")


@pytest.mark.parametrize(
    ("named", "query", "document"),
    [
        (OWN, "look for this: ", "this is: "),
        ({"query": "look for this: "}, "look for this: ", "passage: "),
        ({"query": "look for this: ", "passage": "this is: "}, "look for this: ", "this is: "),
        ({"corpus": "this is: "}, "query: ", "this is: "),
        ({"query": "", "document": ""}, "query: ", "passage: "),
        ({"sts": "another task: "}, "query: ", "passage: "),
    ],
)
def test_prompts_of_the_files_go_before_those_of_the_catalog(
    copied: Path, plain: TransformerEncoder, named: dict[str, str], query: str, document: str
) -> None:
    configure(copied, named)
    assert puts(load(copied, E5), plain, query, document)


@pytest.mark.parametrize("named", [{}, OWN])
@pytest.mark.parametrize(
    ("declared", "query", "document"),
    [
        (Prompts("ask: ", "tell: "), "ask: ", "tell: "),
        (Prompts("", ""), "", ""),
        (Prompts("", "tell: "), "", "tell: "),
    ],
)
def test_declared_prompts_go_before_all_others(
    copied: Path, plain: TransformerEncoder, named: dict[str, str], declared: Prompts, query: str, document: str
) -> None:
    configure(copied, named)
    assert puts(load(copied, E5, prompts=declared), plain, query, document)


def test_the_fingerprint_is_that_of_the_prompts_wherever_they_come_from(copied: Path) -> None:
    def fingerprint(reference: str = "any", query: str | None = None, document: str | None = None) -> str:
        return load(copied, reference, prompts=Prompts(query, document)).fingerprint

    found = [fingerprint(), fingerprint(query="query: "), fingerprint(document="passage: "), fingerprint(E5)]
    assert len(set(found)) == len(found)
    assert fingerprint(query="query: ", document="passage: ") == fingerprint(E5)
    assert fingerprint(query="", document="") == fingerprint()
    configure(copied, {"query": "query: ", "document": "passage: "})
    assert fingerprint() == fingerprint(query="query: ", document="passage: ") == found[-1]


def test_an_encoder_that_looks_like_a_known_one_and_lacks_its_prompts_is_warned_of_in_the_log(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said(reference: str, prompts: Prompts = Prompts()) -> list[str]:  # noqa: B008
        caplog.clear()
        load(copied, reference, prompts=prompts)
        return [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "prompt_missing"]

    with caplog.at_level(logging.WARNING, "pg_semantic.encoders"):
        [message] = said("/srv/e5-small")
        assert "Declare query_prompt='query: ' and document_prompt='passage: '" in message
        assert said("/srv/e5-small", Prompts("", "")) == said(E5) == said("any") == []
        configure(copied, OWN)
        assert said("/srv/e5-small") == []
