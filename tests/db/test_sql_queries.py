"""Queries of plain SQL, encoded by a running worker: asked for by CALL, answered once, bounded in time and number."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa

from pg_semantic import database, errors
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.settings import Settings
from pg_semantic.worker.worker import Worker
from tests.db.library import execute, rows, sync
from tests.waiting import eventually

CALL = "CALL semantic.embed_query('article_semantic', %s)"
SELECT = "SELECT id FROM article_semantic_search(%s, 3)"


class Counted(HashedEncoder):
    """Remembers what it is asked, waits while it is held, and cannot read what has `poison` in it."""

    def __init__(self) -> None:
        super().__init__(32)
        self.asked: list[list[str]] = []
        self.asking, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.asked.append(list(texts))
        self.asking.set()
        assert self.go_on.wait(20)
        if any("poison" in text for text in texts):
            raise ValueError("this is too much for me: \0 \udc80")
        if any("away" in text for text in texts):
            raise errors.EncoderUnavailable("It is away.")
        if any("zero" in text for text in texts):
            return np.zeros((len(texts), 32), np.float32)
        return super().encode_queries(texts)


def fill(engine: sa.Engine) -> None:
    execute(engine, "INSERT INTO article SELECT i, 'apple ' || i, NULL, 'en' FROM generate_series(1, 9) AS i")
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


@contextmanager
def working(dsn: str, encoder: HashedEncoder, **settings: int) -> Iterator[threading.Thread]:
    """A continuous worker with connections of its own, signed in."""
    engine, stop = database.connect(dsn), threading.Event()
    worker = Worker(engine, Settings(**settings), load=lambda *_, **__: encoder)  # type: ignore[arg-type]
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(20)
        engine.dispose()


@pytest.fixture
def answering(synced: sa.Engine, dsn: str) -> Iterator[Counted]:
    """A worker that answers, and has answered."""
    encoder = Counted()
    with working(dsn, encoder):
        patiently(dsn, "before all")
        encoder.asked.clear()
        encoder.asking.clear()
        yield encoder


def patiently(dsn: str, text: str) -> None:
    """Asks until there is a worker."""

    def is_asked() -> bool:
        try:
            call(dsn, text)
        except psycopg.errors.ObjectNotInPrerequisiteState:
            return False
        return True

    eventually(is_asked, "a worker")


def ask_together(encoder: Counted, dsn: str, texts: Sequence[str]) -> list[Future[None]]:
    """Asks for texts while the worker is at another, so that they wait together; their calls, ended."""
    encoder.go_on.clear()
    with ThreadPoolExecutor(1 + len(texts)) as threads:
        first = threads.submit(call, dsn, "the first")
        assert encoder.asking.wait(10)
        others = [threads.submit(call, dsn, text) for text in texts]
        until(dsn, f"SELECT count(*) = {1 + len(texts)} FROM semantic.query_request")
        encoder.go_on.set()
        first.result()
    return others


def is_answered(dsn: str, text: str) -> bool:
    try:
        call(dsn, text, options="-c semantic.wait_seconds=1")
    except psycopg.Error:
        return False
    return True


def vectors(text: str) -> Vectors:
    """What `Counted` makes of a text, shape (1, 32)."""
    return HashedEncoder(32).encode_queries([text])


def call(dsn: str, text: str, *, options: str = "") -> None:
    with psycopg.connect(dsn, autocommit=True, options=options) as connection:
        connection.execute(CALL, [text])


def test_a_call_leaves_the_vector_for_selects_also_in_a_transaction_that_only_reads(
    answering: Counted, synced: sa.Engine, dsn: str
) -> None:
    with (
        psycopg.connect(dsn) as connection,
        pytest.raises(
            psycopg.errors.ObjectNotInPrerequisiteState, match="a SELECT cannot ask a worker for it without dblink"
        ),
    ):
        connection.execute(SELECT, ["apple 3"])
    call(dsn, "apple 3")
    with psycopg.connect(dsn) as connection:
        connection.read_only = True
        assert connection.execute(SELECT, ["apple 3"]).fetchone() == (3,)
    assert answering.asked == [["apple 3"]]
    assert rows(synced, "SELECT count(*) FROM semantic.query_request") == [(0,)]


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_call_is_answered_at_any_isolation_level(answering: Counted, dsn: str, level: str) -> None:
    call(dsn, f"apple {level}", options=f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}")
    assert answering.asked == [[f"apple {level}"]]


def test_a_text_is_encoded_once_however_often_it_is_asked(answering: Counted, dsn: str) -> None:
    for _ in range(3):
        call(dsn, "apple")
    assert answering.asked == [["apple"]]


def test_texts_that_wait_are_encoded_together_and_each_gets_its_own_vector(
    answering: Counted, synced: sa.Engine, dsn: str
) -> None:
    for one in ask_together(answering, dsn, [f"another {number}" for number in range(8)]):
        one.result()
    assert answering.asked[0] == ["the first"]
    assert sorted(answering.asked[1]) == [f"another {number}" for number in range(8)]
    for text in ("the first", *answering.asked[1]):
        known = "SELECT semantic.cached_query_vector_v1(encoder_id, :text) FROM semantic.generation"
        assert np.array_equal(np.array(rows(synced, known, text=text)[0], np.float32), vectors(text))


def test_a_text_that_breaks_the_encoder_is_an_error_to_who_asked_and_to_nobody_else(
    answering: Counted, dsn: str
) -> None:
    bad, good = ask_together(answering, dsn, ["poison", "apple"])
    with pytest.raises(psycopg.Error, match=r"ValueError: this is too much for me: \\x00 \\udc80"):
        bad.result()
    good.result()


def test_an_encoder_that_is_away_is_asked_once_for_all_that_wait(answering: Counted, dsn: str) -> None:
    for one in ask_together(answering, dsn, [f"away {number}" for number in range(8)]):
        with pytest.raises(psycopg.Error, match="It is away"):
            one.result()
    assert [len(texts) for texts in answering.asked] == [1, 8]


def test_a_text_that_nobody_waits_for_any_more_is_not_encoded(answering: Counted, synced: sa.Engine, dsn: str) -> None:
    execute(
        synced,
        "INSERT INTO semantic.query_request (encoder_id, text, ends_at) "
        "SELECT id, text, now() + CAST(wait AS interval) FROM semantic.encoder, "
        "(VALUES ('forgotten', '-1 second'), ('apple', '1 minute')) AS asked (text, wait)",
    )
    execute(synced, "NOTIFY semantic_query")
    until(dsn, "SELECT count(*) = 1 FROM semantic.query_request")
    assert answering.asked == [["apple"]]


def test_a_vector_of_zeros_is_not_kept(answering: Counted, synced: sa.Engine, dsn: str) -> None:
    with pytest.raises(psycopg.Error, match="a vector that is all zeros"):
        call(dsn, "zero")
    known = "SELECT semantic.cached_query_vector_v1(encoder_id, 'zero') FROM semantic.generation"
    assert rows(synced, known) == [(None,)]


def test_without_a_worker_it_is_said_at_once(synced: sa.Engine, dsn: str) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="no worker is running"):
        call(dsn, "apple")


def test_a_worker_that_does_not_answer_is_waited_for_as_long_as_was_said(answering: Counted, dsn: str) -> None:
    answering.go_on.clear()
    with pytest.raises(psycopg.errors.QueryCanceled, match=r"was not encoded within 0\.3 seconds"):
        call(dsn, "apple", options="-c semantic.wait_seconds=0.3")
    answering.go_on.set()


@pytest.mark.parametrize(("timeout", "seconds"), [("1s", "0.8"), ("0", "0.9")])
def test_a_statement_timeout_does_not_end_a_call_before_it_says_what_is_wrong(
    answering: Counted, dsn: str, timeout: str, seconds: str
) -> None:
    answering.go_on.clear()
    with pytest.raises(psycopg.errors.QueryCanceled, match=rf"was not encoded within {seconds} seconds") as caught:
        call(dsn, "apple", options=f"-c statement_timeout={timeout} -c semantic.wait_seconds=0.9")
    assert "statement_timeout" in str(caught.value.diag.message_hint)
    answering.go_on.set()


def test_more_than_so_many_that_wait_are_refused(synced: sa.Engine, dsn: str) -> None:
    execute(synced, "INSERT INTO semantic.worker (host, pid) VALUES ('elsewhere', 1)")
    waiting = "INSERT INTO semantic.query_request (encoder_id, text) SELECT id, n FROM semantic.encoder, {} AS n"
    execute(synced, waiting.format("generate_series(1, 500)"))
    with pytest.raises(psycopg.errors.InsufficientResources, match="500 others are already waiting"):
        call(dsn, "apple")
    execute(synced, "UPDATE semantic.query_request SET ends_at = now()")
    for _ in range(5):
        with pytest.raises(psycopg.Error):
            call(dsn, "apple", options="-c semantic.wait_seconds=0")
    assert rows(synced, "SELECT count(*) < 500 FROM semantic.query_request") == [(True,)]


def test_texts_that_no_worker_can_encode_are_not_in_the_way_of_those_of_another_encoder(
    answering: Counted, synced: sa.Engine, dsn: str
) -> None:
    execute(synced, "INSERT INTO semantic.encoder (id, reference, dimensions) VALUES (1, 'gone', 32)")
    execute(
        synced, "INSERT INTO semantic.query_request (encoder_id, text) SELECT 1, i FROM generate_series(1, 500) AS i"
    )
    call(dsn, "apple")


def test_what_went_wrong_with_a_text_is_told_to_nobody_who_did_not_ask_it(synced: sa.Engine) -> None:
    execute(
        synced,
        "INSERT INTO semantic.query_request (encoder_id, text, error) SELECT id, 'a secret', 'not a secret!' "
        "FROM semantic.encoder",
    )
    awaited = "SELECT semantic.poll_query_vector_v1(encoder_id, :text, id, 0, true) FROM semantic.query_request"
    with pytest.raises(sa.exc.DBAPIError, match="not a secret!"):
        rows(synced, awaited, text="a secret")
    assert rows(synced, awaited, text="a guess") == [(None,)]


def test_a_request_is_there_for_as_long_as_it_is_waited_for(synced: sa.Engine, dsn: str) -> None:
    execute(synced, "INSERT INTO semantic.worker (host, pid) VALUES ('elsewhere', 1)")
    asked = "SELECT semantic.request_query_vector_v1(id, CAST(:seconds AS text), :seconds) FROM semantic.encoder"
    for seconds in (0, 5, 200, 1000):
        execute(synced, asked, seconds=seconds)
    kept = "SELECT round(extract(epoch FROM ends_at - now())) FROM semantic.query_request ORDER BY id"
    assert [float(left) for (left,) in rows(synced, kept)] == pytest.approx([60, 60, 200, 300], abs=5)


def test_a_request_is_taken_by_one_worker_and_by_another_when_that_dies(synced: sa.Engine, dsn: str) -> None:
    first, second = Counted(), Counted()
    first.go_on.clear()
    with working(dsn, first), ThreadPoolExecutor(1) as threads:
        asked = threads.submit(patiently, dsn, "apple")
        assert first.asking.wait(10)
        with working(dsn, second):
            call(dsn, "banana")
            assert second.asked == [["banana"]]
            execute(
                synced,
                "SELECT pg_terminate_backend(pid) FROM pg_locks "
                "WHERE relation = CAST('semantic.query_request' AS regclass) AND mode = 'RowShareLock'",
            )
            asked.result()
        first.go_on.set()
    assert second.asked == [["banana"], ["apple"]]


def test_a_worker_that_lost_the_database_answers_again(answering: Counted, synced: sa.Engine, dsn: str) -> None:
    execute(
        synced,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    eventually(lambda: is_answered(dsn, "apple"), "the worker to answer again")


def test_only_the_newest_vectors_are_kept(synced: sa.Engine, dsn: str) -> None:
    with working(dsn, Counted(), query_cache=5):
        patiently(dsn, "apple 0")
        for number in range(1, 12):
            call(dsn, f"apple {number}")
        until(dsn, "SELECT count(*) = 5 FROM semantic.query_vector")
    known = "SELECT semantic.cached_query_vector_v1(encoder_id, 'apple 11') IS NOT NULL FROM semantic.generation"
    assert rows(synced, known) == [(True,)]


def test_the_cache_is_kept_within_its_size_while_texts_go_on_being_asked(synced: sa.Engine, dsn: str) -> None:
    with working(dsn, Counted(), query_cache=5):
        patiently(dsn, "apple 0")
        for number in range(1, 30):
            call(dsn, f"apple {number}")
            assert rows(synced, "SELECT count(*) <= 7 FROM semantic.query_vector") == [(True,)]


def test_a_request_is_held_for_as_long_as_the_encoder_takes_whatever_the_database_has_set(
    synced: sa.Engine, dsn: str
) -> None:
    execute(synced, f"ALTER DATABASE {synced.url.database} SET idle_in_transaction_session_timeout = '100ms'")
    encoder = Counted()
    with working(dsn, encoder), ThreadPoolExecutor(1) as threads:
        patiently(dsn, "before all")
        encoder.go_on.clear()
        asked = threads.submit(call, dsn, "apple")
        held = "state = 'idle in transaction' AND now() - state_change > '300ms'"
        until(dsn, f"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {held})")
        encoder.go_on.set()
        asked.result()
    assert encoder.asked.count(["apple"]) == 1


def test_a_vector_of_other_dimensions_is_not_kept(synced: sa.Engine, dsn: str) -> None:
    class Short(Counted):
        def encode_queries(self, texts: Sequence[str]) -> Vectors:
            return super().encode_queries(texts)[:, :7]

    with working(dsn, Short()), pytest.raises(psycopg.Error, match="returned 7 dimensions"):
        patiently(dsn, "apple")


def test_a_call_within_a_transaction_is_refused(answering: Counted, dsn: str) -> None:
    with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.InvalidTransactionTermination):
        connection.execute(CALL, ["apple"])


def until(dsn: str, condition: str) -> None:
    """Looks until it is so."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        eventually(lambda: connection.execute(condition.encode()).fetchone() == (True,), condition)
