"""The tutorials print what they show: their code and their commands run, one after the other, on an empty database.

With UPDATE_TUTORIAL=1, what they print is written into the pages, and nothing is compared.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pg_semantic.cli import output
from tests import documents
from tests.db import test_cli

FOLDER = documents.ROOT / "docs" / "tutorial"
DSN = "embedded:./data"
PROMPT = "$ "
PATIENCE_SECONDS = 60

_RATE = re.compile(r"\d+(?= rows/s)")
_TIME = re.compile(r"(?<= in )\d+(?= s\b)")
_P = re.compile(r"\bp \d\.\d+")
_DIFFERENT = {"p50 ms", "p95 ms", "p"}  # columns
_BORDERS = "━┏┓┳─└┘┴┡┩╇"
_BAR = "syncing "  # the progress bar, whose last state is printed where there is no terminal


@dataclass(frozen=True)
class Tutorial:
    """A page, how wide the terminal is, and how much the figures that it shows may differ on other machines.

    Attributes:
        name: The file.
        width: The columns of the terminal.
        figure: What is compared with tolerance.
        tolerance: By how much a figure may differ.
        relative: By which share of itself it may differ, if that is more.
    """

    name: str
    width: int
    figure: re.Pattern[str]
    tolerance: float
    relative: float = 0.0


TUTORIALS = (
    Tutorial("tutorial.md", 80, re.compile(r"-?\d+\.\d+"), 0.0101),  # scores rounded to two digits
    Tutorial("better-search.md", 120, re.compile(r"[-+]?\d+(?:\.\d+)?"), 0.1, 0.2),
)


@dataclass
class Reader:
    """Someone who follows a tutorial: runs its code in one namespace, and a worker in a process of its own."""

    dsn: str
    tutorial: "Tutorial"
    folder: Path
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "notes"})
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def python(self, code: str) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code.replace(DSN, self.dsn), self.tutorial.name, "exec"), self.namespace)  # noqa: S102
        return printed.getvalue()

    def console(self, block: str) -> str:
        lines = [line for line in block.splitlines() if line.startswith(PROMPT)]
        return "".join(f"{line}\n{self.command(line.removeprefix(PROMPT))}" for line in lines)

    def command(self, line: str) -> str:
        program, *arguments = shlex.split(line)
        assert program == "pg-semantic"
        if arguments == ["worker"]:
            command = [sys.executable, "-m", "pg_semantic.cli", *arguments]
            given = os.environ | {"PG_SEMANTIC_DSN": self.dsn}
            self.workers.append(subprocess.Popen(command, env=given, stderr=subprocess.DEVNULL))
            return ""
        printed = test_cli.ok(*arguments, dsn=self.dsn)
        shown = [one.rstrip() for one in printed.splitlines() if one.strip() and not one.startswith(_BAR)]
        alike = "".join(f"{_TIME.sub('9', _RATE.sub('0', one))}\n" for one in shown)
        return alike.replace(str(self.folder), "/home/you/better")

    def leave(self) -> None:
        for worker in self.workers:
            worker.terminate()
            worker.wait(PATIENCE_SECONDS)
        if "engine" in self.namespace:
            self.namespace["engine"].dispose()


@dataclass(frozen=True)
class Output:
    """What was printed, and the block that shows it."""

    block: Token
    printed: str


def outputs(reader: Reader, blocks: list[Token]) -> Iterator[Output]:
    """Runs the blocks of the page in order."""
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.info == "console":
            yield Output(block, reader.console(block.content))
        elif block.info == "python":
            printed = reader.python(block.content)
            if following is not None and following.info == "text":
                yield Output(following, printed)
            else:
                assert printed == "", f"the page does not show what this prints:\n{block.content}"


@pytest.mark.weights
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: tutorial.name)
def test_a_tutorial_prints_what_it_shows(
    bare_dsn: str, here: Path, monkeypatch: pytest.MonkeyPatch, tutorial: Tutorial
) -> None:
    monkeypatch.setattr(output.console, "_width", tutorial.width)
    path = FOLDER / tutorial.name
    page = path.read_text("utf-8")
    blocks = [token for token in MarkdownIt().parse(page) if token.type == "fence"]
    reader = Reader(bare_dsn, tutorial, here)
    try:
        found = list(outputs(reader, blocks))
    finally:
        reader.leave()
    if os.environ.get("UPDATE_TUTORIAL"):
        path.write_text(updated(page, found), "utf-8")
        return
    for one in found:
        assert_alike(comparable(one.printed), comparable(one.block.content), tutorial)


def assert_alike(printed: str, shown: str, tutorial: Tutorial) -> None:
    """Compares texts, and the figures in them with some tolerance."""
    figure = tutorial.figure
    assert figure.sub("0", printed) == figure.sub("0", shown)
    for one, other in zip(figure.findall(printed), figure.findall(shown), strict=True):
        expected = pytest.approx(float(other), abs=tutorial.tolerance, rel=tutorial.relative)
        assert float(one) == expected, (printed, shown)


def comparable(printed: str) -> str:
    """Returns output without what differs on every machine: times, p values, and the lines and padding of tables."""
    lines: list[str] = []
    kept: list[int] = []
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.strip("┃│").split(line[:1])] if line[:1] in {"┃", "│"} else []
        if line.startswith("┃"):
            kept = [number for number, name in enumerate(cells) if name not in _DIFFERENT]
        lines.append(" | ".join(cells[number] for number in kept) if cells else _P.sub("p", line.strip(_BORDERS)))
    return "\n".join(lines)


def updated(page: str, found: list[Output]) -> str:
    """Returns the page with what was printed."""
    lines = page.splitlines(keepends=True)
    for one in reversed(found):
        first, last = one.block.map or (0, 0)  # the fences
        lines[first + 1 : last - 1] = [one.printed]
    return "".join(lines)
