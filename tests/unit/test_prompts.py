"""Prompts: those of the catalog, those that are declared, and a warning where one is missing."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, encoders, errors
from pg_semantic.encoders import Encoder
from pg_semantic.index import hashing, known_encoders
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.settings import Settings
from tests import documents, openai_server
from tests.openai_server import Server

PASSAGE = Prompts("query: ", "passage: ")
SEARCH = Prompts("search_query: ", "search_document: ")
SENTENCE = Prompts("Represent this sentence for searching relevant passages: ", "")


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server.running() as made:
        yield made


@pytest.mark.parametrize(
    ("reference", "prompts"),
    [
        ("intfloat/e5-small-v2", PASSAGE),
        ("intfloat/e5-large-v2@0123456789abcdef", PASSAGE),
        ("intfloat/multilingual-e5-base", PASSAGE),
        ("BAAI/bge-small-en-v1.5", SENTENCE),
        ("BAAI/bge-m3", known_encoders.NO_PROMPTS),
        ("nomic-ai/nomic-embed-text-v1.5", SEARCH),
        ("nomic-ai/modernbert-embed-base", SEARCH),
        ("mixedbread-ai/mxbai-embed-large-v1", SENTENCE),
        ("WhereIsAI/UAE-Large-V1", SENTENCE),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", SENTENCE),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", Prompts("query: ", "")),
        ("google/embeddinggemma-300m", Prompts("task: search result | query: ", "title: none | text: ")),
        ("thenlper/gte-base", known_encoders.NO_PROMPTS),
        ("Alibaba-NLP/gte-multilingual-base", known_encoders.NO_PROMPTS),
        ("sentence-transformers/all-MiniLM-L6-v2", known_encoders.NO_PROMPTS),
        ("somebody/e5-small-v2-of-their-own", known_encoders.NO_PROMPTS),
        ("hashed:32", known_encoders.NO_PROMPTS),
    ],
)
def test_encoders_of_the_catalog_have_the_prompts_of_their_cards(reference: str, prompts: Prompts) -> None:
    assert known_encoders.prompts(reference) == prompts


@pytest.mark.parametrize("reference", known_encoders.DIMENSIONS)
def test_the_docs_have_every_prompt_of_the_catalog(reference: str) -> None:
    written = (documents.ROOT / "docs" / "reference" / "encoders.md").read_text("utf-8").replace("\\|", "|")
    prompts = known_encoders.prompts(reference)
    for line in f"{prompts.query}\n{prompts.document}".split("\n"):
        assert f"`{line}" in written


def test_instructions_are_put_before_queries_alone() -> None:
    for reference in ("intfloat/multilingual-e5-large-instruct", "Qwen/Qwen3-Embedding-0.6B"):
        prompts = known_encoders.prompts(reference)
        assert re.fullmatch(r"Instruct: Given a web search query, .*\nQuery: ?", prompts.query or "")
        assert prompts.document == ""


LACKING = [
    ("/srv/encoders/e5-small-v2", PASSAGE),
    ("somebody/multilingual-e5-base-of-their-own", PASSAGE),
    ("somebody/bge-small-en-v1.5-tuned", SENTENCE),
    ("nomic-embed-text:latest", SEARCH),
    ("hkunlp/instructor-large", None),
]


@pytest.mark.parametrize(("reference", "prompts"), LACKING)
def test_a_declaration_of_an_encoder_that_looks_like_a_known_one_warns_with_what_to_declare(
    reference: str, prompts: Prompts | None
) -> None:
    with pytest.warns(UserWarning, match="which expects prompts, unless its own files define them") as said:
        SemanticIndex("body", encoder=reference, dimensions=384)
    assert said[0].filename == __file__
    assert f"query_prompt={prompts.query!r}" in str(said[0].message) if prompts else True
    if prompts and prompts.document:
        assert f"document_prompt={prompts.document!r}" in str(said[0].message)


@pytest.mark.parametrize(
    "declared",
    [
        {"encoder": "intfloat/e5-small-v2"},
        {"encoder": "/srv/e5-small-v2", "query_prompt": "query: ", "document_prompt": "passage: "},
        {"encoder": "/srv/e5-small-v2", "query_prompt": "", "document_prompt": ""},
        {"encoder": "somebody/bge-small-en-tuned", "query_prompt": ""},
        {"encoder": "somebody/Qwen3-Embedding-0.6B-tuned"},
        {"encoder": "sentence-transformers/all-MiniLM-L6-v2"},
        {"encoder": "somebody/like5-small"},
        {"encoder": "hashed:384"},
    ],
)
def test_a_declaration_that_is_right_or_deliberate_warns_of_nothing(declared: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SemanticIndex("body", dimensions=384, **declared)


def test_declared_prompts_are_in_the_spec_and_survive_the_registry() -> None:
    class Base(DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        semantic = SemanticIndex("body", encoder="hashed:8", query_prompt="ask ", document_prompt="tell ")

    spec = Note.semantic.spec
    assert spec.encoder.prompts == Prompts("ask ", "tell ")
    assert type(spec).from_json(json.loads(json.dumps(spec.to_json()))) == spec
    older = spec.to_json()
    del older["encoder"]["query_prompt"], older["encoder"]["document_prompt"]
    assert type(spec).from_json(older).encoder.prompts == Prompts()


def test_the_number_of_an_encoder_tells_its_prompts_apart() -> None:
    declared = [None, "", "query: ", 'query", "']
    numbers = {EncoderSpec("org/name", 8, query, document).id for query in declared for document in declared}
    assert len(numbers) == len(declared) ** 2
    assert hashing.encoder_id("org/name", 8) in numbers


@pytest.mark.parametrize("prompt", [7, ["query: "], "a\0b", "x" * 2001])
def test_a_prompt_that_is_none_is_refused(prompt: Any) -> None:
    with pytest.raises(errors.DeclarationError, match="query_prompt"):
        SemanticIndex("body", encoder="hashed:8", query_prompt=prompt)


def hashed(**given: Any) -> Encoder:
    return encoders.load("hashed:32", **given)


def test_declared_prompts_are_put_before_texts_and_counted() -> None:
    plain, prompted = hashed(), hashed(query_prompt="ask for ", document_prompt="about ")
    np.testing.assert_array_equal(prompted.encode_queries(["tea"]), plain.encode_queries(["ask for tea"]))
    np.testing.assert_array_equal(prompted.encode_documents(["tea"]), plain.encode_documents(["about tea"]))
    assert prompted.count_tokens(["tea"]) == [2]
    pieces = prompted.splitter(max_tokens=4, overlap_tokens=0)("one two three four five six")
    assert max(prompted.count_tokens(pieces)) <= 4


def test_the_fingerprint_tells_each_prompt() -> None:
    found = [
        hashed(),
        hashed(query_prompt="a "),
        hashed(document_prompt="a "),
        hashed(query_prompt="a ", document_prompt="a "),
    ]
    assert len({encoder.fingerprint for encoder in found}) == len(found)
    assert hashed(query_prompt="", document_prompt="").fingerprint == hashed().fingerprint


def test_prompts_of_the_settings_are_those_of_an_encoder_whose_index_declares_none() -> None:
    settings = Settings.model_validate({"encoder_prompts": {"hashed:32": {"query": "ask ", "document": "tell "}}})
    configured = hashed(settings=settings)
    assert configured.fingerprint == hashed(query_prompt="ask ", document_prompt="tell ").fingerprint
    declared = hashed(settings=settings, query_prompt="")
    assert declared.fingerprint == hashed(document_prompt="tell ").fingerprint


def remote(server: Server, reference: str = "org/name", *, endpoint: Any = None, **given: Any) -> Encoder:
    settings = Settings(encoder_urls={reference: {"url": server.url, **(endpoint or {})}}, remote_retries=0)
    return encoders.load(reference, settings=settings, **given)


def sent(server: Server, encoder: Encoder) -> list[str]:
    """What the server is sent for a query and for a document."""
    before = len(server.requests)
    encoder.encode_queries(["tea"])
    encoder.encode_documents(["tea"])
    return [text for request in server.requests[before:] for text in request.texts]


@pytest.mark.parametrize(
    ("reference", "endpoint", "declared", "texts"),
    [
        ("org/name", {}, {}, ["tea", "tea"]),
        ("intfloat/e5-small-v2", {}, {}, ["query: tea", "passage: tea"]),
        ("intfloat/e5-small-v2", {"query_prompt": "", "document_prompt": ""}, {}, ["tea", "tea"]),
        ("intfloat/e5-small-v2", {}, {"query_prompt": "", "document_prompt": ""}, ["tea", "tea"]),
        ("org/name", {}, {"query_prompt": "ask "}, ["ask tea", "tea"]),
        ("org/name", {"query_prompt": "ask "}, {"query_prompt": "ask "}, ["ask tea", "tea"]),
        ("org/name", {"query_prompt": ""}, {"query_prompt": "ask "}, ["tea", "tea"]),
        ("BAAI/bge-m3", {"document_prompt": "tell "}, {}, ["tea", "tell tea"]),
    ],
)
def test_a_remote_encoder_gets_its_prompts_here_unless_the_server_does_it(
    server: Server, reference: str, endpoint: dict[str, str], declared: dict[str, str], texts: list[str]
) -> None:
    assert sent(server, remote(server, reference, endpoint=endpoint, **declared)) == texts


def test_the_fingerprint_of_a_remote_encoder_has_the_prompts_whoever_puts_them_there(server: Server) -> None:
    plain, here = remote(server), remote(server, query_prompt="ask ", document_prompt="tell ")
    there = remote(
        server, endpoint={"query_prompt": "", "document_prompt": ""}, query_prompt="ask ", document_prompt="tell "
    )
    configured = remote(server, endpoint={"query_prompt": "ask ", "document_prompt": "tell "})
    assert here.fingerprint == there.fingerprint == configured.fingerprint != plain.fingerprint
    assert here.count_tokens(["tea"]) == there.count_tokens(["tea"]) != plain.count_tokens(["tea"])


def test_prompts_that_are_declared_and_configured_otherwise_are_refused_with_both(server: Server) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"query_prompt='ask '.*'find '"):
        remote(server, endpoint={"query_prompt": "find "}, query_prompt="ask ")


@pytest.mark.parametrize("reference", ["nomic-embed-text", "qwen3-embedding:0.6b", "/models/e5-base-v2.gguf"])
def test_a_remote_encoder_that_lacks_its_prompts_is_warned_of_in_the_log(
    server: Server, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    def said(load: Callable[[], Encoder]) -> list[str]:
        caplog.clear()
        load()
        return [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "prompt_missing"]

    none = {"query_prompt": "", "document_prompt": ""}
    with caplog.at_level(logging.WARNING, "pg_semantic.encoders"):
        [message] = said(lambda: remote(server, reference))
        assert reference in message
        assert "query_prompt='" in message
        assert said(lambda: remote(server, reference, **none)) == []
        assert said(lambda: remote(server, reference, endpoint=none)) == []
        assert said(lambda: remote(server, "intfloat/e5-small-v2")) == []
