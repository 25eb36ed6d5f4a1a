"""Reads TREC qrels with the texts of their topics. https://trec.nist.gov/data/qrels_eng/ describes the format."""

import html
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pg_semantic import errors
from pg_semantic.evaluation import input_lines
from pg_semantic.evaluation.grade_records import GradeRecord
from pg_semantic.evaluation.input_lines import InvalidLine

_FIELDS = 4  # topic, iteration (not used), document, grade
_TAG = re.compile(r"<(/?\w+)>", re.ASCII)
_LABEL = re.compile(r"\s*(?:Number|Topic|Title):", re.IGNORECASE)


def records(qrels: Path, topics: Path) -> Iterator[GradeRecord]:
    """Yields the judgements, with the titles of their topics as queries.

    Args:
        qrels: A file with ``topic iteration document grade`` on each line, separated by white space.
        topics: A file of topics in SGML (``<top> <num> Number: 301 <title> ...``), or with ``topic<TAB>query`` on each
            line.

    Raises:
        errors.ConfigurationError: A file cannot be read, or a line is not valid.
    """
    texts = _texts(topics)
    with input_lines.opened(qrels) as file:
        for number, line in input_lines.numbered(file):
            fields = line.split()
            if len(fields) != _FIELDS:
                raise InvalidLine(number, "Write topic, iteration, document and grade, separated by spaces.")
            topic, _, key, grade = fields
            if topic not in texts:
                raise InvalidLine(number, f"{topics} has no topic with this number.")
            yield GradeRecord(number, texts[topic], key, grade)


def _texts(topics: Path) -> dict[str, str]:
    """Returns the query of each topic by its number."""
    texts: dict[str, str] = {}
    with input_lines.opened(topics) as file:
        for number, topic, text in _topics(file):
            if texts.setdefault(topic, text) != text:
                raise InvalidLine(number, "An earlier topic has the same number and another text.")
    if not texts:
        raise errors.ConfigurationError(f"{topics} contains no topics.")
    return texts


def _topics(file: IO[str]) -> Iterator[tuple[int, str, str]]:
    """Yields the topics: the line where each begins, its number and its query."""
    lines = input_lines.numbered(file)
    first = next(lines, None)
    if first is None:
        return
    if first[1].lstrip().startswith("<"):
        yield from _sgml(first, lines)
        return
    for number, line in itertools.chain([first], lines):
        topic, tab, text = line.partition("\t")
        if not (tab and topic.strip() and text.strip()):
            raise InvalidLine(number, "Write a topic's number and its query, separated by a tab, or use SGML.")
        yield number, topic.strip(), text.strip()


def _sgml(first: tuple[int, str], lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    """Yields topics in SGML, where a tag need not be closed and a title may have several lines."""
    began, tag, fields = 0, "", dict[str, str]()
    for number, line in itertools.chain([first], lines):
        for place, part in enumerate(_TAG.split(line)):
            if place % 2 == 0:
                fields[tag] = f"{fields.get(tag, '')} {part}"
                continue
            tag = part.lower()
            if tag == "top":
                began, fields = number, {}
            elif tag == "/top":
                yield _topic(began, fields)
                fields = {}
    if fields.keys() & {"num", "title"}:
        raise InvalidLine(began, "This topic has no </top>.")


def _topic(number: int, fields: dict[str, str]) -> tuple[int, str, str]:
    """Returns a topic from the text after each tag."""
    topic, text = (_value(fields.get(tag, "")) for tag in ("num", "title"))
    if not (number and topic and text):
        raise InvalidLine(max(number, 1), "Begin each topic with <top>, and write its <num> and its <title>.")
    return number, topic, text


def _value(text: str) -> str:
    """Returns the value of a tag, without the label that many topics repeat, as in ``<num> Number: 301``."""
    label = _LABEL.match(text)
    return " ".join(html.unescape(text[label.end() if label else 0 :]).split())
