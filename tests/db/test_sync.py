"""What a worker makes of jobs: chunks that are true to the text, and no more work than that takes."""

import dataclasses
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import Chunking, Searcher, SemanticIndex, encoders, errors
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index import chunk_tables
from pg_semantic.operations import create_index, status
from pg_semantic.worker import backfill
from tests.db.library import CLEAN, Article, Base, encoder, execute, generation_of, jobs, rows, sync, truth

LONG = "\n\n".join(f"Paragraph {i}: " + " ".join(f"word{i}x{j}" for j in range(100)) for i in range(10))


def test_rows_that_were_there_before_the_index_are_synced(engine: sa.Engine) -> None:
    Article.__table__.create(engine)  # type: ignore[attr-defined]
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 300) i")
    Base.metadata.create_all(engine)
    assert sync(engine).rows == 300
    assert truth(engine) == CLEAN


@pytest.mark.parametrize("blank", [None, "", "  \n\t ", "\u00a0\u2003"])
def test_blank_text_has_no_chunks_and_no_job_left(articles: sa.Engine, blank: str | None) -> None:
    execute(articles, "INSERT INTO article VALUES (1, :blank, :blank, 'en'), (2, 'text', :blank, 'en')", blank=blank)
    sync(articles)
    assert rows(articles, "SELECT id, content FROM article_semantic") == [(2, "text")]
    execute(articles, "UPDATE article SET title = :blank", blank=blank)
    sync(articles)
    assert rows(articles, "SELECT count(*) FROM article_semantic") == [(0,)]
    assert jobs(articles) == set()


@pytest.mark.parametrize("text", ["😀 emoji 👩‍👩‍👧", "مرحبا بالعالم", "a\u0001b", "x" * 1_000_000, "word " * 200_000])
def test_unusual_text_is_synced(articles: sa.Engine, text: str) -> None:
    execute(articles, "INSERT INTO article VALUES (1, NULL, :body, 'en')", body=text)
    assert sync(articles).rows == 1
    contents = [content for (content,) in rows(articles, "SELECT content FROM article_semantic ORDER BY ordinal")]
    assert "".join("".join(contents).split()) == "".join(text.split())


def test_equal_texts_are_encoded_once(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'same', 'text', 'en' FROM generate_series(1, 1000) i")
    assert sync(articles).chunks_encoded == 1
    execute(articles, "INSERT INTO article VALUES (2000, 'same', 'text', 'en')")
    done = sync(articles)
    assert (done.rows, done.chunks_encoded) == (1, 0)
    assert rows(articles, "SELECT count(DISTINCT vector::text), count(*) FROM article_semantic") == [(1, 1001)]


def test_an_edit_of_one_paragraph_encodes_and_writes_that_chunk_alone(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, NULL, :body, 'en')", body=LONG)
    sync(articles)
    before = set(rows(articles, "SELECT ordinal, xmin::text FROM article_semantic"))
    assert len(before) > 3
    execute(articles, "UPDATE article SET body = replace(body, 'word7x50', 'edited')")
    assert sync(articles).chunks_encoded == 1
    after = set(rows(articles, "SELECT ordinal, xmin::text FROM article_semantic"))
    assert len(after - before) == 1
    assert len(after) == len(before)


def test_text_that_comes_back_as_it_was_is_not_encoded(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    sync(articles)
    execute(articles, "UPDATE article SET title = 'two'")
    execute(articles, "UPDATE article SET title = 'one'")
    assert jobs(articles) == {"1"}
    done = sync(articles)
    assert (done.rows, done.chunks_encoded) == (1, 0)


def test_a_shorter_text_leaves_no_chunk_behind(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, NULL, :body, 'en')", body=LONG)
    sync(articles)
    execute(articles, "UPDATE article SET body = 'short'")
    sync(articles)
    assert rows(articles, "SELECT ordinal, content FROM article_semantic") == [(0, "short")]


def test_every_chunk_says_which_encoder_made_it_and_no_other_is_let_in(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    sync(articles)
    known = rows(articles, "SELECT id, reference, fingerprint FROM semantic.encoder")
    assert known == [(Article.semantic.spec.encoder.id, "hashed:32", encoder().fingerprint)]
    with pytest.raises(sa.exc.IntegrityError, match="article_semantic_encoder"):
        execute(articles, "UPDATE article_semantic SET encoder_id = 1")


def test_the_stored_vector_is_the_encoders(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'some words', NULL, 'en')")
    sync(articles)
    vector = encoder().encode_documents(["some words"])[0]
    with articles.connect() as connection:
        stored = connection.execute(sa.select(Article.semantic.tables.chunks.c.vector)).scalar_one()
    assert stored == pytest.approx(vector.tolist(), abs=1e-3)


class Fragile(HashedEncoder):
    """Fails on any batch that has the word poison in it."""

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if any("poison" in text for text in texts):
            raise RuntimeError("the encoder choked")
        return super().encode_documents(texts)


def test_a_row_that_breaks_the_encoder_is_parked_alone_with_its_error(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 256) i")
    execute(articles, "UPDATE article SET body = 'poison' WHERE id = 42")
    done = sync(articles, lambda *_, **__: Fragile(32), max_attempts=1)
    assert (done.rows, done.rows_failed) == (255, 1)
    assert rows(articles, "SELECT key, state, error FROM semantic.job") == [
        ("42", "failed", "RuntimeError: the encoder choked")
    ]
    assert truth(articles).missing == {"42"}
    with articles.connect() as connection:
        [index] = status.read(connection, exact=True).indexes
    assert (index.rows, index.synced, index.failed) == (256, 255, 1)
    assert [(failure.key, failure.attempts) for failure in index.failures] == [("42", 1)]
    with orm.Session(articles) as session:
        hits = Searcher(encoder()).search(session, Article.semantic, "title", limit=300)
    assert {hit.entity.id for hit in hits} == set(range(1, 257)) - {42}


class Uncountable(HashedEncoder):
    """Fails to count the tokens of any text that has the word poison in it."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if any("poison" in text for text in texts):
            raise ValueError("the tokenizer choked")
        return super().count_tokens(texts)


def test_a_row_that_can_not_be_cut_is_parked_alone_and_its_chunks_stay(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 20) i")
    sync(articles)
    execute(articles, "UPDATE article SET title = 'other ' || id")
    execute(articles, "UPDATE article SET body = 'poison' WHERE id = 7")
    done = sync(articles, lambda *_, **__: Uncountable(32), max_attempts=1)
    assert (done.rows, done.rows_failed) == (19, 1)
    assert rows(articles, "SELECT key, error FROM semantic.job") == [("7", "ValueError: the tokenizer choked")]
    assert rows(articles, "SELECT content FROM article_semantic WHERE id = 7") == [("title 7",)]


def test_a_parked_row_is_taken_again_when_its_text_changes(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    execute(
        articles, "UPDATE semantic.job SET state = 'failed', attempts = 5, error = 'x', available_at = now() + '1h'"
    )
    execute(articles, "UPDATE article SET title = 'two'")
    assert sync(articles).rows == 1
    assert truth(articles) == CLEAN


def test_a_failed_row_is_tried_again_and_parked_after_the_last_attempt(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'poison', NULL, 'en')")
    done = sync(articles, lambda *_, **__: Fragile(32), max_attempts=3, retry_seconds=0.001)
    assert done.rows_failed == 3
    assert rows(articles, "SELECT state, attempts FROM semantic.job") == [("failed", 3)]


class OneChunkBase(DeclarativeBase): ...


class Note(OneChunkBase):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    whole = SemanticIndex("text", encoder="hashed:32", chunking=None)
    cut = SemanticIndex("text", encoder="hashed:48", chunking=Chunking(max_tokens=50, overlap_tokens=10))


def test_without_chunking_a_long_row_is_one_chunk_marked_truncated(engine: sa.Engine) -> None:
    OneChunkBase.metadata.create_all(engine)
    execute(engine, "INSERT INTO note VALUES (1, :long), (2, 'short')", long=LONG)
    sync(engine)
    assert rows(engine, "SELECT id, truncated FROM note_whole ORDER BY id") == [(1, True), (2, False)]
    assert rows(engine, "SELECT id, truncated FROM note_whole_receipt ORDER BY id") == [(1, True), (2, False)]


def test_two_indexes_on_one_table_are_synced_side_by_side(engine: sa.Engine) -> None:
    OneChunkBase.metadata.create_all(engine)
    execute(engine, "INSERT INTO note VALUES (1, :long), (2, 'short')", long=LONG)
    assert sync(engine).rows == 4
    assert rows(engine, "SELECT max(token_count) <= 50, bool_or(truncated) FROM note_cut") == [(True, False)]
    assert rows(engine, "SELECT DISTINCT id FROM note_cut ORDER BY 1") == [(1,), (2,)]


def test_an_encoder_that_can_not_be_loaded_holds_up_no_other_index(engine: sa.Engine) -> None:
    OneChunkBase.metadata.create_all(engine)
    execute(engine, "INSERT INTO note VALUES (1, 'text')")

    def load(reference: str, **options: object) -> encoders.Encoder:
        if reference == "hashed:32":
            raise errors.EncoderError("no such encoder")
        return HashedEncoder(48)

    with pytest.raises(errors.EncoderError, match="no such encoder"):
        sync(engine, load)
    assert rows(engine, "SELECT count(*) FROM note_cut") == [(1,)]
    assert rows(engine, "SELECT count(*) FROM note_whole") == [(0,)]


def test_another_encoder_of_the_same_name_is_refused(articles: sa.Engine) -> None:
    sync(articles)
    changed = HashedEncoder(32, max_tokens=99)
    with pytest.raises(errors.EncoderMismatch) as refusal:
        sync(articles, lambda *_, **__: changed)
    for known in (encoder(), changed):
        assert known.revision in str(refusal.value)
        assert known.fingerprint in str(refusal.value)


def test_a_renamed_table_goes_on_being_synced(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'one', NULL, 'en')")
    execute(articles, "ALTER TABLE article RENAME TO paper")
    execute(articles, "INSERT INTO paper VALUES (2, 'two', NULL, 'en')")
    assert sync(articles).rows == 2
    assert generation_of(articles).spec == dataclasses.replace(Article.semantic.spec, schema="public", table="paper")


def test_a_recipe_that_does_not_fit_its_encoder_holds_up_no_other_index(engine: sa.Engine) -> None:
    OneChunkBase.metadata.create_all(engine)
    execute(engine, "INSERT INTO note VALUES (1, 'text')")
    with pytest.raises(errors.DeclarationError, match="have no room"):
        sync(engine, lambda _, dimensions, **__: HashedEncoder(dimensions, max_tokens=10))
    assert rows(engine, "SELECT count(*) FROM note_whole") == [(1,)]


def test_rows_whose_keys_are_times_have_one_job_however_they_came_to_it(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (at timestamptz PRIMARY KEY, text text)")
    execute(engine, "INSERT INTO note VALUES ('2024-03-31 02:30+01', 'one')")
    with engine.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("text",), encoder=Note.whole.spec.encoder)
    create_index.create(engine, spec)
    execute(engine, f"ALTER DATABASE {engine.url.database} SET timezone = 'Asia/Kathmandu'")
    execute(engine, "UPDATE note SET text = 'two'")
    engine.dispose()
    backfill.claim(
        engine, chunk_tables.build(spec), generation_of(engine, "note_semantic").id, rows=10, lease_seconds=60.0
    )
    assert len(jobs(engine)) == 1
    sync(engine)
    assert rows(engine, "SELECT content FROM note_semantic") == [("two",)]
