"""What the worker logs of a run with problem in it: enough to act on, and no row's text."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from pythonjsonlogger.json import JsonFormatter

from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from tests.db.library import execute, rows, sync

MARK = "xyzzy"


class QuotesTheText(HashedEncoder):
    """Fails on a marked text and says so in its words."""

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if marked := [text for text in texts if MARK in text]:
            raise ValueError(f"cannot encode {marked}")
        return super().encode_documents(texts)


def everything(caplog: pytest.LogCaptureFixture) -> str:
    """Every record with all its fields, as JSON lines."""
    formatter = JsonFormatter()
    return "\n".join(formatter.format(record) for record in caplog.records)


def test_the_error_of_a_row_is_kept_with_its_job_and_its_text_is_not_logged(
    articles: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pg_semantic")
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 5) i")
    execute(articles, "UPDATE article SET body = :body WHERE id = 3", body=f"a {MARK} b")
    done = sync(articles, lambda *_, **__: QuotesTheText(32), max_attempts=1)
    assert (done.rows, done.rows_failed) == (4, 1)
    [(error,)] = rows(articles, "SELECT error FROM semantic.job WHERE state = 'failed'")
    assert error == f"ValueError: cannot encode ['title 3\\n\\na {MARK} b']"
    [failure] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (
        failure.__dict__.items()
        >= {
            "event": "row_failed",
            "index": "article_semantic",
            "key": "3",
            "error": "ValueError",
        }.items()
    )
    assert MARK not in everything(caplog)
    assert "title" not in everything(caplog)


def test_a_row_that_the_database_refuses_is_logged_without_what_the_server_quotes_of_it(
    articles: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pg_semantic")
    execute(articles, f"ALTER TABLE article_semantic ADD CONSTRAINT dull CHECK (content NOT LIKE '%{MARK}%')")
    execute(articles, "INSERT INTO article VALUES (1, :title, NULL, 'en')", title=f"a {MARK} b")
    sync(articles)
    [failed] = [record for record in caplog.records if record.__dict__.get("event") == "row_failed"]
    assert (failed.levelno, failed.__dict__["key"]) == (logging.WARNING, "1")
    [(kept,)] = rows(articles, "SELECT error FROM semantic.job WHERE state = 'failed'")
    assert "dull" in kept
    assert MARK not in everything(caplog)


def test_a_worker_process_logs_json_that_a_collector_can_read(articles: sa.Engine, dsn: str) -> None:
    execute(articles, "INSERT INTO article VALUES (1, :title, NULL, 'en')", title=f"a {MARK} b")
    command = [sys.executable, "-m", "pg_semantic.cli", "worker", "--once", "--verbose", "--json"]
    given = {"PG_SEMANTIC_DSN": dsn, "PG_SEMANTIC_LOG_FORMAT": "json"}
    done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"] == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"time", "level", "logger", "message", "event", "index"} <= line.keys() for line in lines)
    [synced] = [line for line in lines if line["event"] == "synced"]
    assert (synced["level"], synced["index"], synced["rows"], synced["chunks_encoded"]) == (
        "INFO",
        "article_semantic",
        1,
        1,
    )
    assert MARK not in done.stderr
