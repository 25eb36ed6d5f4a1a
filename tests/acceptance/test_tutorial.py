"""The tutorial prints what it shows: its code and its commands run, one after the other, on an empty database.

With UPDATE_TUTORIAL=1, what they print is written into the page, and nothing is compared.
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
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests import documents

PAGE = documents.ROOT / "docs" / "tutorial" / "tutorial.md"
DSN = "embedded:./data"
PROMPT = "$ "
WIDTH = "80"
TOLERANCE = 0.0101  # of a score rounded to two digits
PATIENCE_SECONDS = 60

_SCORE = re.compile(r"-?\d+\.\d+")
_RATE = re.compile(r"\d+(?= rows/s)")
_BAR = "syncing "  # the progress bar, whose last state is printed where there is no terminal


@dataclass
class Reader:
    """Someone who follows the tutorial: runs its code in one namespace and its commands in processes."""

    dsn: str
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "notes"})
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def python(self, code: str) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code.replace(DSN, self.dsn), PAGE.name, "exec"), self.namespace)  # noqa: S102
        return printed.getvalue()

    def console(self, block: str) -> str:
        lines = [line for line in block.splitlines() if line.startswith(PROMPT)]
        return "".join(f"{line}\n{self.command(line.removeprefix(PROMPT))}" for line in lines)

    def command(self, line: str) -> str:
        program, *arguments = shlex.split(line)
        assert program == "pg-semantic"
        command = [sys.executable, "-m", "pg_semantic.cli", *arguments]
        given = os.environ | {"PG_SEMANTIC_DSN": self.dsn, "COLUMNS": WIDTH}
        if arguments == ["worker"]:
            self.workers.append(subprocess.Popen(command, env=given, stderr=subprocess.DEVNULL))
            return ""
        ended = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, (line, ended.stdout, ended.stderr)
        shown = [one.rstrip() for one in ended.stdout.splitlines() if one.strip() and not one.startswith(_BAR)]
        return "".join(f"{_RATE.sub('0', one)}\n" for one in shown)

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
def test_the_tutorial_prints_what_it_shows(bare_dsn: str) -> None:
    page = PAGE.read_text("utf-8")
    blocks = [token for token in MarkdownIt().parse(page) if token.type == "fence"]
    reader = Reader(bare_dsn)
    try:
        found = list(outputs(reader, blocks))
    finally:
        reader.leave()
    if os.environ.get("UPDATE_TUTORIAL"):
        PAGE.write_text(updated(page, found), "utf-8")
        return
    for output in found:
        assert_alike(output.printed, output.block.content)


def assert_alike(printed: str, shown: str) -> None:
    """Compares texts, and the scores in them with some tolerance."""
    assert _SCORE.sub("0.00", printed) == _SCORE.sub("0.00", shown)
    for one, other in zip(_SCORE.findall(printed), _SCORE.findall(shown), strict=True):
        assert float(one) == pytest.approx(float(other), abs=TOLERANCE), (printed, shown)


def updated(page: str, found: list[Output]) -> str:
    """Returns the page with what was printed."""
    lines = page.splitlines(keepends=True)
    for output in reversed(found):
        first, last = output.block.map or (0, 0)  # the fences
        lines[first + 1 : last - 1] = [output.printed]
    return "".join(lines)
