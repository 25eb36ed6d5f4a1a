import uuid

import numpy as np
from numpy.typing import NDArray

from pg_semantic import hashing, schema
from pg_semantic.chunking import Chunk
from pg_semantic.jobqueue import Claim, Job
from pg_semantic.spec import EncoderSpec, IndexSpec, KeyColumn
from pg_semantic.sync.batch import Batch, Row
from pg_semantic.sync.memory import Memory

REMEMBERED_BYTES = 16_000_000


def tables_of(reference: str, dimensions: int, *, name: str = "article_semantic") -> schema.Tables:
    spec = IndexSpec(
        name=name,
        table="article",
        key=(KeyColumn("id", "integer"),),
        columns=("body",),
        encoder=EncoderSpec(reference, dimensions),
    )
    return schema.build(spec)


SMALL = tables_of("hashed:8", 8)
LARGE = tables_of("hashed:4000", 4000)


def batch_of(tables: schema.Tables, *texts: str) -> Batch:
    """A batch of one row with a new chunk for each text."""
    job = Job("1", 1)
    chunks = tuple((number, Chunk(text, 1, truncated=False)) for number, text in enumerate(texts))
    row = Row(job, (b"1",), "", b"", new=chunks, kept=(), truncated=False)
    return Batch(tables, Claim(1, uuid.UUID(int=0), (job,)), [row])


def vector_of(tables: schema.Tables, number: float) -> NDArray[np.float32]:
    return np.full(tables.spec.encoder.dimensions, number, np.float32)


def encoded(tables: schema.Tables, *texts: str, number: float = 1.0) -> Batch:
    """The same with vectors, which share their memory."""
    batch, vector = batch_of(tables, *texts), vector_of(tables, number)
    batch.vectors = {hashing.content_hash(text): vector for text in texts}
    return batch


def lent(memory: Memory, tables: schema.Tables, *texts: str) -> set[str]:
    """The texts that the memory has a vector of."""
    batch = batch_of(tables, *texts)
    memory.lend(batch)
    return {text for text in texts if hashing.content_hash(text) in batch.vectors}


def test_a_vector_that_was_kept_is_lent_to_a_later_batch_of_the_same_text() -> None:
    memory = Memory()
    memory.keep(encoded(SMALL, "tea", number=0.5))
    batch = batch_of(SMALL, "tea", "coffee")
    memory.lend(batch)
    assert batch.missing() == {hashing.content_hash("coffee"): "coffee"}
    np.testing.assert_array_equal(batch.vectors[hashing.content_hash("tea")], vector_of(SMALL, 0.5))


def test_indexes_of_one_encoder_lend_to_each_other() -> None:
    memory = Memory()
    memory.keep(encoded(SMALL, "tea"))
    assert lent(memory, tables_of("hashed:8", 8, name="note_semantic"), "tea") == {"tea"}


def test_a_vector_of_another_encoder_is_never_lent() -> None:
    memory = Memory()
    memory.keep(encoded(SMALL, "tea"))
    assert lent(memory, LARGE, "tea") == set()
    assert lent(memory, tables_of("other/encoder", 8), "tea") == set()


def test_what_a_batch_has_already_is_left_as_it_is() -> None:
    memory = Memory()
    memory.keep(encoded(SMALL, "tea", number=0.5))
    batch = encoded(SMALL, "tea", number=0.25)
    memory.lend(batch)
    np.testing.assert_array_equal(batch.vectors[hashing.content_hash("tea")], vector_of(SMALL, 0.25))


def test_only_texts_of_the_batch_are_lent() -> None:
    memory = Memory()
    memory.keep(encoded(SMALL, "tea", "coffee"))
    batch = batch_of(SMALL, "tea")
    memory.lend(batch)
    assert batch.vectors.keys() == {hashing.content_hash("tea")}


def test_the_oldest_are_forgotten_beyond_the_size_and_no_others() -> None:
    memory, room = Memory(), REMEMBERED_BYTES // (4 * 4000 + 400)
    texts = [f"text {number}" for number in range(room + 3)]
    memory.keep(encoded(LARGE, *texts[:room]))
    assert lent(memory, LARGE, *texts[:room]) == set(texts[:room])
    memory.keep(encoded(LARGE, *texts[room:]))
    assert lent(memory, LARGE, *texts) == set(texts[3:])


def test_a_batch_beyond_the_size_leaves_its_last_vectors() -> None:
    memory, room = Memory(), REMEMBERED_BYTES // (4 * 4000 + 400)
    texts = [f"text {number}" for number in range(2 * room)]
    memory.keep(encoded(LARGE, *texts))
    assert lent(memory, LARGE, *texts) == set(texts[room:])


def test_the_room_of_one_encoder_is_not_that_of_another() -> None:
    memory, room = Memory(), REMEMBERED_BYTES // (4 * 4000 + 400)
    memory.keep(encoded(SMALL, "tea"))
    memory.keep(encoded(LARGE, *(f"text {number}" for number in range(room + 1))))
    assert lent(memory, SMALL, "tea") == {"tea"}
