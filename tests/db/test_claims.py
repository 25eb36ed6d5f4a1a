"""What a worker gives back while somebody has it locked, as its own heartbeat may: it is not forgotten."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic import jobqueue
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.jobqueue import Claim, Claimable
from pg_semantic.operations import create_index
from pg_semantic.settings import Settings
from pg_semantic.worker import backfill
from pg_semantic.worker.held_claims import HeldClaims
from pg_semantic.worker.worker import Worker
from tests.db.library import CLEAN, ENCODER, execute, fold, generation_of, jobs, rows, sync, truth

LONG_LEASE = 3600.0
GENERATION = 7


def lock(connection: sa.Connection, *keys: str) -> None:
    connection.execute(sa.text("SELECT FROM semantic.job WHERE key = ANY (:keys) FOR UPDATE"), {"keys": list(keys)})


def claimed(engine: sa.Engine) -> dict[str, int]:
    """Attempts of the jobs that are claimed, by key."""
    return dict(rows(engine, "SELECT key, attempts FROM semantic.job WHERE claim IS NOT NULL"))


@pytest.fixture
def held(articles: sa.Engine) -> tuple[HeldClaims, Claim]:
    """Four jobs, all claimed."""
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 4) i")
    in_hand = HeldClaims(articles, Settings(lease_seconds=LONG_LEASE))
    claim = in_hand.take(Claimable(generation_of(articles).id, jobqueue.EDIT), 10)
    assert claim is not None
    return in_hand, claim


def finished(in_hand: HeldClaims, claim: Claim) -> None:
    in_hand.finish(claim)


def given_back(in_hand: HeldClaims, claim: Claim) -> None:
    in_hand.give_back(claim)


def beaten(in_hand: HeldClaims, claim: Claim) -> None:
    in_hand.give_back_left()
    in_hand.beat()
    in_hand.finish(claim)


@pytest.mark.parametrize("rest", [finished, given_back, beaten])
@pytest.mark.parametrize("release", [HeldClaims.give_back_left, HeldClaims.give_back_all, HeldClaims.close])
def test_a_locked_row_that_was_left_is_released_whatever_becomes_of_the_rest(
    articles: sa.Engine,
    held: tuple[HeldClaims, Claim],
    rest: Callable[[HeldClaims, Claim], None],
    release: Callable[[HeldClaims], None],
) -> None:
    in_hand, claim = held
    with articles.connect() as somebody:
        lock(somebody, "3")
        in_hand.leave(claim, ["3", "4"], at_once=True)
        assert set(claimed(articles)) == {"1", "2", "3"}
        rest(in_hand, claim)
        assert "3" in claimed(articles)
    release(in_hand)
    assert "3" not in claimed(articles)
    assert rows(articles, "SELECT state, attempts FROM semantic.job WHERE key IN ('3', '4')") == [("pending", 0)] * 2


def test_what_is_in_hand_stays_so_while_rows_that_were_left_are_released(
    articles: sa.Engine, held: tuple[HeldClaims, Claim]
) -> None:
    in_hand, claim = held
    with articles.connect() as somebody:
        lock(somebody, "3")
        in_hand.leave(claim, ["3"])
    in_hand.give_back_left()
    execute(articles, "UPDATE semantic.job SET lease_until = now() WHERE claim IS NOT NULL")
    in_hand.beat()
    assert rows(articles, "SELECT key FROM semantic.job WHERE lease_until > now() ORDER BY key") == [
        ("1",),
        ("2",),
        ("4",),
    ]


def test_the_lease_of_a_row_that_was_left_is_kept_until_it_is_released(
    articles: sa.Engine, held: tuple[HeldClaims, Claim]
) -> None:
    in_hand, claim = held
    with articles.connect() as somebody:
        lock(somebody, "3")
        in_hand.leave(claim, ["3"])
        in_hand.finish(claim)
    execute(articles, "UPDATE semantic.job SET lease_until = now() WHERE key = '3'")
    in_hand.beat()
    assert rows(articles, "SELECT lease_until > now() FROM semantic.job WHERE key = '3'") == [(True,)]


def test_rows_that_a_batch_has_no_room_for_wait_for_no_lease_when_somebody_has_them_locked(articles: sa.Engine) -> None:
    execute(
        articles, "INSERT INTO article SELECT i, 'title ' || i, repeat('x', 3000), 'en' FROM generate_series(1, 4) i"
    )
    fold(articles)
    somebody, looked = articles.connect(), threading.Event()

    def lock_what_is_looked_at(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "octet_length" in statement and claimed(articles) and not looked.is_set():
            looked.set()
            lock(somebody, "1", "2", "3", "4")

    class LetsGo(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            somebody.rollback()
            return super().encode_documents(texts)

    stop = threading.Event()
    worker = Worker(articles, Settings(batch_bytes=4000, lease_seconds=LONG_LEASE), load=lambda *_, **__: LetsGo(32))
    thread = threading.Thread(target=worker.run, args=(stop,), kwargs={"once": True})
    sa.event.listen(articles, "before_cursor_execute", lock_what_is_looked_at)
    thread.start()
    thread.join(20)
    done = not thread.is_alive()
    stop.set()
    thread.join(20)
    somebody.close()
    assert looked.is_set()
    assert done
    assert jobs(articles) == set()
    assert truth(articles) == CLEAN


def lose(engine: sa.Engine) -> None:
    """The workers that hold claims are gone, and others notice."""
    execute(engine, "UPDATE semantic.job SET lease_until = now() - interval '1 second' WHERE claim IS NOT NULL")
    HeldClaims(engine, Settings(retry_seconds=1e-9)).reap()


def in_hand_of(engine: sa.Engine, count: int) -> tuple[HeldClaims, list[Claim]]:
    """A worker that has taken what it can, but no more than ``count`` claims."""
    held = HeldClaims(engine, Settings(lease_seconds=LONG_LEASE))
    taken = (held.take(Claimable(GENERATION, jobqueue.BACKFILL), 2000) for _ in range(count))
    return held, [claim for claim in taken if claim is not None]


def test_a_row_that_ends_its_workers_is_parked_and_no_other(engine: sa.Engine) -> None:
    """One of 6,000 rows. A worker has three claims in its hands, as the stages of the pipeline have."""
    fill = (
        "INSERT INTO semantic.job (generation_id, key, priority) SELECT 7, i::text, 1 FROM generate_series(1, 6000) i"
    )
    execute(engine, fill)
    losses = 0
    while rows(engine, "SELECT FROM semantic.job WHERE state = 'pending' LIMIT 1"):
        held, taken = in_hand_of(engine, 3)
        if any(job.key == "4711" for claim in taken for job in claim.jobs):
            losses += 1
            lose(engine)
        else:
            for claim in taken:
                with engine.begin() as connection:
                    jobqueue.complete(connection, claim, [job.key for job in claim.jobs])
                held.finish(claim)
    assert rows(engine, "SELECT key, state, attempts FROM semantic.job") == [("4711", "failed", 5)]
    assert losses <= 4 + 5  # in groups of 2,000, 250, 31 and 3, and then alone


def test_a_row_that_must_be_alone_is_claimed_by_a_worker_that_holds_nothing_else_and_then_takes_nothing_else(
    engine: sa.Engine,
) -> None:
    execute(engine, "INSERT INTO semantic.job (generation_id, key, priority) VALUES (7, 'first', 1)")
    held, [first] = in_hand_of(engine, 1)
    execute(engine, "INSERT INTO semantic.job (generation_id, key, priority, claim_limit) VALUES (7, 'suspect', 1, 1)")
    execute(engine, "INSERT INTO semantic.job (generation_id, key, priority) VALUES (7, 'last', 1)")
    turn = Claimable(GENERATION, jobqueue.BACKFILL)
    assert held.take(turn, 10) is None
    held.finish(first)
    suspect = held.take(turn, 10)
    assert suspect is not None
    assert [job.key for job in suspect.jobs] == ["suspect"]
    assert held.take(turn, 10) is None
    held.finish(suspect)
    last = held.take(turn, 10)
    assert last is not None
    assert [job.key for job in last.jobs] == ["last"]


def claims_of_a_page(engine: sa.Engine) -> int:
    """How many claims of edits outlive a page of a backfill that compares and had looked at its rows before."""
    generation = generation_of(engine)
    taken: list[Claim | None] = []

    def claim_first(*call: Any) -> None:
        if "INSERT INTO semantic.job" in call[2] and not taken:
            taken.append(None)  # first, because taking inserts jobs too
            in_hand = HeldClaims(engine, Settings(lease_seconds=LONG_LEASE))
            taken.append(in_hand.take(Claimable(generation.id, jobqueue.EDIT), 10))

    sa.event.listen(engine, "before_cursor_execute", claim_first)
    assert backfill.advance(engine, generation.tables, generation.id)
    assert [len(claim.jobs) for claim in taken if claim] == [4]
    return len(claimed(engine))


def test_a_backfill_of_rows_that_may_have_changed_past_the_triggers_voids_claims(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 4) i")
    execute(articles, "UPDATE semantic.generation SET stale_since = now()")
    assert claims_of_a_page(articles) == 0


class Recording(HashedEncoder):
    """Remembers the order of the texts, and calls back before the first ones."""

    def __init__(self, first: Callable[[], None]) -> None:
        super().__init__(32)
        self.read: list[str] = []
        self._first = first

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if not self.read:
            self.read.append("")
            self._first()
        self.read.extend(texts)
        return super().encode_documents(texts)


@pytest.mark.parametrize("priority", [jobqueue.EDIT, jobqueue.BACKFILL])
def test_rows_that_must_be_alone_take_turns_with_the_backlog_of_another_index(
    articles: sa.Engine, priority: int
) -> None:
    execute(articles, "CREATE TABLE note (id int PRIMARY KEY, words text)")
    with articles.connect() as connection:
        spec = create_index.describe(connection, "note", columns=("words",), encoder=EncoderSpec(ENCODER, 32))
    create_index.create(articles, spec)
    execute(articles, "INSERT INTO note SELECT i, 'backlog ' || i FROM generate_series(1, 400) i")

    generation_id = generation_of(articles).id
    suspects = sa.text("INSERT INTO article SELECT i, 'suspect ' || i, NULL, 'en' FROM generate_series(1, 3) i")
    only_alone = sa.text("UPDATE semantic.job SET claim_limit = 1, priority = :priority WHERE generation_id = :id")

    def suspect_rows() -> None:
        with articles.begin() as connection:  # one transaction: the worker, claiming ahead, never sees them otherwise
            connection.execute(suspects)
            jobqueue.fold(connection, generation_id, priority=jobqueue.EDIT)
            connection.execute(only_alone, {"priority": priority, "id": generation_id})

    encoder = Recording(suspect_rows)
    sync(articles, lambda *_, **__: encoder, batch_rows=10)
    first, *_, last = [place for place, text in enumerate(encoder.read) if text.startswith("suspect")]
    assert last < len(encoder.read) / 2
    assert any(text.startswith("backlog") for text in encoder.read[first:last])
    assert truth(articles) == CLEAN


def test_a_heartbeat_comes_between_the_transactions_of_a_batch(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 100) i")
    worker = Worker(articles, Settings(write_seconds=1e-9, lease_seconds=LONG_LEASE))
    beats: list[threading.Thread] = []
    order: list[str] = []

    def look(*arguments: Any) -> None:
        statement = arguments[2]
        if "FOR KEY SHARE" in statement:
            order.append("write")
            if not beats:
                beats.append(threading.Thread(target=worker._held.beat))
                beats[0].start()
        elif "SET lease_until = now() +" in statement and "attempts" not in statement:
            order.append("beat")

    sa.event.listen(articles, "before_cursor_execute", look)
    worker.run(threading.Event(), once=True)
    beats[0].join(20)
    assert order.count("write") >= 40
    assert order.index("beat") < 30
    assert truth(articles) == CLEAN
