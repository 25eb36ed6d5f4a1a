"""What the pages are made of: nothing inline, nothing unescaped, and files of others as they were published."""

import hashlib
import re
from pathlib import Path

import pytest

from pg_semantic.service.pages import layout, templates
from tests import documents

TEMPLATES = sorted(templates.FOLDER.glob("*.html"))
OTHERS = [row for row in documents.rows(layout.STATIC / "SOURCES.md") if "SHA-256" in row[-1]]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: str(row[0]))
def test_a_file_of_others_is_as_it_was_published_and_has_its_licence(row: list[str]) -> None:
    name, _, licence, source = row
    [digest] = re.findall("[0-9a-f]{64}", source)
    assert hashlib.sha256((layout.STATIC / name.strip("`")).read_bytes()).hexdigest() == digest
    [file] = re.findall(r"`(.*)`", licence)
    assert (layout.STATIC / file).stat().st_size


def test_every_file_of_others_is_listed() -> None:
    assert {row[0].strip("`") for row in OTHERS} == {path.name for path in layout.STATIC.glob("*.min.*")}


def test_only_headlines_and_snippets_are_not_escaped_since_they_escape_all_but_their_marks() -> None:
    found = [
        line.strip() for path in TEMPLATES for line in path.read_text().splitlines() if re.search(r"\|\s*safe", line)
    ]
    assert [re.findall(r"[\w.()]+ \| safe", line) for line in found] == [
        ["one.headline.html() | safe"],
        ["one.body.html() | safe"],
    ]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_no_script_and_no_style_of_their_own(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:|https?://", text)
