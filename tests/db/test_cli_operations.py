"""The commands of an operator: verify, repair, retry, status; their exit codes and what a script reads of them."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic import database
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.operations import status
from tests.db import test_cli as shell
from tests.db.library import execute, jobs, rows, sync

INDEX = "article_semantic"

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too

REPORT_KEYS = {
    "index",
    "rows",
    "missing",
    "stale",
    "damaged",
    "prefixes",
    "wrong_encoder",
    "orphan",
    "failed",
    "waiting",
    "uncaptured",
    "problem",
    "keys",
}
INDEX_KEYS = {
    "index",
    "name",
    "table",
    "columns",
    "encoder",
    "dimensions",
    "generation",
    "generation_id",
    "backfilled",
    "backfill_rows",
    "exact",
    "rows",
    "synced",
    "chunks",
    "pending",
    "processing",
    "failed",
    "truncated",
    "oldest_seconds",
    "eta_seconds",
    "uncaptured",
    "capture_problem",
    "stale_since",
    "stale_reason",
    "reconciled",
    "vector_index",
    "built",
    "lexical_index",
    "recall",
    "failures",
    "problems",
}


class Fails(HashedEncoder):
    """Encodes nothing."""

    def encode_documents(self, _: Sequence[str]) -> Vectors:
        raise RuntimeError("no [red]luck")


def fill(engine: sa.Engine) -> None:
    execute(engine, "INSERT INTO article SELECT i, 'title ' || i, 'body ' || i, 'en' FROM generate_series(1, 5) i")
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


@pytest.fixture
def damaged(synced: sa.Engine) -> sa.Engine:
    """Three rows lack their chunks, and one was never synced."""
    execute(synced, "DELETE FROM article_semantic WHERE id IN (1, 2, 3)")
    execute(synced, "DELETE FROM article_semantic_receipt WHERE id = 4")
    return synced


@pytest.fixture
def parked(articles: sa.Engine) -> sa.Engine:
    """Three rows whose jobs have failed for the last time."""
    execute(articles, "INSERT INTO article SELECT i, 'title ' || i, NULL, 'en' FROM generate_series(1, 3) i")
    sync(articles, lambda *_, **__: Fails(32), max_attempts=1)
    return articles


@pytest.fixture
def stranger(articles: sa.Engine) -> Iterator[sa.Engine]:
    """A role without any right of its own."""
    role = "stranger_" + str(articles.url.database)[-8:]
    execute(articles, f"CREATE ROLE {role}")
    limited = sa.create_engine(articles.url, connect_args={"options": f"-c role={role}"})
    yield limited
    limited.dispose()
    execute(articles, f"DROP ROLE {role}")


def reported(*arguments: str, dsn: str, code: int) -> dict[str, Any]:
    """The one report of a command with ``--json``."""
    done = shell.run(*arguments, "--json", dsn=dsn)
    assert (done.returncode, done.stderr) == (code, "")
    [report] = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


def everything(engine: sa.Engine) -> list[tuple[Any, ...]]:
    """What a command could have changed."""
    return [
        *rows(engine, "SELECT 'chunk', id, ordinal, xmin::text FROM article_semantic ORDER BY 2, 3"),
        *rows(engine, "SELECT 'receipt', id, xmin::text FROM article_semantic_receipt ORDER BY 2"),
        *rows(engine, "SELECT 'job', key, xmin::text FROM semantic.job ORDER BY 2"),
        *rows(engine, "SELECT 'trigger', tgname, xmin::text FROM pg_trigger ORDER BY 2"),
        *rows(engine, "SELECT 'generation', id, xmin::text FROM semantic.generation"),
    ]


def test_verify_of_what_is_clean_exits_with_0(synced: sa.Engine, dsn: str) -> None:
    report = reported("verify", dsn=dsn, code=0)
    assert report.keys() == REPORT_KEYS
    assert report == dict.fromkeys(REPORT_KEYS, 0) | {"index": "public." + INDEX, "rows": 5} | {
        "uncaptured": [],
        "problem": None,
        "keys": {},
    }
    table = shell.ok("verify", INDEX, dsn=dsn)
    assert "public.article_semantic" in table
    assert "Not clean" not in table


def test_verify_of_what_is_not_clean_exits_with_1_and_names_the_rows(damaged: sa.Engine, dsn: str) -> None:
    report = reported("verify", INDEX, dsn=dsn, code=1)
    assert report.keys() == REPORT_KEYS
    assert {kind: sorted(keys) for kind, keys in report["keys"].items()} == {
        "damaged": ["1", "2", "3"],
        "missing": ["4"],
    }
    assert (report["damaged"], report["missing"]) == (3, 1)
    done = shell.run("verify", dsn=dsn)
    assert (done.returncode, done.stderr) == (1, "")
    assert "public.article_semantic, missing: 4\n" in done.stdout
    assert "pg-semantic repair" in done.stdout


def test_rows_that_wait_are_counted_and_are_no_fault(synced: sa.Engine, dsn: str) -> None:
    execute(synced, "UPDATE article SET body = 'new' WHERE id < 3")
    report = reported("verify", dsn=dsn, code=0)
    assert (report["waiting"], sorted(report["keys"]["waiting"])) == (2, ["1", "2"])


def test_a_database_without_a_semantic_index_is_clean(engine: sa.Engine, dsn: str) -> None:
    assert shell.parsed("verify", dsn=dsn) == []
    assert shell.parsed("repair", dsn=dsn) == []
    shell.ok("verify", dsn=dsn)


@pytest.mark.parametrize(("limit", "shown"), [(0, 0), (1, 1), (2, 2), (5, 3)])
def test_so_many_keys_are_shown_and_all_are_counted(damaged: sa.Engine, dsn: str, limit: int, shown: int) -> None:
    for command, code in (("verify", 1), ("repair", 0)):
        report = reported(command, "--keys", str(limit), dsn=dsn, code=code)
        assert report["damaged"] == 3
        assert len(set(report["keys"]["damaged"])) == shown
        assert set(report["keys"]["damaged"]) <= {"1", "2", "3"}


def test_no_fewer_than_no_keys_can_be_asked_for(engine: sa.Engine, dsn: str) -> None:
    assert shell.run("verify", "--keys", "-1", dsn=dsn).returncode == 2


def test_a_dry_run_reports_what_verify_does_and_changes_nothing(damaged: sa.Engine, dsn: str) -> None:
    execute(damaged, "DROP TRIGGER article_semantic_capture_update ON article")
    before = everything(damaged)
    found = reported("verify", dsn=dsn, code=1)
    assert found["uncaptured"] == ["public.article"]
    dry = reported("repair", "--dry-run", dsn=dsn, code=1)
    assert {**dry, "keys": None} == {**found, "keys": None}
    assert dry["keys"].keys() == found["keys"].keys()
    assert shell.run("repair", INDEX, "--dry-run", dsn=dsn).returncode == 1
    assert everything(damaged) == before


def test_a_dry_run_of_what_is_clean_exits_with_0(synced: sa.Engine, dsn: str) -> None:
    shell.ok("repair", "--dry-run", dsn=dsn)


def test_after_a_repair_and_a_worker_all_is_clean(damaged: sa.Engine, dsn: str) -> None:
    execute(damaged, "DROP TRIGGER article_semantic_capture_update ON article")
    done = shell.ok("repair", dsn=dsn)
    assert "rows marked for the worker, 0 orphans deleted." in done
    assert "uncaptured: public.article" in done
    assert jobs(damaged) >= {"1", "2", "3"}
    assert shell.parsed("worker", "--once", dsn=dsn)["rows_failed"] == 0
    assert reported("verify", dsn=dsn, code=0)["rows"] == 5
    assert rows(damaged, "SELECT count(*) FROM article_semantic") == [(5,)]


def test_a_repair_of_one_index_leaves_the_others_alone(damaged: sa.Engine, dsn: str) -> None:
    execute(damaged, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    shell.ok("index", "create", "note", "--columns", "words", "--encoder", "hashed:32", dsn=dsn)
    before = everything(damaged)
    assert reported("repair", "note_semantic", dsn=dsn, code=0)["index"] == "public.note_semantic"
    assert everything(damaged) == before


@pytest.mark.parametrize("command", [("verify",), ("repair",), ("repair", "--dry-run"), ("retry",)])
def test_an_index_that_is_not_there_is_one_line_and_nothing_is_done(
    damaged: sa.Engine, dsn: str, command: tuple[str, ...]
) -> None:
    before = everything(damaged)
    assert "No semantic index 'nothing'" in shell.error(*command, "nothing", dsn=dsn)
    if command != ("retry",):
        assert "No semantic index 'nothing'" in shell.error(*command, INDEX, "nothing", dsn=dsn)
    assert everything(damaged) == before


@pytest.mark.parametrize(
    "command", [("verify",), ("repair",), ("repair", "--dry-run"), ("retry", INDEX), ("status",), ("status", "--exact")]
)
def test_a_database_that_is_not_set_up_exits_with_3(bare_dsn: str, command: tuple[str, ...]) -> None:
    assert "CREATE EXTENSION vector" in shell.error(*command, dsn=bare_dsn, code=3)
    engine = database.connect(bare_dsn)
    execute(engine, "CREATE EXTENSION vector")
    engine.dispose()
    assert "pg-semantic db upgrade" in shell.error(*command, dsn=bare_dsn, code=3)


def test_parked_rows_are_a_fault_that_repair_leaves_to_retry(parked: sa.Engine, dsn: str) -> None:
    report = reported("verify", dsn=dsn, code=1)
    assert (report["failed"], sorted(report["keys"]["failed"])) == (3, ["1", "2", "3"])
    assert "pg-semantic retry" in shell.run("verify", dsn=dsn).stdout
    before = everything(parked)
    assert reported("repair", dsn=dsn, code=0)["failed"] == 3
    assert everything(parked) == before


def test_rows_are_retried_by_key_or_all_and_then_synced(parked: sa.Engine, dsn: str) -> None:
    assert shell.parsed("retry", INDEX, "--key", "2", "--key", "99", dsn=dsn) == {
        "retried": ["2"],
        "not_parked": ["99"],
    }
    waiting = rows(parked, "SELECT key, attempts, error FROM semantic.job WHERE state = 'pending'")
    assert waiting == [("2", 0, None)]
    assert shell.parsed("retry", INDEX, "--key", "2", dsn=dsn) == {
        "retried": [],
        "not_parked": ["2"],
    }  # it is in the queue already
    assert shell.ok("retry", INDEX, dsn=dsn).strip() == "2 rows put back into the queue."
    sync(parked)
    assert reported("verify", dsn=dsn, code=0)["failed"] == 0


def test_retry_needs_the_name_of_an_index(engine: sa.Engine, dsn: str) -> None:
    assert shell.run("retry", dsn=dsn).returncode == 2


def test_status_as_json_has_what_is_documented(parked: sa.Engine, dsn: str) -> None:
    state = shell.parsed("status", dsn=dsn)
    assert state.keys() == {"workers", "rows_per_second", "paused", "tokens_today", "indexes"}
    [index] = state["indexes"]
    assert index.keys() == INDEX_KEYS
    assert (index["name"], index["table"], index["columns"]) == (INDEX, "public.article", ["title", "body"])
    assert (index["rows"], index["synced"], index["failed"], index["pending"]) == (3, 0, 3, 0)
    newest, *others = index["failures"]
    assert newest.keys() == {"key", "attempts", "error"}
    assert (newest["attempts"], newest["error"]) == (1, "RuntimeError: no [red]luck")
    assert len(others) == 2


def test_status_says_why_a_row_failed_and_what_to_do(parked: sa.Engine, dsn: str) -> None:
    text = shell.ok("status", dsn=dsn)
    assert "article_semantic, row 2: failed 1 time: RuntimeError: no [red]luck" in text
    assert "pg-semantic retry public.article_semantic" in text


def test_status_tells_a_health_check_whether_somebody_works_and_keeps_up(articles: sa.Engine, dsn: str) -> None:
    assert shell.run("status", "--max-age", "60", dsn=dsn).returncode == 1
    execute(articles, "INSERT INTO semantic.worker (host, pid) VALUES ('elsewhere', 1)")
    assert shell.run("status", "--max-age", "60", dsn=dsn).returncode == 0
    execute(articles, "INSERT INTO article VALUES (1, 'a pear', NULL, 'en')")
    execute(articles, "UPDATE semantic.mark SET marked_at = now() - interval '2 minutes'")
    assert shell.run("status", "--max-age", "60", dsn=dsn).returncode == 1
    assert shell.run("status", "--max-age", "600", dsn=dsn).returncode == 0


def test_status_of_large_tables_is_an_estimate_unless_asked_to_count(
    synced: sa.Engine, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_SMALL_BYTES", 0)
    [index] = shell.parsed("status", dsn=dsn)["indexes"]
    assert index["exact"] is False
    assert index["rows"] > 0, "the size of the table tells it, although nothing has looked at the table yet"
    execute(synced, "ANALYZE article")
    execute(synced, "DELETE FROM article WHERE id = 5")
    [index] = shell.parsed("status", dsn=dsn)["indexes"]
    assert (index["exact"], index["rows"]) == (False, 5)
    assert "~5" in shell.ok("status", dsn=dsn)
    [index] = shell.parsed("status", "--exact", dsn=dsn)["indexes"]
    assert index.keys() == INDEX_KEYS
    assert (index["exact"], index["rows"], index["synced"], index["chunks"]) == (True, 4, 4, 4)
    assert "~" not in shell.ok("status", "--exact", dsn=dsn)


def test_anybody_may_look_at_the_view_of_every_index_and_sees_no_count_of_rows(
    parked: sa.Engine, stranger: sa.Engine
) -> None:
    [seen] = rows(stranger, "SELECT index_name, pending, processing, failed, uncaptured FROM semantic.index_status")
    assert seen == ("public.article_semantic", None, None, None, 0)
    with stranger.connect() as connection:
        [row] = connection.execute(sa.text("SELECT * FROM semantic.index_status")).mappings()
    assert row["truncated"] is None  # it would have to be counted in a table that this role may not read
    assert row["workers_alive"] == 0


def test_who_may_look_at_the_view_sees_no_row_and_no_job(parked: sa.Engine, stranger: sa.Engine) -> None:
    for relation in ("article", "article_semantic", "article_semantic_receipt", "semantic.job", "semantic.worker"):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            rows(stranger, f"SELECT * FROM {relation}")


def test_problem_with_one_index_is_said_and_the_others_are_verified(parked: sa.Engine, dsn: str) -> None:
    execute(parked, "ALTER TABLE article RENAME COLUMN body TO main")
    report = reported("verify", dsn=dsn, code=1)
    assert "Rename the column back" in report["problem"]
    assert "Rename the column back" in shell.run("verify", dsn=dsn).stdout.replace("\n", " ")
