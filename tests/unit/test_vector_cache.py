import uuid

import numpy as np
from numpy.typing import NDArray

from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index import chunk_tables, hashing
from pg_semantic.index.chunking import TextChunk
from pg_semantic.index.spec import EncoderSpec, IndexSpec, KeyColumn, Storage
from pg_semantic.jobqueue import Claim, Job
from pg_semantic.worker.batch import Batch, BatchRow
from pg_semantic.worker.vector_cache import VectorCache

REMEMBERED_BYTES = 16_000_000


def tables_of(
    reference: str, dimensions: int, *, name: str = "article_semantic", storage: Storage = "halfvec", **prompts: str
) -> chunk_tables.Tables:
    spec = IndexSpec(
        name=name,
        table="article",
        key=(KeyColumn("id", "integer"),),
        columns=("body",),
        encoder=EncoderSpec(reference, dimensions, **prompts),
        storage=storage,
    )
    return chunk_tables.build(spec)


SMALL = tables_of("hashed:8", 8)
LARGE = tables_of("hashed:4000", 4000)


def batch_of(tables: chunk_tables.Tables, *texts: str) -> Batch:
    """A batch of one row with a new chunk for each text."""
    job = Job("1", 1)
    chunks = tuple((number, TextChunk(text, 1, truncated=False)) for number, text in enumerate(texts))
    row = BatchRow(job, (b"1",), "", b"", new=chunks, kept=(), truncated=False)
    return Batch(tables, Claim(1, uuid.UUID(int=0), (job,)), [row])


def vector_of(tables: chunk_tables.Tables, number: float) -> NDArray[np.float32]:
    return np.full(tables.spec.encoder.dimensions, number, np.float32)


def encoded(tables: chunk_tables.Tables, *texts: str, number: float = 1.0) -> Batch:
    """The same with vectors, which share their cache."""
    batch, vector = batch_of(tables, *texts), vector_of(tables, number)
    batch.vectors = {hashing.content_hash(text): vector for text in texts}
    return batch


def encoder_of(tables: chunk_tables.Tables) -> HashedEncoder:
    spec = tables.spec.encoder
    return HashedEncoder(
        spec.dimensions, query_prompt=spec.query_prompt or "", document_prompt=spec.document_prompt or ""
    )


def lent(cache: VectorCache, tables: chunk_tables.Tables, *texts: str) -> set[str]:
    """The texts that the cache has a vector of."""
    batch = batch_of(tables, *texts)
    cache.fill(batch, encoder_of(tables))
    return {text for text in texts if hashing.content_hash(text) in batch.vectors}


def test_a_vector_that_was_kept_is_lent_to_a_later_batch_of_the_same_text() -> None:
    cache = VectorCache()
    cache.store(encoded(SMALL, "tea", number=0.5), encoder_of(SMALL))
    batch = batch_of(SMALL, "tea", "coffee")
    cache.fill(batch, encoder_of(SMALL))
    assert batch.missing() == {hashing.content_hash("coffee"): "coffee"}
    np.testing.assert_array_equal(batch.vectors[hashing.content_hash("tea")], vector_of(SMALL, 0.5))


def test_indexes_of_one_encoder_lend_to_each_other() -> None:
    cache = VectorCache()
    cache.store(encoded(SMALL, "tea"), encoder_of(SMALL))
    assert lent(cache, tables_of("hashed:8", 8, name="note_semantic"), "tea") == {"tea"}


def test_a_vector_of_another_encoder_is_never_lent() -> None:
    cache = VectorCache()
    cache.store(encoded(SMALL, "tea"), encoder_of(SMALL))
    assert lent(cache, LARGE, "tea") == set()
    assert lent(cache, tables_of("hashed:8", 8, document_prompt="a page: "), "tea") == set()


def test_a_vector_that_may_have_been_stored_in_16_bits_is_not_lent_to_a_copy_with_32() -> None:
    cache = VectorCache()
    cache.store(encoded(SMALL, "tea"), encoder_of(SMALL))
    assert lent(cache, tables_of("hashed:8", 8, storage="vector"), "tea") == set()
    assert lent(cache, SMALL, "tea") == {"tea"}


def test_encoders_that_differ_only_in_how_they_encode_queries_lend_to_each_other() -> None:
    cache = VectorCache()
    cache.store(encoded(SMALL, "tea"), encoder_of(SMALL))
    assert lent(cache, tables_of("hashed:8", 8, query_prompt="a question: "), "tea") == {"tea"}


def test_what_a_batch_has_already_is_left_as_it_is() -> None:
    cache = VectorCache()
    cache.store(encoded(SMALL, "tea", number=0.5), encoder_of(SMALL))
    batch = encoded(SMALL, "tea", number=0.25)
    cache.fill(batch, encoder_of(SMALL))
    np.testing.assert_array_equal(batch.vectors[hashing.content_hash("tea")], vector_of(SMALL, 0.25))


def test_only_texts_of_the_batch_are_lent() -> None:
    cache = VectorCache()
    cache.store(encoded(SMALL, "tea", "coffee"), encoder_of(SMALL))
    batch = batch_of(SMALL, "tea")
    cache.fill(batch, encoder_of(SMALL))
    assert batch.vectors.keys() == {hashing.content_hash("tea")}


def test_the_oldest_are_forgotten_beyond_the_size_and_no_others() -> None:
    cache, room = VectorCache(), REMEMBERED_BYTES // (4 * 4000 + 400)
    texts = [f"text {number}" for number in range(room + 3)]
    cache.store(encoded(LARGE, *texts[:room]), encoder_of(LARGE))
    assert lent(cache, LARGE, *texts[:room]) == set(texts[:room])
    cache.store(encoded(LARGE, *texts[room:]), encoder_of(LARGE))
    assert lent(cache, LARGE, *texts) == set(texts[3:])


def test_a_batch_beyond_the_size_leaves_its_last_vectors() -> None:
    cache, room = VectorCache(), REMEMBERED_BYTES // (4 * 4000 + 400)
    texts = [f"text {number}" for number in range(2 * room)]
    cache.store(encoded(LARGE, *texts), encoder_of(LARGE))
    assert lent(cache, LARGE, *texts) == set(texts[room:])


def test_the_room_of_one_encoder_is_not_that_of_another() -> None:
    cache, room = VectorCache(), REMEMBERED_BYTES // (4 * 4000 + 400)
    cache.store(encoded(SMALL, "tea"), encoder_of(SMALL))
    cache.store(encoded(LARGE, *(f"text {number}" for number in range(room + 1))), encoder_of(LARGE))
    assert lent(cache, SMALL, "tea") == {"tea"}
