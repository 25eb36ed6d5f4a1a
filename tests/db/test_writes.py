"""How a batch is written: in transactions of a certain size, on several connections, with COPY if possible."""

import contextlib
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, jobqueue
from pg_semantic.jobqueue import Claim
from pg_semantic.settings import Settings
from pg_semantic.worker import encode_chunks, read_rows, write_chunks
from pg_semantic.worker.batch import Batch
from pg_semantic.worker.write_size import WriteSizer
from tests.db.library import CLEAN, ENCODER, encoder, execute, fold, generation_of, jobs, rows, sync, truth

RECEIPTS = "SELECT id, source_hash, chunk_count, truncated, lexemes, weights::text, weights_length FROM {} ORDER BY id"


class Base(DeclarativeBase):
    pass


class Scroll(Base):
    __tablename__ = "scroll"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str | None]

    semantic = SemanticIndex("text", encoder=ENCODER)


def batch_of(engine: sa.Engine, count: int, *, index: str = "article_semantic") -> Batch:
    """Edits that are claimed, read and encoded."""
    fold(engine)
    generation = generation_of(engine, index)
    with engine.begin() as connection:
        claim: Claim = jobqueue.claim(connection, generation.id, rows=count, lease_seconds=3600)
    batch = read_rows.read(engine, generation.tables, claim, counter=encoder())
    encode_chunks.encode(batch, encoder())
    return batch


@contextlib.contextmanager
def transactions(engine: sa.Engine) -> Any:
    """The numbers of rows that transactions lock."""
    found: list[int] = []

    def look(*call: Any) -> None:
        if "FOR KEY SHARE" in call[2]:
            found.append(len(next(value for value in call[3].values() if isinstance(value, list))))

    sa.event.listen(engine, "before_cursor_execute", look)
    yield found
    sa.event.remove(engine, "before_cursor_execute", look)


def test_a_receipt_that_is_copied_is_equal_to_one_that_is_updated(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(
        engine, "INSERT INTO scroll VALUES (1, 'the tea cup, ''tea'' pot'), (2, ' '), (3, NULL), (4, 'naïve 茶 a:b')"
    )
    sync(engine)
    copied = rows(engine, RECEIPTS.format("scroll_semantic_receipt"))
    execute(engine, "UPDATE scroll_semantic_receipt SET source_hash = '', lexemes = '', weights = '{}/1000000000'")
    execute(engine, "INSERT INTO semantic.mark (generation_id) SELECT id FROM semantic.generation")
    sync(engine)
    assert rows(engine, RECEIPTS.format("scroll_semantic_receipt")) == copied
    assert [row[0] for row in copied if row[4]] == [1, 4]


def test_weights_are_computed_again_if_the_average_length_has_changed_meanwhile(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO scroll SELECT i, 'tea cup' FROM generate_series(1, 30) AS i")
    sync(engine)
    execute(engine, "INSERT INTO scroll VALUES (31, 'milk jug')")
    batch = batch_of(engine, 1, index="scroll_semantic")
    changed: list[float] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def recount(*call: Any) -> None:
        if "FOR KEY SHARE" in call[2] and not changed:
            changed.append(7.5)
            execute(engine, "UPDATE semantic.lexicon SET weights_length = 7.5")

    assert write_chunks.write(engine, batch, settings=Settings()) == 1
    assert changed
    assert rows(engine, "SELECT weights_length FROM scroll_semantic_receipt WHERE id = 31") == [(7.5,)]


@pytest.mark.parametrize("connections", [1, 3])
def test_every_row_of_a_batch_is_written_once_on_any_number_of_connections(
    articles: sa.Engine, connections: int
) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    batch = batch_of(articles, 50)
    locks = [contextlib.nullcontext()] * connections
    with transactions(articles) as found:
        assert write_chunks.write(articles, batch, settings=Settings(write_seconds=1e-9), locks=locks) == 50
    assert found == [1] * 50
    assert jobs(articles) == set()
    assert truth(articles) == CLEAN


def test_a_vector_index_that_is_there_meanwhile_makes_transactions_smaller(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    batch, size = batch_of(articles, 50), WriteSizer(0.05)
    for _ in range(3):
        size.learn(size.chunks, 1e-6)
    execute(articles, "CREATE INDEX ON article_semantic USING hnsw (vector halfvec_cosine_ops)")
    with transactions(articles) as found:
        assert write_chunks.write(articles, batch, settings=Settings(), size=size) == 50
    assert (found[:2], sum(found)) == ([50, 32], 100), "the first one writes nothing"
    assert truth(articles) == CLEAN


def test_what_was_committed_is_counted_although_another_connection_fails(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 50) i")
    batch = batch_of(articles, 50)
    execute(
        articles,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN "
        "IF new.id = 25 THEN RAISE disk_full; END IF; RETURN new; END $body$",
    )
    execute(articles, "CREATE TRIGGER refuse BEFORE INSERT ON article_semantic FOR EACH ROW EXECUTE FUNCTION refuse()")
    locks = [contextlib.nullcontext()] * 2
    with pytest.raises(sa.exc.DBAPIError, match="disk_full"):
        write_chunks.write(articles, batch, settings=Settings(write_seconds=1e-9), locks=locks)
    [(synced,)] = rows(articles, "SELECT count(*) FROM article_semantic_receipt")
    assert batch.written == synced
    assert 0 < synced < 40, "both stop soon after"
