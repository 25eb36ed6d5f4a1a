"""How the worker logs, to standard error."""

import contextlib
import datetime as dt
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from pg_semantic.cli import logs

log = logging.getLogger("pg_semantic.worker")


@contextlib.contextmanager
def configured(style: Literal["text", "json"], level: int = logging.INFO) -> Iterator[None]:
    """Logging as a process of its own has it; the runner's own handlers are away for so long."""
    root, ours = logging.getLogger(), logging.getLogger("pg_semantic")
    before = root.handlers[:], root.level, ours.level
    root.handlers[:] = []
    try:
        logs.configure(style=style, level=level)
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_json_line_has_the_time_the_level_the_message_and_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("json"):
        fields = {"event": "synced", "index": "article_semantic", "rows": 3, "chunks_encoded": 4}
        log.info("%s: %d rows, %d chunks encoded", "article_semantic", 3, 4, extra=fields)
    [line] = logged(capsys)
    dt.datetime.fromisoformat(line.pop("time").replace(",", "."))
    assert line == {
        "level": "INFO",
        "logger": "pg_semantic.worker",
        "message": "article_semantic: 3 rows, 4 chunks encoded",
        **fields,
    }


def test_a_json_record_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("json"):
        log.warning('two\nlines and a "quote": %s', "é", extra={"event": "row_failed", "key": 'a\n"b"'})
    [line] = logged(capsys)
    assert (line["message"], line["key"]) == ('two\nlines and a "quote": é', 'a\n"b"')


def test_a_json_record_of_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("json"):
        log.error("it broke", exc_info=RuntimeError("broken"))
    [line] = logged(capsys)
    assert line["level"] == "ERROR"
    assert "RuntimeError: broken" in line["exc_info"]


def test_a_text_line_is_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("text"):
        log.info("%s: %d rows", "article_semantic", 3, extra={"event": "synced", "index": "article_semantic"})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(" INFO    article_semantic: 3 rows\n")


@pytest.mark.parametrize("style", ["text", "json"])
def test_what_is_below_the_level_is_not_logged(
    style: Literal["text", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    with configured(style, logging.WARNING):
        log.info("quiet")
        log.warning("loud")
    [line] = capsys.readouterr().err.splitlines()
    assert "loud" in line


@pytest.mark.parametrize("style", ["text", "json"])
def test_other_packages_log_warnings_only(style: Literal["text", "json"], capsys: pytest.CaptureFixture[str]) -> None:
    with configured(style):
        logging.getLogger("another").info("quiet")
        logging.getLogger("another").warning("loud")
    [line] = capsys.readouterr().err.splitlines()
    assert "loud" in line
