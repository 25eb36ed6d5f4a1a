"""The demo as a person runs it: its first search comes early, Ctrl-C loses nothing, and what it prints can be pasted.

A server in the test encodes, so that all pages are encoded in seconds; searches therefore find any pages.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pg_semantic.database import embedded
from pg_semantic.demo import tldr_pages
from pg_semantic.encoders.hashed import HashedEncoder
from tests import openai_server

pytestmark = pytest.mark.slow

FOREVER = "10000"  # seconds: a claim that isn't given back would stop the next run
INTERRUPTED = 130
# A shell may have started the tests in the background, where SIGINT is ignored.
_WITH_CTRL_C = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "pg-semantic"
from pg_semantic import cli
cli.run()
"""
FIRST, ALL = "Search the first 1,000 pages", "Search all 7,425 pages"


@dataclass(frozen=True)
class Runs:
    """What three runs on the same folder printed: stopped by Ctrl-C during the second sync, continued, repeated."""

    folder: Path
    environment: dict[str, str]
    stopped: tuple[int, str]
    continued: str
    repeated: str


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with openai_server.running() as server, tempfile.TemporaryDirectory(prefix="pg_semantic-") as folder:
        server.encoder = HashedEncoder(384)
        data = Path(folder) / "demo"
        environment = os.environ | {
            "PG_SEMANTIC_ENCODER_URLS": json.dumps({tldr_pages.ENCODER: server.url}),
            "PG_SEMANTIC_LEASE_SECONDS": FOREVER,
        }
        try:
            stopped = stopped_demo(server, data, environment)
            yield Runs(data, environment, stopped, demo(data, environment), demo(data, environment))
        finally:
            embedded.stop(data)


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "pg_semantic.cli", "demo", "--path", str(folder)]


def demo(folder: Path, environment: dict[str, str]) -> str:
    """What the demo prints when no terminal is attached."""
    done = subprocess.run(command(folder), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stopped_demo(server: openai_server.Server, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Presses Ctrl-C while the worker encodes the rest of the pages; the exit code and what was printed."""
    printed = []
    running: list[subprocess.Popen[str]] = []

    def interrupt(_: object) -> None:
        if running:
            running.pop().send_signal(signal.SIGINT)

    server.rule = interrupt
    demo = [sys.executable, "-c", _WITH_CTRL_C, *command(folder)[3:]]
    with subprocess.Popen(demo, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            if line.startswith("Encode") and any(before.startswith(FIRST) for before in printed):
                running.append(process)
    return process.returncode, "".join(printed)


def synced(printed: str) -> list[int]:
    """How many rows each worker synced."""
    return [int(number.replace(",", "")) for number in re.findall(r"^([\d,]+) rows? synced", printed, re.MULTILINE)]


def test_a_sample_is_searched_before_the_other_pages_are_encoded(runs: Runs) -> None:
    _, printed = runs.stopped
    assert synced(printed)[0] == tldr_pages.SAMPLE
    assert FIRST in printed
    assert ALL not in printed


def test_ctrl_c_ends_the_demo_and_the_next_run_continues(runs: Runs) -> None:
    code, printed = runs.stopped
    assert code == INTERRUPTED
    assert printed.splitlines()[-1].startswith("Stopped.")
    rest, edited = synced(runs.continued)
    assert 0 < rest <= tldr_pages.PAGES - tldr_pages.SAMPLE
    assert edited == 1
    assert ALL in runs.continued


def test_another_run_encodes_only_the_edit(runs: Runs) -> None:
    assert synced(runs.repeated) == [1]
    assert "the first" not in runs.repeated
    assert ALL in runs.repeated
    assert "cowsay" in runs.repeated


def test_the_printed_command_serves_the_printed_page(runs: Runs) -> None:
    address, line = re.findall(r"open (http://\S+)\n +(\S.* serve .*)\n", runs.continued)[0]
    words = shlex.split(line)
    assert address.endswith(f":{words[-1]}/")
    with subprocess.Popen([*words, "--port", "0"], env=runs.environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        base = next(found[1] for entry in process.stderr if (found := re.search(r"serving on (http://\S+)", entry)))
        try:
            with urllib.request.urlopen(f"{base}/") as answer:  # noqa: S310 - our own server
                assert "Search" in answer.read().decode()
        finally:
            process.terminate()


def test_the_sample_has_an_answer_to_each_query() -> None:
    titles = [page.title for page in tldr_pages.pages(only_sample=True)]
    assert len(titles) == tldr_pages.SAMPLE
    assert set(titles) >= {"photorec", "sockstat", "monolith"}
    assert len(list(tldr_pages.pages())) == tldr_pages.PAGES
