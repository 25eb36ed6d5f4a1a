"""An encoder that differs only in how it encodes queries takes over all stored vectors: no text is encoded again."""

from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import encoders, errors, generations
from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import repair, verify
from pg_semantic.search import Searcher
from tests.db.copies import NAME, TEXTS, all_of, begin, fill
from tests.db.library import ENCODER, Article, encoder, execute, generation_of, rows, sync

TRAINED = EncoderSpec("trained", 32)


class Trained(HashedEncoder):
    """It looks for a harbour, whatever it is asked."""

    reference = "trained"
    fingerprint = "t" * 64
    document_fingerprint = HashedEncoder(32).document_fingerprint

    def encode_queries(self, texts: Any) -> Vectors:
        return super().encode_queries(["harbour"] * len(texts))


class TrainedOnBothSides(Trained):
    """Documents too have other vectors."""

    document_fingerprint = "d" * 64

    def encode_documents(self, texts: Any) -> Vectors:
        return -super().encode_documents(texts)


def load(reference: str, **given: Any) -> Encoder:
    return Trained(32) if reference == "trained" else encoders.load(reference, **given)


def load_other(reference: str, **given: Any) -> Encoder:
    return TrainedOnBothSides(32) if reference == "trained" else encoders.load(reference, **given)


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    """Five rows, with their vectors."""
    return filled


def vectors(engine: sa.Engine, role: str) -> dict[int, list[float]]:
    chunks = all_of(engine)[role].tables.chunks
    with engine.connect() as connection:
        return {
            key: np.asarray(vector).tolist()
            for key, vector in connection.execute(sa.select(chunks.c.id, chunks.c.vector))
        }


def is_clean(engine: sa.Engine) -> bool:
    reports = [verify.verify(engine, one) for one in all_of(engine).values()]
    return all(report.clean and not report.waiting for report in reports)


def first(engine: sa.Engine, text: str, searcher: Searcher) -> int:
    with Session(engine) as session:
        return searcher.search(session, Article.semantic, text, limit=1)[0].entity.id


def test_both_fingerprints_are_recorded_by_the_first_load_and_unknown_before(articles: sa.Engine) -> None:
    known = "SELECT fingerprint, document_fingerprint FROM semantic.encoder"
    assert rows(articles, known) == [(None, None)]
    fill(articles)
    assert rows(articles, known) == [(encoder().fingerprint, encoder().document_fingerprint)]
    assert generation_of(articles).document_fingerprint == encoder().document_fingerprint


def test_all_vectors_are_copied_and_no_text_is_encoded(synced: sa.Engine) -> None:
    begin(synced, encoder=TRAINED)
    assert sync(synced, load).chunks_encoded == 0
    assert is_clean(synced)
    assert vectors(synced, "next") == vectors(synced, "live")
    assert len(vectors(synced, "next")) == len(TEXTS)


def test_a_switch_and_a_rollback_encode_nothing_either_and_change_what_is_found(synced: sa.Engine) -> None:
    begin(synced, encoder=TRAINED)
    sync(synced, load)
    generations.switch(synced, NAME)
    assert first(synced, "meadow engine", Searcher(Trained(32))) == 0
    generations.rollback(synced, NAME)
    assert first(synced, "meadow engine", Searcher(encoder())) == 1
    assert sync(synced, load).chunks_encoded == 0
    assert is_clean(synced)


def test_the_base_takes_over_the_vectors_of_the_encoder_that_was_trained_from_it(synced: sa.Engine) -> None:
    begin(synced, encoder=TRAINED)
    sync(synced, load)
    generations.switch(synced, NAME)
    generations.drop(synced, NAME, "previous", grace_seconds=0)
    begin(synced, encoder=EncoderSpec(ENCODER, 32))
    assert sync(synced, load).chunks_encoded == 0
    assert is_clean(synced)


def test_an_edit_is_encoded_once_for_both_generations(synced: sa.Engine) -> None:
    begin(synced, encoder=TRAINED)
    sync(synced, load)
    execute(synced, "UPDATE article SET title = 'walnut' WHERE id = 2")
    assert sync(synced, load).chunks_encoded == 1
    assert is_clean(synced)
    assert vectors(synced, "next") == vectors(synced, "live")


def test_edits_during_the_copy_are_never_overwritten_with_older_vectors(synced: sa.Engine) -> None:
    execute(synced, "UPDATE article SET title = 'walnut' WHERE id = 2")
    begin(synced, encoder=TRAINED)
    execute(synced, "UPDATE article SET title = 'copper' WHERE id = 3")
    execute(synced, "DELETE FROM article WHERE id = 4")
    assert sync(synced, load).chunks_encoded == 2
    assert is_clean(synced)
    assert vectors(synced, "next") == vectors(synced, "live")
    assert vectors(synced, "next").keys() == {0, 1, 2, 3}


def test_other_vectors_of_documents_are_never_reused(synced: sa.Engine) -> None:
    begin(synced, encoder=TRAINED)
    assert sync(synced, load_other).chunks_encoded == len(TEXTS)
    assert is_clean(synced)


def test_vectors_of_another_storage_are_not_reused(synced: sa.Engine) -> None:
    begin(synced, encoder=TRAINED, storage="vector")
    assert sync(synced, load).chunks_encoded == len(TEXTS)
    assert is_clean(synced)


def test_a_searcher_is_still_told_from_the_live_one_by_the_whole_fingerprint(synced: sa.Engine) -> None:
    begin(synced, encoder=TRAINED)
    sync(synced, load)
    generations.switch(synced, NAME)
    with pytest.raises(errors.EncoderMismatch, match=r"'trained'.*'hashed:32'"):
        first(synced, "harbour", Searcher(encoder(), follow=False))


def test_a_chunk_that_claims_to_be_of_the_other_encoder_is_found_and_repaired(synced: sa.Engine) -> None:
    begin(synced, encoder=TRAINED)
    sync(synced, load)
    execute(synced, f"ALTER TABLE {NAME}__next DROP CONSTRAINT {NAME}__next_encoder")
    execute(synced, f"UPDATE {NAME}__next SET encoder_id = :id WHERE id = 1", id=Article.semantic.spec.encoder.id)
    [report] = [verify.verify(synced, one) for role, one in all_of(synced).items() if role == "next"]
    assert report.wrong_encoder == 1
    repair.repair(synced, all_of(synced)["next"])
    assert sync(synced, load).chunks_encoded == 0
    assert is_clean(synced)
