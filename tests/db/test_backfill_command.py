"""``pg-semantic backfill`` on this machine: real processes, on a real server."""

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

from tests.db import test_cli as shell
from tests.db.library import CLEAN, execute, jobs, rows, truth
from tests.db.test_devices import end_workers, insert
from tests.waiting import eventually

PATIENCE_SECONDS = 60

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too


@contextlib.contextmanager
def backfill(dsn: str, *arguments: str, **given: str) -> Iterator["subprocess.Popen[str]"]:
    """Starts a backfill; none of its workers is left after the block."""
    command = [sys.executable, "-m", "pg_semantic.cli", "backfill", "article_semantic", *arguments]
    environment = os.environ | {"PG_SEMANTIC_DSN": dsn, "PG_SEMANTIC_LEASE_SECONDS": "6"} | given
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            end_workers(dsn)


def vector_index(engine: sa.Engine) -> list[tuple[bool]]:
    of = "pg_index JOIN pg_class ON oid = indexrelid JOIN pg_am ON pg_am.oid = relam"
    return rows(engine, f"SELECT indisvalid FROM {of} WHERE amname = 'hnsw'".replace("ON oid", "ON pg_class.oid"))


def test_it_ends_when_every_row_is_synced_and_the_index_is_built(articles: sa.Engine, dsn: str) -> None:
    insert(articles, 1, 3000)
    done = shell.run("backfill", "article_semantic", "--devices", "cpu,cpu", "--json", dsn=dsn)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["index"], said["engine"], said["workers"]) == ("public.article_semantic", "local", 2)
    assert (said["synced"], said["waiting"], said["failed"], said["interrupted"]) == (3000, 0, 0, False)
    assert said["vector_index"] == "ready"
    assert truth(articles) == CLEAN
    assert vector_index(articles) == [(True,)]
    assert rows(articles, "SELECT count(*) FROM semantic.worker") == [(0,)]


def test_it_starts_no_worker_where_nothing_waits(many_articles: sa.Engine) -> None:
    dsn = many_articles.url.render_as_string(hide_password=False)
    said = shell.parsed("backfill", "article_semantic", dsn=dsn)
    assert (said["workers"], said["synced"]) == (0, 4000)


def test_it_serves_only_its_own_index(articles: sa.Engine, dsn: str) -> None:
    insert(articles, 1, 10)
    execute(articles, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    execute(articles, "INSERT INTO note VALUES (1, 'tea')")
    shell.ok("index", "create", "note", "--columns", "words", "--encoder", "hashed:8", dsn=dsn)
    shell.ok("backfill", "public.article_semantic", "--devices", "cpu", dsn=dsn)
    assert truth(articles) == CLEAN
    assert rows(articles, "SELECT count(*) FROM note_semantic") == [(0,)]
    shell.ok("worker", "--once", "--index", "note_semantic", dsn=dsn)
    assert rows(articles, "SELECT count(*) FROM note_semantic") == [(1,)]


def test_a_worker_of_an_index_that_does_not_exist_is_refused(articles: sa.Engine, dsn: str) -> None:
    assert "No semantic index 'other'" in shell.error("worker", "--once", "--index", "other", dsn=dsn)


def test_an_unknown_index_is_an_error(articles: sa.Engine, dsn: str) -> None:
    assert "No semantic index 'other'" in shell.error("backfill", "other", dsn=dsn)


def test_an_encoder_that_cannot_be_loaded_ends_it_with_the_reason(engine: sa.Engine, dsn: str) -> None:
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    execute(engine, "INSERT INTO note VALUES (1, 'tea')")
    create = ("index", "create", "note", "--columns", "words", "--encoder", "no-such/encoder", "--dimensions", "8")
    shell.ok(*create, dsn=dsn)
    done = shell.run("backfill", "note_semantic", "--devices", "cpu", "--patience", "2", dsn=dsn)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: No row was synced for 2 s: ")
    assert "PG_SEMANTIC_ENCODER_PATHS" in last


def test_a_signal_ends_it_after_the_rows_in_progress_and_it_can_be_resumed(articles: sa.Engine, dsn: str) -> None:
    insert(articles, 1, 20_000)
    with backfill(dsn, "--devices", "cpu,cpu", "--json", PG_SEMANTIC_BATCH_ROWS="50") as process:
        eventually(
            lambda: rows(articles, "SELECT FROM article_semantic_receipt LIMIT 1"),
            "the first rows",
            unless=lambda: process.poll() is not None,
        )
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert json.loads(said)["interrupted"]
    assert rows(articles, "SELECT count(*) FROM semantic.job WHERE state = 'processing'") == [(0,)]
    assert rows(articles, "SELECT count(*) FROM semantic.worker") == [(0,)]
    shell.ok("backfill", "article_semantic", "--devices", "cpu", dsn=dsn)
    assert truth(articles) == CLEAN
    assert not jobs(articles)


def test_the_database_is_on_the_command_line_of_no_worker(articles: sa.Engine, dsn: str) -> None:
    insert(articles, 1, 20_000)
    with backfill(dsn, "--devices", "cpu", PG_SEMANTIC_BATCH_ROWS="50") as process:
        found = eventually(lambda: psutil.Process(process.pid).children(), "a worker")
        assert not [word for child in found for word in child.cmdline() if "postgresql" in word]


def test_offline_says_what_waits(articles: sa.Engine, dsn: str) -> None:
    insert(articles, 1, 600)
    done = shell.run("backfill", "article_semantic", "--devices", "cpu", "--offline", dsn=dsn)
    assert done.returncode == 0, done.stderr
    assert "DELETE" in done.stdout
    assert "public.article_semantic: 600 rows synced, 0 failed." in done.stdout


@pytest.mark.parametrize(("setting", "used"), [("0.001", "0.6"), ("2", "2.0")])
def test_offline_transactions_take_longer_unless_they_are_as_long_already(
    articles: sa.Engine, dsn: str, setting: str, used: str
) -> None:
    insert(articles, 1, 10)
    with backfill(dsn, "--devices", "cpu", "--offline", PG_SEMANTIC_WRITE_SECONDS=setting) as process:
        command = psutil.Process(process.pid)
        eventually(lambda: bool(command.children()), "a worker")
        assert command.children()[0].environ()["PG_SEMANTIC_WRITE_SECONDS"] == used


@pytest.mark.parametrize("given", ["0", "3:2", "2:", "many", "-1"])
def test_numbers_of_workers_that_cannot_be_meant_are_wrong_usage(dsn: str, given: str) -> None:
    done = shell.run("backfill", "article_semantic", "--engine", "ray", f"--workers={given}", dsn=dsn)
    assert done.returncode == 2
    assert "2:16" in done.stderr


def test_options_of_ray_are_wrong_usage_without_it(dsn: str) -> None:
    done = shell.run("backfill", "article_semantic", "--workers", "2", dsn=dsn)
    assert done.returncode == 2
    assert "--workers" in done.stderr
    done = shell.run("backfill", "article_semantic", "--engine", "ray", "--devices", "cpu", dsn=dsn)
    assert done.returncode == 2
    assert "--gpus-per-worker" in done.stderr
