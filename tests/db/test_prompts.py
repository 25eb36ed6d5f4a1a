"""Prompts from end to end: declared, migrated, created at the shell, synced, searched, changed."""

import logging
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typer.testing import CliRunner

from pg_semantic import SemanticIndex, cli, encoders, errors, generations, search
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, doctor, verify
from pg_semantic.search import Searcher
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests import openai_server
from tests.db import migrations
from tests.db.copies import NAME, all_of, begin, fill, switched
from tests.db.library import ENCODER, Article, execute, generation_of, rows, sync
from tests.db.test_sql_queries import patiently
from tests.openai_server import DIMENSIONS
from tests.waiting import eventually

QUERY = EncoderSpec(ENCODER, 32, query_prompt="violin ")
DOCUMENT = EncoderSpec(ENCODER, 32, document_prompt="violin ")


def declare(**prompts: Any) -> Any:
    class Base(DeclarativeBase): ...

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[str]
        semantic = SemanticIndex("words", encoder=ENCODER, **prompts)

    return Note


def filled(engine: sa.Engine, note: Any) -> None:
    note.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([note(id=1, words="harbour candle"), note(id=2, words="violin glacier")])
        session.commit()
    sync(engine)


def is_clean(engine: sa.Engine, name: str = NAME) -> bool:
    return verify.verify(engine, generation_of(engine, name)).clean


def test_documents_are_encoded_and_queries_asked_with_the_declared_prompts(engine: sa.Engine) -> None:
    note = declare(query_prompt="violin glacier ", document_prompt="told of ")
    filled(engine, note)
    loaded = encoders.load(ENCODER, query_prompt="violin glacier ", document_prompt="told of ")
    [expected] = encoders.load(ENCODER).encode_documents(["told of harbour candle"])
    with Session(engine) as session:
        [chunk] = session.scalars(sa.select(note.semantic.Chunk).where(note.semantic.Chunk.id == 1))
        assert chunk.content == "harbour candle"
        assert search.knn(note.semantic, expected, limit=1) is not None
        [nearest] = session.scalars(search.knn(note.semantic, expected, limit=1))
        assert nearest.id == 1
        [hit] = Searcher(loaded).search(session, note.semantic, "anything", limit=1)
        assert hit.entity.id == 2
    assert is_clean(engine, "note_semantic")


def test_a_searcher_without_the_prompts_loads_them_or_is_refused_with_how(engine: sa.Engine) -> None:
    note = declare(query_prompt="violin ")
    filled(engine, note)
    with Session(engine) as session:
        [hit] = Searcher(encoders.load(ENCODER)).search(session, note.semantic, "anything", limit=1)
        assert hit.entity.id == 2
        with pytest.raises(errors.EncoderMismatch, match="same encoder, loaded with query_prompt='violin '"):
            Searcher(encoders.load(ENCODER), follow=False).search(session, note.semantic, "harbour")


def test_create_all_says_which_prompts_are_declared_and_which_are_there(engine: sa.Engine) -> None:
    declare(query_prompt="ask ").metadata.create_all(engine)
    with pytest.raises(
        errors.EncoderMismatch, match=r"query_prompt='find '\), but its .* query_prompt='ask '\): change"
    ):
        declare(query_prompt="find ").metadata.create_all(engine)


def test_two_indexes_of_one_encoder_with_other_prompts_have_a_number_each(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article (id, title, lang) VALUES (1, 'harbour', 'en')")
    filled(articles, declare(document_prompt="told of "))
    known = rows(articles, "SELECT count(DISTINCT id), count(DISTINCT fingerprint) FROM semantic.encoder")
    assert known == [(2, 2)]
    assert is_clean(articles)
    assert is_clean(articles, "note_semantic")


def test_a_query_in_plain_sql_gets_the_prompt(articles: sa.Engine, dsn: str) -> None:
    fill(articles)
    switched(articles, encoder=QUERY)
    stop = threading.Event()
    thread = threading.Thread(target=Worker(articles, Settings()).run, args=(stop,))
    thread.start()
    try:
        patiently(dsn, "glacier")
    finally:
        stop.set()
        thread.join(20)
    [(made,)] = rows(articles, "SELECT vector FROM semantic.query_vector")
    [expected] = encoders.load(ENCODER).encode_documents(["violin glacier"])
    assert made == pytest.approx(expected.tolist(), abs=1e-6)


def test_another_prompt_of_queries_copies_the_vectors_and_one_of_documents_makes_them(articles: sa.Engine) -> None:
    fill(articles)
    begin(articles, encoder=QUERY)
    assert sync(articles).chunks_encoded == 0
    generations.switch(articles, NAME)
    assert is_clean(articles)
    assert {role: one.spec.encoder for role, one in all_of(articles).items()} == {
        "live": QUERY,
        "previous": Article.semantic.spec.encoder,
    }
    generations.drop(articles, NAME, "previous")
    begin(articles, encoder=DOCUMENT)
    assert sync(articles).chunks_encoded == 5


def test_running_searches_follow_a_switch_to_other_prompts_and_back(articles: sa.Engine) -> None:
    fill(articles)
    searcher = Searcher(encoders.load(ENCODER))

    def first() -> int:
        with Session(articles) as session:
            return searcher.search(session, Article.semantic, "candle", limit=1)[0].entity.id

    def until_first_is(number: int) -> None:
        eventually(lambda: first() == number, f"a search to find article {number} first")

    until_first_is(0)
    switched(articles, encoder=EncoderSpec(ENCODER, 32, query_prompt="violin glacier "))
    until_first_is(2)
    generations.rollback(articles, NAME)
    until_first_is(0)


def command(dsn: str, *arguments: str) -> str:
    done = CliRunner().invoke(cli.app, [*arguments, "--dsn", dsn])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_prompts_are_given_at_the_shell_and_kept_until_another_encoder_is(articles: sa.Engine, dsn: str) -> None:
    def now(role: str) -> EncoderSpec:
        return all_of(articles)[role].spec.encoder

    command(dsn, "index", "drop", NAME, "--yes")
    create = ("index", "create", "article", "--columns", "title", "--encoder", ENCODER)
    command(dsn, *create, "--query-prompt", "ask ", "--document-prompt", "")
    assert now("live").prompts == Prompts("ask ", "")
    command(dsn, "generation", "begin", NAME, "--document-prompt", "tell ", "--yes")
    assert now("next") == EncoderSpec(ENCODER, 32, "ask ", "tell ")
    command(dsn, "generation", "drop", NAME, "next", "--yes")
    command(dsn, "generation", "begin", NAME, "--encoder", "hashed:48", "--yes")
    assert now("next") == EncoderSpec("hashed:48", 48)


def test_the_shell_warns_of_an_encoder_that_lacks_its_prompts(articles: sa.Engine, dsn: str) -> None:
    given = ("article", "--columns", "body", "--encoder", "/srv/e5-small", "--dimensions", "384")
    said = command(dsn, "index", "create", *given, "--name", "lacking")
    assert "Warning: encoder '/srv/e5-small' looks like E5" in said
    assert "--query-prompt 'query: '" in said
    assert "--document-prompt 'passage: '" in said
    right = (*given, "--query-prompt", "query: ", "--document-prompt", "passage: ", "--name", "given")
    assert "Warning" not in command(dsn, "index", "create", *right)
    begun = command(
        dsn, "generation", "begin", "given", "--encoder", "/srv/bge-base-en", "--dimensions", "384", "--yes"
    )
    assert "looks like BGE" in begun


def test_a_migration_has_the_prompts_that_are_declared_and_those_that_were(engine: sa.Engine, tmp_path: Path) -> None:
    application = migrations.begin(engine, tmp_path / "alembic")

    def migrated(**prompts: str) -> str:
        application.metadata = declare(**prompts).metadata
        return application.migrate()

    assert "prompt" not in migrated()
    assert "query_prompt='ask '" in migrated(query_prompt="ask ")
    assert generation_of(engine, "note_semantic").spec.encoder.prompts == Prompts()
    execute(engine, "INSERT INTO note VALUES (1, 'harbour')")
    sync(engine)
    generations.switch(engine, "note_semantic")
    assert generation_of(engine, "note_semantic").spec.encoder.prompts == Prompts("ask ")
    application.check()
    application.downgrade("-1")


def note_of(engine: sa.Engine, encoder: EncoderSpec) -> None:
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=encoder)
    create_index.create(engine, spec)


def lacking(engine: sa.Engine) -> list[tuple[str, str]]:
    return [(one.subject, one.repair) for one in doctor.examine(engine) if one.check == "prompts"]


@pytest.mark.parametrize(
    ("prompts", "missing"),
    [
        ({}, "--query-prompt 'query: ' --document-prompt 'passage: '"),
        ({"query_prompt": "query: "}, "--document-prompt 'passage: '"),
        ({"query_prompt": "", "document_prompt": ""}, None),
    ],
)
def test_the_doctor_finds_an_encoder_that_lacks_its_prompts_and_repairs_it(
    engine: sa.Engine, dsn: str, prompts: dict[str, str], missing: str | None
) -> None:
    note_of(engine, EncoderSpec("/srv/e5-small", 32, **prompts))
    if missing is None:
        assert lacking(engine) == []
        return
    assert lacking(engine) == [("index note_semantic", f"pg-semantic generation begin note_semantic {missing}")]
    command(dsn, *shlex.split(lacking(engine)[0][1])[1:], "--yes")
    assert all_of(engine)["next"].spec.encoder.prompts == Prompts("query: ", "passage: ")


@pytest.mark.parametrize(("reference", "has_them"), [("nomic-embed-text", False), ("intfloat/e5-small-v2", True)])
def test_the_doctor_believes_what_was_loaded(engine: sa.Engine, reference: str, has_them: bool) -> None:
    note_of(engine, EncoderSpec(reference, DIMENSIONS))
    with openai_server.running() as server:
        sync(engine, encoder_urls={reference: server.url})
    assert (lacking(engine) == []) == has_them
    [loaded] = rows(engine, "SELECT query_prompt, document_prompt FROM semantic.encoder")
    assert loaded == (("query: ", "passage: ") if has_them else ("", ""))


def test_the_log_of_a_worker_warns_of_an_encoder_that_lacks_its_prompts(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    note_of(engine, EncoderSpec("nomic-embed-text", DIMENSIONS))
    with openai_server.running() as server, caplog.at_level(logging.WARNING, "pg_semantic.encoders"):
        sync(engine, encoder_urls={"nomic-embed-text": server.url})
    [said] = [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "prompt_missing"]
    assert "'nomic-embed-text' looks like Nomic Embed" in said
    assert "query_prompt='search_query: '" in said
