"""Parses every SQL file with the grammar of Postgres, and checks names and lengths: run by `make check`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pglast

from pg_semantic import sql

ROOT = Path(__file__).parent.parent
BASELINE = ROOT / "migrations" / "versions"
FUNCTION_LINES = 60

_CREATES = re.compile(
    r"^CREATE (?:UNLOGGED )?(?P<kind>FUNCTION|PROCEDURE|TABLE|VIEW) semantic\.(?P<name>\w+)", re.MULTILINE
)
_TEMPLATES = {"triggers"}  # with identifiers that a compiler fills in
_BIND = re.compile(r"(?<![:\w]):(\w+)")
_FOLDERS = {"FUNCTION": "functions", "PROCEDURE": "functions", "TABLE": "tables", "VIEW": "views"}


def faults_of_file(file: Path) -> Iterator[str]:
    """Yields what is wrong with a file of a revision. The server parses bodies in PL/pgSQL when it creates them."""
    text = file.read_text("utf-8")
    try:
        pglast.parse_sql(text)
    except pglast.Error as error:
        yield str(error)
    created = list(_CREATES.finditer(text))
    if not created or {(_FOLDERS[one["kind"]], one["name"]) for one in created} != {
        (file.relative_to(BASELINE).parts[1], file.stem)
    }:
        yield f"creates {', '.join(one['name'] for one in created) or 'nothing'}"
    for one in created:
        lines = text[one.start() :].partition(";\n\n")[0].rstrip().count("\n") + 1
        if _FOLDERS[one["kind"]] == "functions" and lines > FUNCTION_LINES:
            yield f"{one['name']} has {lines} lines, more than {FUNCTION_LINES}"


def faults_of_statement(text: str) -> Iterator[str]:
    """Yields what is wrong with a named statement. Binds become parameters."""
    names: list[str] = []

    def numbered(bind: re.Match[str]) -> str:
        if bind[1] not in names:
            names.append(bind[1])
        return f"${names.index(bind[1]) + 1}"

    try:
        pglast.parse_sql(_BIND.sub(numbered, text))
    except pglast.Error as error:
        yield str(error)


def faults() -> Iterator[str]:
    """Yields the faults of all files."""
    for file in sorted(BASELINE.rglob("*.sql")):
        for fault in faults_of_file(file):
            yield f"{file.relative_to(ROOT)}: {fault}"
    for file in sorted((ROOT / "pg_semantic" / "sql").glob("*.sql")):
        for name in sql.names(file.stem) if file.stem not in _TEMPLATES else ():
            for fault in faults_of_statement(str(sql.statement(file.stem, name))):
                yield f"{file.relative_to(ROOT)}: {name}: {fault}"


def main() -> int:
    """Prints the faults of all SQL files, and returns 1 if there are any."""
    found = list(faults())
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
