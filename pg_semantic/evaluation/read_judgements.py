"""Reads judgements from a file or a folder: JSON Lines, CSV and TSV, BEIR, TREC. Each may be compressed with gzip.

Files are read line by line. An error names the file and the line, and never has its text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from pg_semantic import errors
from pg_semantic.evaluation import beir, grade_records, input_lines, trec
from pg_semantic.evaluation.grade_records import GradeRecord
from pg_semantic.evaluation.input_lines import InvalidLine

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OTHER_MARKS = ";\t|,"
_COLUMNS = ("query", "key", "grade")
_JSON_LINE = 'write {"query": "...", "relevant": {"key": 1}} on each line.'
_NO_JSON = f"{_JSON_LINE} A table needs the suffix .csv or .tsv, and TREC qrels need their topics (--topics)."


class ReadGrades(NamedTuple):
    """What a file has.

    Attributes:
        grades: The grades of each query by key.
        implicit: Whether they were estimated from clicks.
        below_zero: How many of them were below 0 and read as 0.
    """

    grades: dict[str, dict[str, int]]
    implicit: bool
    below_zero: int


def read(path: Path, *, split: str, topics: Path | None) -> ReadGrades:
    """Returns what a file has; `judgements.Judgements.read` describes the formats.

    Raises:
        errors.ConfigurationError: A file cannot be read or is empty, or a line is not valid.
    """
    source, found = _found(path, split=split, topics=topics)
    grades = grade_records.collect(found, refuse=lambda number, problem: input_lines.refusal(source, number, problem))
    if not grades:
        raise errors.ConfigurationError(f"{source} contains no judgements.")
    below_zero = found.below_zero if isinstance(found, grade_records.FromZero) else 0
    return ReadGrades(grades, isinstance(found, _File) and found.implicit is True, below_zero)


def _found(path: Path, *, split: str, topics: Path | None) -> tuple[Path, Iterable[GradeRecord]]:
    """Returns the file that the records are in, and the records."""
    if topics is not None:
        return path, grade_records.FromZero(trec.records(path, topics))
    if path.is_dir():
        return beir.qrels_of(path, split), grade_records.FromZero(beir.records(path, split))
    return path, _File(path)


@dataclass(slots=True)
class _File:
    """The records of a single file. The format follows from its suffix.

    Attributes:
        implicit: Whether the records that were read come from clicks; None before the first.
    """

    path: Path
    implicit: bool | None = None

    def __iter__(self) -> Iterator[GradeRecord]:
        delimiter = _DELIMITERS.get(Path(self.path.name.removesuffix(".gz")).suffix.lower())
        with input_lines.opened(self.path) as file:
            yield from self._json_lines(file) if delimiter is None else _table(file, delimiter)

    def _json_lines(self, file: IO[str]) -> Iterator[GradeRecord]:
        for number, line in input_lines.numbered(file):
            try:
                record = json.loads(line, object_pairs_hook=_without_conflicts)
                query, relevant = record["query"], list(record["relevant"].items())
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise InvalidLine(number, _JSON_LINE if line.lstrip().startswith("{") else _NO_JSON) from None
            if not relevant:
                raise InvalidLine(number, f"The query has no judgements: {_JSON_LINE}")
            implicit = record.get("implicit", False) is True
            if self.implicit not in {None, implicit}:
                raise InvalidLine(number, "Grades from clicks and from people can't be mixed: keep them in two files.")
            self.implicit = implicit
            for key, grade in relevant:
                yield GradeRecord(number, query, key, grade)


def _without_conflicts(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object. Raises ValueError if a name has two values: Python would keep the last."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise ValueError(name)
        found[name] = value
    return found


def _table(file: IO[str], delimiter: str) -> Iterator[GradeRecord]:
    """Yields the records of a table. A record whose grade is empty has not been judged yet, and is left out."""
    records = input_lines.table(file, delimiter=delimiter)
    number, header = next(records, (1, []))
    places = _places(number, header, delimiter)
    for number, record in records:
        if len(record) != len(header):
            raise InvalidLine(number, f"This record has {len(record)} fields, but the header has {len(header)}.")
        grade: object = record[places["grade"]] if "grade" in places else 1
        if str(grade).strip():
            yield GradeRecord(number, record[places["query"]], record[places["key"]], grade)


def _places(number: int, header: Sequence[str], delimiter: str) -> Mapping[str, int]:
    """Returns the position of each column by name."""
    names = [name.strip().lower() for name in header]
    wanted = delimiter.join(_COLUMNS)
    if len(names) == 1 and (other := next((mark for mark in _OTHER_MARKS if mark in names[0]), None)):
        raise InvalidLine(number, f"This line has no {delimiter!r} but {other!r}: begin the file with {wanted!r}.")
    if any(names.count(name) != 1 for name in _COLUMNS[:2]) or names.count("grade") > 1:
        raise InvalidLine(
            number,
            f"Begin the file with a header: {wanted}, in any order. Without the column grade, every row is relevant "
            "with grade 1. For a BEIR folder, pass the folder.",
        )
    if "grade" not in names and len(names) > len(_COLUMNS[:2]):
        raise InvalidLine(
            number,
            "The file has other columns, but none is named grade. Name the column with the grades so. If every row is "
            "relevant, keep only query and key.",
        )
    return {name: names.index(name) for name in _COLUMNS if name in names}
