"""A worker process that is told to stop while its encoder is at work: it finishes in time, or gives back and goes.

The encoder of `held_worker` waits for a word of the test's, so nothing here depends on how fast a machine is. A worker
that did not give up would never end.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest
import sqlalchemy as sa

from tests.db.library import CLEAN, execute, rows, sync, truth
from tests.waiting import eventually

FOREVER = 10_000.0
PATIENCE_SECONDS = 30
INTERRUPTED = 130

JOBS = "SELECT state, claim IS NULL, lease_until IS NULL, attempts, count(*) FROM semantic.job GROUP BY 1, 2, 3, 4"
UNTOUCHED = ("pending", True, True, 0)


class Held:
    """A worker process whose encoder is held back, batch by batch."""

    def __init__(self, process: subprocess.Popen[str], words: IO[str], said: IO[str]) -> None:
        self._process = process
        self._words = words
        self._said = said

    def encoding(self) -> int:
        """Waits until the encoder was given texts; how many they are."""
        what, number = self._said.readline().split()
        assert what == "encoding"
        return int(number)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, which may be the end of the process."""
        self._process.send_signal(number)

    def tell(self, number: signal.Signals) -> None:
        """Sends a signal, and waits until it is obeyed."""
        self.send(number)
        assert self._said.readline() == "told\n"

    def let_go(self) -> None:
        """Lets the encoder do the texts that it was given."""
        self._words.write(".")
        self._words.flush()

    def ended(self) -> tuple[int, str, str]:
        """Waits for the end; the exit code and what was printed since and logged."""
        code = self._process.wait(PATIENCE_SECONDS)
        assert self._process.stderr is not None
        return code, self._said.read(), self._process.stderr.read()


@contextlib.contextmanager
def held_worker(dsn: str, *, drain_seconds: float, batch_rows: int = 10) -> Iterator[Held]:
    """Starts one; it is killed at the end of the block if it is there still."""
    given = {
        "PG_SEMANTIC_DSN": dsn,
        "PG_SEMANTIC_DRAIN_SECONDS": str(drain_seconds),
        "PG_SEMANTIC_BATCH_ROWS": str(batch_rows),
        "PG_SEMANTIC_LEASE_SECONDS": str(FOREVER),
        "PG_SEMANTIC_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "tests.db.held_worker", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | given, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Held(process, process.stdin, process.stdout)
        finally:
            process.kill()


@pytest.fixture
def thirty(articles: sa.Engine) -> sa.Engine:
    """Thirty rows that wait for a worker, all edits: a backfill that meets a claim voids it."""
    sync(articles)
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 30) i")
    return articles


def next_is_claimed(engine: sa.Engine) -> None:
    """Waits until the worker has claimed the batch after the one that is encoded."""
    claimed = "SELECT count(*) FROM semantic.job WHERE state = 'processing'"
    eventually(lambda: rows(engine, claimed) == [(20,)], "two batches to be claimed")


def events(log: str) -> list[str]:
    return [json.loads(line)["event"] for line in log.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_not_finished_in_time_is_given_back_and_the_process_ends(
    thirty: sa.Engine, dsn: str, number: signal.Signals
) -> None:
    with held_worker(dsn, drain_seconds=0.1) as worker:
        assert worker.encoding() == 10
        next_is_claimed(thirty)
        worker.tell(number)
        code, _, log = worker.ended()
    assert code == INTERRUPTED
    assert events(log) == ["abandoned"]
    assert rows(thirty, JOBS) == [(*UNTOUCHED, 30)]
    sync(thirty)
    assert truth(thirty) == CLEAN


def test_what_was_finished_before_is_kept_when_the_rest_is_given_back(thirty: sa.Engine, dsn: str) -> None:
    with held_worker(dsn, drain_seconds=0.1) as worker:
        for _ in range(2):
            worker.encoding()
            worker.let_go()
        worker.encoding()  # the first batch is written before the third is begun
        worker.tell(signal.SIGTERM)
        assert worker.ended()[0] == INTERRUPTED
    [(count,)] = rows(thirty, "SELECT count(*) FROM semantic.job")
    assert count in {10, 20}  # the second batch may have been on its way
    assert rows(thirty, JOBS) == [(*UNTOUCHED, count)]
    assert len(truth(thirty).missing) == count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_gives_up_at_once(thirty: sa.Engine, dsn: str, number: signal.Signals) -> None:
    with held_worker(dsn, drain_seconds=FOREVER) as worker:
        worker.encoding()
        next_is_claimed(thirty)
        worker.tell(number)
        worker.send(number)
        code, _, log = worker.ended()
    assert code == INTERRUPTED
    assert events(log) == ["abandoned"]
    assert rows(thirty, JOBS) == [(*UNTOUCHED, 30)]


def test_a_batch_that_is_done_in_time_is_written_and_the_next_is_not_begun(thirty: sa.Engine, dsn: str) -> None:
    with held_worker(dsn, drain_seconds=FOREVER) as worker:
        worker.encoding()
        worker.tell(signal.SIGTERM)
        worker.let_go()
        code, output, log = worker.ended()
    assert (code, events(log)) == (0, ["synced"])
    assert json.loads(output) == {"rows": 10, "chunks_encoded": 10, "rows_failed": 0}
    assert rows(thirty, JOBS) == [(*UNTOUCHED, 20)]
    assert len(truth(thirty).missing) == 20
    assert rows(thirty, "SELECT count(*) FROM semantic.worker") == [(0,)]


def test_rows_that_were_edited_meanwhile_are_left_to_their_newer_job(thirty: sa.Engine, dsn: str) -> None:
    with held_worker(dsn, drain_seconds=0.1) as worker:
        worker.encoding()
        next_is_claimed(thirty)
        execute(thirty, "UPDATE article SET body = 'new' WHERE id <= 10")
        worker.tell(signal.SIGTERM)
        assert worker.ended()[0] == INTERRUPTED
    assert rows(thirty, JOBS) == [(*UNTOUCHED, 30)]
    sync(thirty)
    assert truth(thirty) == CLEAN


def test_a_process_whose_jobs_are_locked_ends_all_the_same(thirty: sa.Engine, dsn: str) -> None:
    with held_worker(dsn, drain_seconds=0.1) as worker, thirty.connect() as other:
        worker.encoding()
        other.execute(sa.text("LOCK TABLE semantic.job IN ACCESS EXCLUSIVE MODE"))
        worker.tell(signal.SIGTERM)
        code, _, log = worker.ended()
        other.rollback()
    assert code == INTERRUPTED
    assert "leases" in log


def test_rows_that_are_being_claimed_when_the_worker_gives_up_are_given_back_too(thirty: sa.Engine, dsn: str) -> None:
    with held_worker(dsn, drain_seconds=0.0) as worker:
        worker.encoding()  # another thread claims the next batch about now
        worker.tell(signal.SIGTERM)
        assert worker.ended()[0] == INTERRUPTED
    assert rows(thirty, JOBS) == [(*UNTOUCHED, 30)]


def test_a_worker_that_gives_up_signs_out(thirty: sa.Engine, dsn: str) -> None:
    with held_worker(dsn, drain_seconds=0.1) as worker:
        worker.encoding()
        next_is_claimed(thirty)
        worker.tell(signal.SIGTERM)
        assert worker.ended()[0] == INTERRUPTED
    assert rows(thirty, "SELECT count(*) FROM semantic.worker") == [(0,)]


def test_a_process_ends_though_the_server_has_frozen(thirty: sa.Engine, dsn: str) -> None:
    ours = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    thirty.dispose()
    with held_worker(dsn, drain_seconds=0.1) as worker:
        worker.encoding()
        next_is_claimed(thirty)
        servers = [pid for (pid,) in rows(thirty, ours)]
        for pid in servers:
            os.kill(pid, signal.SIGSTOP)
        try:
            worker.tell(signal.SIGTERM)
            assert worker.ended()[0] == INTERRUPTED
        finally:
            for pid in servers:
                os.kill(pid, signal.SIGCONT)
