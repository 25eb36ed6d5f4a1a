"""What each command prints of an index with a long name, on terminals of 80 and 200 columns and piped."""

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from rich.console import Console

from pg_semantic import database
from pg_semantic.cli import output
from tests.conftest import copy_of
from tests.db import test_cli as shell
from tests.db.library import execute, sync

SCHEMA = "customer_relationship"
TABLE = f"{SCHEMA}.support_conversation_message"
INDEX = f"{TABLE}_semantic"
COMMANDS = (
    ("index", "list"),
    ("status",),
    ("verify",),
    ("generation", "status"),
    ("generation", "compare", INDEX, "--sample", "2"),
    ("search", INDEX, "subject words", "--limit", "2"),
    ("duplicates", INDEX, "--least", "0.5", "--limit", "3"),
    ("duplicates", INDEX, "--groups"),
    ("recall", INDEX, "--sample", "2", "--limit", "2"),
    ("retry", INDEX),
    ("repair", "--dry-run"),
    ("privileges", "--dry-run"),
    ("settings",),
    ("db", "current"),
)
LONG_WORDS = (INDEX, "sentence-transformers/all-MiniLM-L6-v2", TABLE)

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too


@pytest.fixture(scope="module")
def long_names(server: sa.URL, template: str) -> Iterator[str]:
    """The DSN of a database with an index of a long name, and a copy of it."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        execute(engine, f"CREATE SCHEMA {SCHEMA}")
        execute(
            engine,
            f"CREATE TABLE {TABLE} (tenant_identifier uuid, message_identifier bigint, subject_line text, "
            "message_body text, PRIMARY KEY (tenant_identifier, message_identifier))",
        )
        execute(
            engine,
            f"INSERT INTO {TABLE} SELECT gen_random_uuid(), n, 'the subject of message ' || n, "
            "repeat('a body with rather many words in it ', 5) FROM generate_series(1, 20) AS n",
        )
        encoder = ("--encoder", "hashed:64")
        shell.ok("index", "create", TABLE, "--columns", "subject_line,message_body", *encoder, dsn=dsn)
        shell.ok("generation", "begin", INDEX, "--encoder", "hashed:48", "--yes", dsn=dsn)
        sync(engine)
        engine.dispose()
        yield dsn


def lines(monkeypatch: pytest.MonkeyPatch, dsn: str, command: tuple[str, ...], *, width: int, tty: bool) -> list[str]:
    console = Console(width=width, force_terminal=tty, color_system=None, highlight=False)
    monkeypatch.setattr(output, "console", console)
    done = shell.run(*command, dsn=dsn)
    assert done.stderr == ""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.stdout).replace("\r", "\n")  # a progress bar moves the cursor
    return [line for line in plain.splitlines() if "━━━━" not in line or "┏" in line]


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_name_and_no_command_is_broken(
    long_names: str, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], width: int, tty: bool
) -> None:
    printed = lines(monkeypatch, long_names, command, width=width, tty=tty)
    assert printed
    assert [line for line in printed if line.count("`") % 2] == []
    whole = "\n".join(printed)
    assert "_\n" not in whole  # a name that was cut at the end of a line
    too_long = [line for line in printed if len(line.rstrip()) > width and not any(name in line for name in LONG_WORDS)]
    assert too_long == [] or not tty


def test_status_at_80_columns_is_a_record_per_copy_with_what_to_run(
    long_names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = database.connect(long_names)
    execute(engine, "INSERT INTO semantic.job (generation_id, key, state, error) VALUES (1, 'k', 'failed', 'no')")
    engine.dispose()
    printed = lines(monkeypatch, long_names, ("status",), width=80, tty=True)
    assert [line for line in printed if line.startswith("index ")] == [
        f"index      {INDEX}",
        f"index      {INDEX} (next)",
    ]
    assert any(f"`pg-semantic retry {INDEX}`" in line for line in printed)
