"""``pg-semantic worker --devices``: real processes, watched by one, on a real server.

A child writes to the standard output of its supervisor, so that is at its end once all of them are.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
import sqlalchemy as sa

from pg_semantic.encoders.local import devices
from tests.db import test_cli as shell
from tests.db.library import CLEAN, execute, jobs, rows, truth
from tests.waiting import eventually

PATIENCE_SECONDS = 60

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too


@contextlib.contextmanager
def supervised(dsn: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Starts two workers under one; none is left after the block."""
    command = [sys.executable, "-m", "pg_semantic.cli", "worker", "--devices", "cpu,cpu", *arguments]
    given = {"PG_SEMANTIC_DSN": dsn, "PG_SEMANTIC_LEASE_SECONDS": "6"}
    with subprocess.Popen(command, env=os.environ | given, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
            end_workers(dsn)


def end_workers(dsn: str) -> None:
    """Kills the workers of a database that have outlived their supervisor, as they do when a test fails."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("PG_SEMANTIC_DSN") == dsn:
                process.kill()


def signed_in(
    engine: sa.Engine, process: "subprocess.Popen[str]", *, without: frozenset[int] = frozenset()
) -> frozenset[int]:
    """Waits for two workers other than those; their processes."""

    def two() -> frozenset[int] | None:
        found = frozenset(pid for (pid,) in rows(engine, "SELECT pid FROM semantic.worker")) - without
        return found if len(found) == 2 else None

    found = eventually(two, "two workers to sign in", unless=lambda: process.poll() is not None)
    assert found
    return found


def insert(engine: sa.Engine, first: int, last: int) -> None:
    """Rows that wait for a worker."""
    execute(engine, f"INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series({first}, {last}) i")


def synced(engine: sa.Engine) -> None:
    """Waits until no job is left."""
    eventually(lambda: not jobs(engine), "the last job")


def reports(output: str) -> list[int]:
    """Rows that each of the workers says it synced."""
    return [json.loads(line)["rows"] for line in output.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_workers_share_the_work_and_end_when_their_supervisor_is_told_to(
    articles: sa.Engine, dsn: str, number: signal.Signals
) -> None:
    inserted = 0
    with supervised(dsn, "--json", "--batch-rows", "5") as process:
        signed_in(articles, process)

        def both_have_worked() -> bool:
            nonlocal inserted
            insert(articles, inserted + 1, inserted + 50)
            inserted += 50
            synced(articles)
            return rows(articles, "SELECT count(*) FROM semantic.worker WHERE rows_synced > 0") == [(2,)]

        eventually(both_have_worked, "both workers to have synced rows")
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert len(reports(output)) == 2
    assert sum(reports(output)) == inserted
    assert truth(articles) == CLEAN
    assert rows(articles, "SELECT count(*) FROM semantic.worker") == [(0,)]


def test_a_worker_that_was_killed_is_replaced(articles: sa.Engine, dsn: str) -> None:
    with supervised(dsn, "--json") as process:
        first, second = before = signed_in(articles, process)
        os.kill(first, signal.SIGKILL)
        os.kill(second, signal.SIGKILL)
        signed_in(articles, process, without=before)
        insert(articles, 1, 20)
        synced(articles)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert sum(reports(output)) == 20


def test_the_workers_of_a_supervisor_that_was_killed_finish_and_end(articles: sa.Engine, dsn: str) -> None:
    with supervised(dsn, "--json") as process:
        signed_in(articles, process)
        process.kill()
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert reports(output) == [0, 0]
    assert rows(articles, "SELECT count(*) FROM semantic.worker") == [(0,)]


def test_once_ends_when_all_is_synced(articles: sa.Engine, dsn: str) -> None:
    insert(articles, 1, 100)
    done = shell.run("worker", "--once", "--json", "--devices", "cpu,cpu", "--dsn", dsn)
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(reports(done.stdout)) == 100
    assert truth(articles) == CLEAN


def test_once_ends_with_the_worst_exit_code(engine: sa.Engine, dsn: str) -> None:
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    execute(engine, "INSERT INTO note VALUES (1, 'tea')")
    create = ("index", "create", "note", "--columns", "words", "--encoder", "no-such/encoder", "--dimensions", "8")
    shell.ok(*create, dsn=dsn)
    done = shell.run("worker", "--once", "--devices", "cpu,cpu", dsn=dsn)
    assert done.returncode == 1
    assert "PG_SEMANTIC_ENCODER_PATHS" in done.stderr


def test_the_dsn_is_on_the_command_line_of_no_worker(articles: sa.Engine, dsn: str) -> None:
    with supervised(dsn, "--dsn", dsn) as process:
        signed_in(articles, process)
        lines = [child.cmdline() for child in psutil.Process(process.pid).children()]
    assert len(lines) == 2
    for line in lines:
        assert not [word for word in line if "postgresql" in word]


def test_where_there_is_no_cuda_device_all_is_one_worker_on_the_cpu(articles: sa.Engine, dsn: str) -> None:
    insert(articles, 1, 10)
    done = shell.run("worker", "--once", "--json", "--devices", "all", dsn=dsn, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0
    assert reports(done.stdout) == [10]
    assert "no CUDA device" in done.stderr


def test_cuda_devices_are_named_as_torch_names_them() -> None:
    assert devices.cuda() == [f"cuda:{number}" for number in range(len(devices.cuda()))]


@pytest.mark.parametrize(
    "given", [("--devices", "cpu", "--device", "cpu"), ("--devices", "cpu,,cpu"), ("--devices", "")]
)
def test_devices_that_can_not_be_meant_are_wrong_usage(given: tuple[str, ...]) -> None:
    done = shell.run("worker", *given)
    assert done.returncode == 2
    assert "--devices" in done.stderr


def test_a_server_that_does_not_answer_is_said_once() -> None:
    line = shell.error("worker", "--devices", "cpu,cpu", dsn="postgresql://nobody@127.0.0.1:1/shop", code=3)
    assert "does not answer" in line
