"""The first backfill of an index: workers claim its rows page by page, without a job for each row beforehand."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic import jobqueue
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.jobqueue import Claim, Claimable
from pg_semantic.operations import status
from pg_semantic.settings import Settings
from pg_semantic.worker import backfill, encode_chunks, read_rows, write_chunks
from pg_semantic.worker.held_claims import HeldClaims
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, Article, Base, encoder, execute, fold, generation_of, jobs, rows, sync, truth

LEASE = 60.0


@pytest.fixture
def unread(engine: sa.Engine) -> sa.Engine:
    """250 articles that are older than their index."""
    Article.__table__.create(engine)  # type: ignore[attr-defined]
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 250) i")
    Base.metadata.create_all(engine)
    return engine


def claim(engine: sa.Engine, count: int = 100) -> Claim | None:
    generation = generation_of(engine)
    return backfill.claim(engine, generation.tables, generation.id, rows=count, lease_seconds=LEASE)


def some(engine: sa.Engine, count: int = 100) -> Claim:
    found = claim(engine, count)
    assert found is not None
    return found


def written(engine: sa.Engine, claimed: Claim) -> int:
    """Reads, encodes and writes a claim. Returns how many of its rows were written."""
    batch = read_rows.read(engine, generation_of(engine).tables, claimed, counter=encoder())
    encode_chunks.encode(batch, encoder())
    return write_chunks.write(engine, batch, settings=Settings())


def test_it_goes_on_from_the_page_where_it_stopped(unread: sa.Engine) -> None:
    claims = [claim(unread) for _ in range(4)]
    assert [one and len(one.jobs) for one in claims] == [100, 100, 50, None]
    assert generation_of(unread).backfilled
    assert len(jobs(unread)) == 250


def test_it_ends_with_an_empty_page_if_the_last_one_is_full(unread: sa.Engine) -> None:
    claims = [claim(unread, 125) for _ in range(4)]
    assert [one and len(one.jobs) for one in claims] == [125, 125, 0, None]
    assert generation_of(unread).backfilled


def test_a_page_that_another_worker_is_taking_is_left_to_it(unread: sa.Engine) -> None:
    with unread.begin() as other:
        other.execute(sa.text("SELECT FROM semantic.generation FOR UPDATE"))
        assert claim(unread) is None
    assert len(some(unread).jobs) == 100


def test_the_queue_never_has_more_rows_than_workers_have_in_hand(unread: sa.Engine) -> None:
    waiting = []

    class Counting(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            waiting.extend(rows(unread, "SELECT count(*) FROM semantic.job"))
            return super().encode_documents(texts)

    assert sync(unread, lambda *_, **__: Counting(32), batch_rows=10).rows == 250
    assert max(count for (count,) in waiting) <= 30  # one batch is read, one is encoded, and one written
    assert truth(unread) == CLEAN


def test_each_row_is_claimed_by_one_of_two_workers(unread: sa.Engine) -> None:
    both = [
        Worker(unread, Settings(batch_rows=10), load=lambda *_, **__: HashedEncoder(32)),
        Worker(unread, Settings(batch_rows=10), load=lambda *_, **__: HashedEncoder(32)),
    ]
    threads = [threading.Thread(target=one.run, args=(threading.Event(),), kwargs={"once": True}) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(one.progress.rows for one in both) == 250
    assert truth(unread) == CLEAN
    assert jobs(unread) == set()


def test_a_row_that_has_a_job_is_left_to_it(unread: sa.Engine) -> None:
    execute(unread, "UPDATE article SET title = 'new' WHERE id IN (3, 5)")
    fold(unread)
    execute(unread, "UPDATE semantic.job SET state = 'failed', error = 'no good' WHERE key = '5'")
    assert {"3", "5"}.isdisjoint(job.key for job in some(unread).jobs)
    assert rows(unread, "SELECT key, state, priority FROM semantic.job WHERE key IN ('3', '5') ORDER BY key") == [
        ("3", "pending", 0),
        ("5", "failed", 0),
    ]


def test_an_edit_of_a_claimed_row_voids_its_claim(unread: sa.Engine) -> None:
    claimed = some(unread, 10)
    batch = read_rows.read(unread, generation_of(unread).tables, claimed, counter=encoder())
    execute(unread, "UPDATE article SET title = 'new' WHERE id = 3")
    fold(unread)
    encode_chunks.encode(batch, encoder())
    assert write_chunks.write(unread, batch, settings=Settings()) == 9
    sync(unread)
    assert truth(unread) == CLEAN


@contextlib.contextmanager
def edited_before_the_jobs_of_a_page(engine: sa.Engine, then: Callable[[Claim], object]) -> Iterator[None]:
    """When a worker has found the rows of its first page and creates their jobs, another claims an edit of one."""
    edits: list[Claim | None] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def edit(*call: Any) -> None:
        if "INSERT INTO semantic.job (" in call[2] and "article" in call[2] and not edits:
            edits.append(None)
            execute(engine, "UPDATE article SET title = 'new' WHERE id = 3")
            held = HeldClaims(engine, Settings(lease_seconds=LEASE))
            edits[0] = held.take(Claimable(generation_of(engine).id, jobqueue.EDIT), 10)
            assert edits[0] is not None
            then(edits[0])

    yield
    assert edits


def test_a_text_is_read_after_its_job_was_committed(unread: sa.Engine) -> None:
    """Otherwise an edit that another worker has synced meanwhile would be overwritten with the text before it."""
    with edited_before_the_jobs_of_a_page(unread, then=lambda edit: written(unread, edit)):
        sync(unread)
    assert truth(unread) == CLEAN
    assert jobs(unread) == set()


def test_a_row_that_another_worker_claims_meanwhile_is_left_to_it(unread: sa.Engine) -> None:
    with edited_before_the_jobs_of_a_page(unread, then=lambda _: None):
        assert {int(job.key) for job in some(unread, 10).jobs} == {1, 2, *range(4, 11)}


def test_a_mark_without_a_key_has_every_row_looked_at_again(unread: sa.Engine) -> None:
    assert written(unread, some(unread)) == 100
    execute(unread, "DELETE FROM article_semantic WHERE id = 7")
    execute(unread, "INSERT INTO semantic.mark SELECT id, NULL FROM semantic.generation")
    fold(unread)
    assert claim(unread) is None, "it compares from now on"
    sync(unread)
    assert truth(unread) == CLEAN


def test_rows_of_a_worker_that_is_lost_are_claimed_by_another(unread: sa.Engine) -> None:
    lost = some(unread)
    execute(unread, "UPDATE semantic.job SET lease_until = now() - interval '1 second'")
    assert sync(unread, retry_seconds=1e-9).rows == 250
    assert truth(unread) == CLEAN
    assert written(unread, lost) == 0


def test_rows_that_a_worker_gives_back_have_no_attempt_counted(unread: sa.Engine) -> None:
    held = HeldClaims(unread, Settings(lease_seconds=LEASE))
    generation = generation_of(unread)
    assert held.take(Claimable(generation.id, jobqueue.BACKFILL), 100, tables=generation.tables) is not None
    held.close()
    states = "SELECT DISTINCT state, attempts, priority, claim FROM semantic.job"
    assert rows(unread, states) == [("pending", 0, jobqueue.BACKFILL, None)]


def test_waiting_jobs_of_backfill_go_before_another_page(unread: sa.Engine) -> None:
    with unread.begin() as connection:
        jobqueue.enqueue(connection, generation_of(unread).id, ["200", "201"])
    held, generation = HeldClaims(unread, Settings(lease_seconds=LEASE)), generation_of(unread)
    turn = Claimable(generation.id, jobqueue.BACKFILL)
    first, second = (held.take(turn, 100, tables=generation.tables) for _ in range(2))
    assert first is not None
    assert second is not None
    assert {job.key for job in first.jobs} == {"200", "201"}
    assert {job.key for job in second.jobs} == {str(number) for number in range(1, 101)}


def test_a_row_that_must_be_alone_has_no_page_beside_it(unread: sa.Engine) -> None:
    generation = generation_of(unread)
    held = HeldClaims(unread, Settings(lease_seconds=LEASE))
    turn = Claimable(generation.id, jobqueue.BACKFILL)
    assert held.take(turn, 10, tables=generation.tables) is not None
    with unread.begin() as connection:
        jobqueue.enqueue(connection, generation.id, ["200"])
        connection.execute(sa.text("UPDATE semantic.job SET claim_limit = 1 WHERE key = '200'"))
    assert held.take(turn, 10, tables=generation.tables) is None
    assert rows(unread, "SELECT backfill_rows FROM semantic.generation") == [(10,)]


def test_status_counts_the_rows_that_are_not_reached_yet(unread: sa.Engine) -> None:
    some(unread)
    with unread.connect() as connection:
        [found] = status.read(connection).indexes
    assert (found.backfill_left, found.processing, found.waiting) == (150, 100, 250)


def test_a_key_that_no_index_can_hold_is_passed_over(engine: sa.Engine) -> None:
    given = sa.select(sa.values(sa.column("key", sa.Text)).data([("a",), ("x" * 2700,)]).alias("given").c.key)
    with engine.begin() as connection:
        claimed = jobqueue.enqueue_claimed(connection, 7, given, lease_seconds=LEASE)
    assert [job.key for job in claimed.jobs] == ["a"]
