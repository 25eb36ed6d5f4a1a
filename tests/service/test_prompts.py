"""Prompts over HTTP: the service puts them before texts, its clients send texts as they are."""

from typing import Any

import httpx2
import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, encoders, errors
from pg_semantic.encoders import Encoder
from pg_semantic.settings import Settings
from tests.db.library import execute, generation_of, sync
from tests.service import serving

NAME = "hashed:32"
DECLARED = {"query_prompt": "ask for ", "document_prompt": "told of "}


def served(client: httpx2.Client, **declared: str) -> Encoder:
    """The encoder of the service, for one of its clients."""
    settings = Settings(encoder_urls={NAME: {"url": f"{client.base_url}/v1"}}, remote_retries=0)
    return encoders.load(NAME, settings=settings, **declared)  # type: ignore[arg-type]


@pytest.mark.parametrize("declared", [{}, DECLARED])
def test_a_client_has_the_prompts_of_the_service_once(declared: dict[str, str]) -> None:
    local = encoders.load(NAME, **DECLARED)  # type: ignore[arg-type]
    with serving.running(local) as client:
        remote = served(client, **declared)
        for encode in ("encode_queries", "encode_documents"):
            np.testing.assert_array_equal(getattr(remote, encode)(["tea"]), getattr(local, encode)(["tea"]))
        assert remote.fingerprint == local.fingerprint


@pytest.mark.parametrize("changed", [{"query_prompt": "find "}, {"document_prompt": ""}])
def test_a_client_that_declares_other_prompts_than_the_service_has_is_refused(changed: dict[str, str]) -> None:
    with serving.running(encoders.load(NAME, **DECLARED)) as client:  # type: ignore[arg-type]
        [(name, prompt)] = changed.items()
        with pytest.raises(errors.EncoderMismatch, match=f"{name}={prompt!r}.*{DECLARED[name]!r}"):
            served(client, **(DECLARED | changed))


def test_the_service_serves_the_encoder_of_an_index_as_it_is_declared(engine: sa.Engine) -> None:
    class Base(DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[str]
        semantic = SemanticIndex("words", encoder=NAME, query_prompt="violin ")

    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO note VALUES (1, 'harbour'), (2, 'violin')")
    sync(engine)
    with serving.running(engine=engine) as client:
        [listed] = client.get("/v1/models").json()["data"]
        assert (listed["query_prompt"], listed["document_prompt"]) == ("violin ", "")
        assert listed["fingerprint"] == generation_of(engine, "note_semantic").fingerprint
        found: Any = client.post("/search", json={"index": "note_semantic", "text": "anything", "limit": 1}).json()
        assert [hit["key"] for hit in found["hits"]] == [{"id": 2}]
