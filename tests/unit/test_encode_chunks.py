import uuid
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic import errors
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index import chunk_tables, hashing
from pg_semantic.index.chunking import TextChunk
from pg_semantic.index.spec import EncoderSpec, IndexSpec, KeyColumn
from pg_semantic.jobqueue import Claim, Job
from pg_semantic.worker import encode_chunks
from pg_semantic.worker.batch import Batch, BatchRow

DIMENSIONS = 16
POISON = "poison"

_spec = IndexSpec(
    name="article_semantic",
    table="article",
    key=(KeyColumn("id", "integer"),),
    columns=("body",),
    encoder=EncoderSpec(f"hashed:{DIMENSIONS}", DIMENSIONS),
)
_tables = chunk_tables.build(_spec)


class Fussy(HashedEncoder):
    """Raises for a batch with the word ``poison`` in it, and remembers the batches that it was given."""

    def __init__(self, bad_vector: float | None = None) -> None:
        super().__init__(DIMENSIONS)
        self.given: list[list[str]] = []
        self._bad_vector = bad_vector

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.given.append(list(texts))
        poisoned = [POISON in text for text in texts]
        if self._bad_vector is None and any(poisoned):
            raise RuntimeError("that was poison")
        vectors = super().encode_documents(texts)
        if self._bad_vector is not None:
            vectors[poisoned] = self._bad_vector
        return vectors


def batch_of(*texts: str) -> Batch:
    """A batch with one row a text, each of one new chunk."""
    jobs = [Job(str(number), 1) for number in range(len(texts))]
    rows = [
        BatchRow(
            job,
            (job.key.encode(),),
            text,
            hashing.content_hash(text),
            new=((0, TextChunk(text, 1, truncated=False)),),
            kept=(),
            truncated=False,
        )
        for job, text in zip(jobs, texts, strict=True)
    ]
    return Batch(_tables, Claim(1, uuid.UUID(int=0), tuple(jobs)), rows)


def hashes(*texts: str) -> set[bytes]:
    return {hashing.content_hash(text) for text in texts}


def test_every_text_gets_the_vector_that_the_encoder_makes_of_it() -> None:
    batch = batch_of("tea", "coffee")
    encode_chunks.encode(batch, HashedEncoder(DIMENSIONS))
    for text in ("tea", "coffee"):
        expected = HashedEncoder(DIMENSIONS).encode_documents([text])[0]
        np.testing.assert_array_equal(batch.vectors[hashing.content_hash(text)], expected)
    assert batch.encoded == 2


@given(st.lists(st.tuples(st.text("abc", min_size=1), st.booleans()), max_size=30))
def test_a_text_that_breaks_the_encoder_breaks_no_other(texts: list[tuple[str, bool]]) -> None:
    good = {text for text, poisoned in texts if not poisoned}
    bad = {f"{text} {POISON}" for text, poisoned in texts if poisoned}
    batch = batch_of(*good, *bad)
    encode_chunks.encode(batch, Fussy())
    assert batch.vectors.keys() == hashes(*good)
    assert batch.broken.keys() == hashes(*bad)
    assert batch.encoded == len(good)


@pytest.mark.parametrize("error", [errors.EncoderUnavailable, errors.EncoderMismatch])
def test_an_encoder_that_can_not_be_used_is_asked_once_and_breaks_no_text(error: type[Exception]) -> None:
    class Away(Fussy):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            self.given.append(list(texts))
            raise error("away")

    encoder, batch = Away(), batch_of("tea", "coffee")
    with pytest.raises(error, match="away"):
        encode_chunks.encode(batch, encoder)
    assert encoder.given == [["coffee", "tea"]]
    assert batch.broken == {}


def test_a_panic_of_rust_code_breaks_only_its_text_and_the_end_of_the_process_breaks_none() -> None:
    panic: type[BaseException] = type("PanicException", (BaseException,), {})  # as pyo3 names it

    class Panicking(Fussy):
        error = panic

        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            if POISON in texts:
                raise self.error("called `Option::unwrap()` on a `None` value")
            return super().encode_documents(texts)

    encoder, batch = Panicking(), batch_of("tea", POISON)
    encode_chunks.encode(batch, encoder)
    assert batch.vectors.keys() == hashes("tea")
    assert batch.broken.keys() == hashes(POISON)
    encoder.error = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        encode_chunks.encode(batch_of("tea", POISON), encoder)


def test_a_row_whose_text_breaks_the_encoder_says_why() -> None:
    batch = batch_of("tea", POISON)
    encode_chunks.encode(batch, Fussy())
    assert [batch.failure(row) for row in batch.rows] == [None, "RuntimeError: that was poison"]


@pytest.mark.parametrize("number", [0.0, float("nan"), float("inf")])
def test_a_vector_that_can_not_be_stored_is_reported_and_its_batch_mates_are_kept(number: float) -> None:
    batch = batch_of("tea", POISON, "coffee")
    encode_chunks.encode(batch, Fussy(bad_vector=number))
    assert batch.vectors.keys() == hashes("tea", "coffee")
    assert "a vector that is all zeros, or has NaN, infinity" in (batch.failure(batch.rows[1]) or "")
    assert batch.encoded == 2


def test_one_number_that_is_not_finite_spoils_a_vector() -> None:
    class Cracked(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            vectors = super().encode_documents(texts)
            vectors[:, 3] = np.nan
            return vectors

    batch = batch_of("tea")
    encode_chunks.encode(batch, Cracked(DIMENSIONS))
    assert batch.broken.keys() == hashes("tea")


def test_equal_texts_are_encoded_once() -> None:
    encoder, batch = Fussy(), batch_of("tea", "tea", "coffee")
    encode_chunks.encode(batch, encoder)
    assert encoder.given == [["coffee", "tea"]]


def test_a_text_whose_vector_is_known_is_not_encoded() -> None:
    encoder, batch = Fussy(), batch_of("tea", "coffee")
    known = np.ones(DIMENSIONS, np.float32)
    batch.vectors[hashing.content_hash("tea")] = known
    encode_chunks.encode(batch, encoder)
    assert encoder.given == [["coffee"]]
    assert batch.vectors[hashing.content_hash("tea")] is known


def test_an_encoder_is_left_alone_when_nothing_is_missing() -> None:
    encoder = Fussy()
    encode_chunks.encode(batch_of(), encoder)
    assert encoder.given == []
