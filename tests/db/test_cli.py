"""The command line as a person and a script meet it: output, errors of one line, exit codes."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from pg_semantic import cli, database
from pg_semantic.cli import output
from pg_semantic.database import revisions
from pg_semantic.search import scan_settings
from tests.db.library import execute, rows


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's reaches the commands, and tables are wide."""
    for name in [name for name in os.environ if name.startswith("PG_SEMANTIC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(output.console, "_width", 160)


def run(*arguments: str, dsn: str | None = None, **environment: str) -> Done:
    """Runs a command in this process, or in its own where it would take over signals and logging."""
    given = environment | ({"PG_SEMANTIC_DSN": dsn} if dsn else {})
    if {"worker", "backfill"} & set(arguments):
        command = [sys.executable, "-m", "pg_semantic.cli", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | given, check=False)
        return Done(ended.returncode, ended.stdout, ended.stderr)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["pg-semantic", *arguments])
        patch.setattr(sys, "stdin", io.StringIO())
        for name, value in given.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as stopped:
            cli.run()
    code = stopped.value.code
    return Done(code if isinstance(code, int) else int(bool(code)), out.getvalue(), err.getvalue())


def ok(*arguments: str, dsn: str | None = None) -> str:
    done = run(*arguments, dsn=dsn)
    assert done.returncode == 0, done.stderr
    return done.stdout


def error(*arguments: str, dsn: str | None = None, code: int = 1, **environment: str) -> str:
    done = run(*arguments, dsn=dsn, **environment)
    assert done.returncode == code, (done.stdout, done.stderr)
    [line] = done.stderr.strip().splitlines()
    return line


def parsed(*arguments: str, dsn: str) -> Any:
    return json.loads(ok(*arguments, "--json", dsn=dsn))


@pytest.fixture
def notes(engine: sa.Engine) -> sa.Engine:
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, words text, number integer)")
    execute(engine, "INSERT INTO note VALUES (1, 'a red apple'), (2, 'a green pear'), (3, 'a [bold]blue[/] sky')")
    return engine


def test_a_table_without_a_mapped_class_is_made_searchable_from_the_shell(notes: sa.Engine, dsn: str) -> None:
    ok("index", "create", "note", "--columns", "words", "--encoder", "hashed:64", dsn=dsn)
    [listed] = parsed("index", "list", dsn=dsn)
    assert (listed["name"], listed["columns"]) == ("public.note_semantic", ["words"])
    assert parsed("worker", "--once", dsn=dsn) == {"rows": 3, "chunks_encoded": 3, "rows_failed": 0}
    first, *_ = parsed("search", "note_semantic", "green pear", "--limit", "2", dsn=dsn)
    assert (first["key"], first["passage"]) == ({"id": 2}, "a green pear")
    table = ok("search", "public.note_semantic", "blue sky", dsn=dsn)
    assert "a [bold]blue[/] sky" in table
    assert ok("search", "note_semantic", "violin", "--mode", "lexical", dsn=dsn) == "No rows match.\n"
    state = parsed("status", dsn=dsn)
    assert state["workers"] == 0
    [index] = state["indexes"]
    assert (index["rows"], index["synced"], index["pending"], index["vector_index"]) == (3, 3, 0, "ready")
    assert "note_semantic" in ok("status", dsn=dsn)
    ok("index", "drop", "note_semantic", "--yes", dsn=dsn)
    assert parsed("index", "list", dsn=dsn) == []
    assert rows(notes, "SELECT count(*) FROM note") == [(3,)]


def test_a_hit_is_headed_by_its_first_text_that_is_not_blank(notes: sa.Engine, dsn: str) -> None:
    execute(notes, "ALTER TABLE note ADD COLUMN title text")
    execute(notes, "UPDATE note SET title = 'On   fruit ' || repeat('x', 200) WHERE id = 1")
    ok("index", "create", "note", "--columns", "title,words", "--encoder", "hashed:64", dsn=dsn)
    ok("worker", "--once", dsn=dsn)
    hits = {hit["key"]["id"]: hit["headline"] for hit in parsed("search", "note_semantic", "a red apple", dsn=dsn)}
    assert hits == {1: "On fruit " + "x" * 110 + "…", 2: "a green pear", 3: "a [bold]blue[/] sky"}
    execute(notes, "UPDATE note SET title = NULL, words = NULL")
    table = ok("search", "note_semantic", "a red apple", "--limit", "1", dsn=dsn)
    assert re.search(r"^headline +-$", table, re.MULTILINE)


@pytest.mark.parametrize("command", ["index list", "generation status", "verify", "repair", "status"])
def test_an_empty_database_says_how_to_create_an_index(dsn: str, command: str) -> None:
    shown = ok(*command.split(), dsn=dsn)
    assert "This database has no semantic index: create one with `pg-semantic index create`." in shown
    assert "(no rows)" not in shown


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_search_is_explained_from_the_shell(notes: sa.Engine, dsn: str, mode: str) -> None:
    ok("index", "create", "note", "--columns", "words", "--encoder", "hashed:64", dsn=dsn)
    ok("worker", "--once", dsn=dsn)
    execute(notes, "INSERT INTO note SELECT i, 'a [fish]', i FROM generate_series(4, 300) AS i")
    execute(notes, "ANALYZE")
    arguments = ("explain", "note_semantic", "green pear", "--mode", mode)
    plan = parsed(*arguments, "--analyze", dsn=dsn)
    assert "actual ms" in plan["text"]
    assert all(reason in " ".join(ok(*arguments, dsn=dsn).split()) for reason in plan["reasons"])
    assert plan["reasons"] != []
    exact = parsed(*arguments, "--exact", dsn=dsn)
    assert any("by design" in reason for reason in exact["reasons"]) == (mode != "lexical")


@pytest.mark.filterwarnings("ignore:Did not recognize type")
def test_a_key_of_a_type_that_is_not_known_is_refused_in_words(notes: sa.Engine, dsn: str) -> None:
    execute(notes, "CREATE TABLE logged (place money PRIMARY KEY, words text)")
    said = error("index", "create", "logged", "--columns", "words", "--encoder", "hashed:64", dsn=dsn)
    execute(notes, "DROP TABLE logged")
    assert "The key column 'place' has type money" in said


def test_recall_is_measured_from_the_shell(notes: sa.Engine, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ok("index", "create", "note", "--columns", "words", "--encoder", "hashed:64", dsn=dsn)
    assert "has no vectors" in error("recall", "note_semantic", dsn=dsn)
    execute(notes, "INSERT INTO note SELECT i, 'fish ' || i, i FROM generate_series(4, 900) AS i")
    ok("worker", "--once", dsn=dsn)
    execute(notes, "ANALYZE")
    arguments = ("recall", "note_semantic", "--sample", "5", "--limit", "3", "--min", "0.5")
    report = parsed(*arguments, dsn=dsn)
    [measured] = report["classes"]
    assert (report["limit"], measured["queries"], measured["uses_vector_index"]) == (3, 5, True)
    assert "recall@3" in ok(*arguments, dsn=dsn)
    monkeypatch.setattr(scan_settings, "scan_settings", lambda *_, **__: {"hnsw.ef_search": "1"})
    done = run(*arguments, dsn=dsn)
    assert (done.returncode, done.stderr) == (1, "")
    assert "less than the required 0.5" in done.stdout


def test_duplicates_are_found_from_the_shell(notes: sa.Engine, dsn: str) -> None:
    ok("index", "create", "note", "--columns", "words", "--encoder", "hashed:64", dsn=dsn)
    assert ok("duplicates", "note_semantic", dsn=dsn).strip() == "No rows are alike."
    execute(notes, "INSERT INTO note VALUES (10, 'a red apple'), (11, 'a green pear tree'), (12, 'a red apple')")
    ok("worker", "--once", dsn=dsn)
    pairs = parsed("duplicates", "note_semantic", "--least", "0.8", dsn=dsn)
    assert [(one["first"]["key"]["id"], one["second"]["key"]["id"]) for one in pairs] == [
        (1, 10),
        (1, 12),
        (10, 12),
        (2, 11),
    ]
    assert pairs[0]["score"] == 1 > pairs[-1]["score"] > 0.8
    assert pairs[0]["first"] == {"key": {"id": 1}, "headline": "a red apple"}
    assert len(parsed("duplicates", "note_semantic", "--limit", "2", dsn=dsn)) == 2
    table = ok("duplicates", "note_semantic", "--least", "0.8", dsn=dsn)
    assert re.search(r"1\.000 .*\b1\b.* a red apple .*\b10\b.* a red apple", table)
    groups = parsed("duplicates", "note_semantic", "--groups", "--least", "0.8", dsn=dsn)
    assert [(one["medoid"]["key"]["id"], [row["key"]["id"] for row in one["members"]]) for one in groups] == [
        (1, [1, 10, 12]),
        (2, [2, 11]),
    ]
    assert re.search(r"3 .*\b1\b.* a red apple .* 1, 10, 12", ok("duplicates", "note_semantic", "--groups", dsn=dsn))
    assert "least=1.5" in error("duplicates", "note_semantic", "--least", "1.5", dsn=dsn)


def test_our_schema_is_created_from_the_shell(bare_dsn: str) -> None:
    assert "`semantic` is not in this database" in ok("db", "current", dsn=bare_dsn)
    newest = revisions.known()[-1]
    assert newest in ok("db", "upgrade", dsn=bare_dsn)
    assert parsed("db", "current", dsn=bare_dsn) == {"revision": newest}


def test_an_index_before_our_schema_is_refused_with_the_command_to_run(bare_dsn: str) -> None:
    engine = database.connect(bare_dsn)
    execute(engine, "CREATE EXTENSION vector; CREATE TABLE note (id integer PRIMARY KEY, words text)")
    engine.dispose()
    said = error("index", "create", "note", "--columns", "words", "--encoder", "hashed:8", dsn=bare_dsn, code=3)
    assert "run `pg-semantic db upgrade`" in said


def test_dropping_asks_first(notes: sa.Engine, dsn: str) -> None:
    ok("index", "create", "note", "--columns", "words", "--encoder", "hashed:64", dsn=dsn)
    assert run("index", "drop", "note_semantic", dsn=dsn).returncode == 1
    assert len(parsed("index", "list", dsn=dsn)) == 1


def test_settings_show_where_each_value_comes_from_and_hide_the_dsn() -> None:
    done = run("settings", "--json", dsn="postgresql://app:secret@nowhere/shop", PG_SEMANTIC_BATCH_ROWS="7")
    shown = json.loads(done.stdout)
    assert shown["PG_SEMANTIC_BATCH_ROWS"] == 7
    assert "secret" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "nothing", "--columns", "words", "--encoder", "hashed:8"), "No table 'nothing'"),
        (("create", "note", "--columns", "nope", "--encoder", "hashed:8"), "no column 'nope'"),
        (("create", "note", "--columns", "number", "--encoder", "hashed:8"), "not text"),
        (("create", "note", "--columns", "", "--encoder", "hashed:8"), "no text column"),
        (("create", "note", "--columns", "words", "--encoder", "no-such/encoder"), "PG_SEMANTIC_ENCODER_PATHS"),
        (("create", "note", "--columns", "words", "--encoder", "hashed:8", "--name", "n" * 60), "too long"),
        (("drop", "nothing", "--yes"), "No semantic index 'nothing'"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do_and_changes_nothing(
    notes: sa.Engine, dsn: str, arguments: tuple[str, ...], message: str
) -> None:
    assert message in error("index", *arguments, dsn=dsn)
    assert parsed("index", "list", dsn=dsn) == []


def test_a_search_of_what_is_not_there_or_for_nothing_is_refused(notes: sa.Engine, dsn: str) -> None:
    assert "No semantic index 'note_semantic'" in error("search", "note_semantic", "apple", dsn=dsn)
    ok("index", "create", "note", "--columns", "words", "--encoder", "hashed:64", dsn=dsn)
    assert "empty" in error("search", "note_semantic", "  ", dsn=dsn)


def test_a_worker_whose_encoder_is_unknown_says_how_to_give_a_folder(notes: sa.Engine, dsn: str) -> None:
    ok("index", "create", "note", "--columns", "words", "--encoder", "no-such/encoder", "--dimensions", "8", dsn=dsn)
    done = run("worker", "--once", dsn=dsn)
    assert done.returncode == 1
    assert "PG_SEMANTIC_ENCODER_PATHS" in done.stderr


@pytest.mark.parametrize(
    ("dsn", "code", "message"),
    [
        (None, 1, "Specify the database"),
        ("not a dsn", 1, "cannot be read"),
        ("mysql://localhost/shop", 1, "is not Postgres"),
        ("postgresql://nobody:secret@127.0.0.1:1/shop", 3, "does not answer"),
    ],
)
def test_a_dsn_that_will_not_do_is_said_to_be_so_without_its_password(dsn: str | None, code: int, message: str) -> None:
    line = error("status", dsn=dsn, code=code)
    assert message in line
    assert "secret" not in line


def test_a_database_that_is_not_set_up_exits_with_3(bare_dsn: str) -> None:
    assert "CREATE EXTENSION vector" in error("status", dsn=bare_dsn, code=3)
    ok("db", "upgrade", dsn=bare_dsn)
    ok("status", dsn=bare_dsn)


def test_a_setting_that_can_not_be_read_is_named() -> None:
    assert "PG_SEMANTIC_BATCH_ROWS" in error("settings", PG_SEMANTIC_BATCH_ROWS="many")


def test_wrong_usage_exits_with_2() -> None:
    assert run("search").returncode == 2


COMMANDS = ("", "db", "db upgrade", "db current", "db check", "db downgrade", "db stop", "index", "index create",
            "index list", "index drop", "worker", "search", "explain", "duplicates", "recall", "serve", "status",
            "settings", "demo")  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_an_example(command: str) -> None:
    text = ok(*command.split(), "--help")
    assert "Usage:" in text
    if command not in {"", "db", "index"}:
        assert "Example" in text


def test_a_script_that_did_not_pass_yes_is_told_to(articles: sa.Engine, dsn: str) -> None:
    del articles
    assert "pass --yes" in error("index", "drop", "article_semantic", dsn=dsn)
    assert "article_semantic" in ok("index", "list", dsn=dsn)
