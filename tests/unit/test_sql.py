import importlib.resources
import re
from pathlib import Path

import pytest

import pg_semantic
from pg_semantic import sql
from pg_semantic.operations.doctor.checks import CHECKS

PACKAGE = Path(pg_semantic.__file__).parent

_STATEMENT = re.compile(r'sql\.statement\(\s*"(\w+)",\s*"(\w+)"')
_TEMPLATE = re.compile(r'_fill\(\s*"(\w+)"')


def written() -> set[tuple[str, str]]:
    files = (PACKAGE / "sql").glob("*.sql")
    return {(file.stem, name) for file in files for name in sql.names(file.stem)}


def used() -> set[tuple[str, str]]:
    sources = [file.read_text("utf-8") for file in PACKAGE.rglob("*.py")]
    statements = {found for source in sources for found in _STATEMENT.findall(source)}
    capture = (PACKAGE / "index/triggers.py").read_text("utf-8")
    examined = {("doctor", check.name) for check in CHECKS}
    return statements | examined | {("triggers", name) for name in _TEMPLATE.findall(capture)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that SQL files are read from."""
    sql.names.cache_clear()
    monkeypatch.setattr(importlib.resources, "files", lambda _: tmp_path)
    return tmp_path


def test_every_statement_that_is_written_is_used() -> None:
    assert written() - used() == set()


def test_every_statement_that_is_used_is_written() -> None:
    assert used() - written() == set()


def test_no_comment_reaches_the_server() -> None:
    assert not any("-- " in sql.names(file)[name] for file, name in written())


def test_an_unknown_statement_is_named_with_its_file() -> None:
    with pytest.raises(LookupError, match=r"jobqueue\.sql has no statement 'nonsense'"):
        sql.statement("jobqueue", "nonsense")


def test_a_statement_is_what_stands_under_its_name_and_purpose(folder: Path) -> None:
    (folder / "good.sql").write_text(
        "-- The file.\n\n-- name: one\n-- Gives one.\nSELECT 1\n\n-- name: two\n-- Two.\nSELECT 2\n"
    )
    assert sql.names("good") == {"one": "SELECT 1", "two": "SELECT 2"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: one\n-- One.\nSELECT 1\n\n-- name: one\n-- Again.\nSELECT 1", "'one' is malformed or duplicated"),
        ("-- name: One-Two\n-- Bad.\nSELECT 1", "'One-Two' is malformed or duplicated"),
        ("-- name: \n-- Bad.\nSELECT 1", "'' is malformed or duplicated"),
        ("-- name: one\nSELECT 1", "one has no comment that states its purpose"),
    ],
)
def test_a_malformed_file_is_refused(folder: Path, text: str, complaint: str) -> None:
    (folder / "bad.sql").write_text(text)
    with pytest.raises(
        ValueError, match=re.escape(f"bad.sql: {complaint}" if complaint.startswith("one") else complaint)
    ):
        sql.names("bad")
