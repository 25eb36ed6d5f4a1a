"""Reads the judgements of a BEIR folder: ``queries.jsonl`` and ``qrels/<split>.tsv`` (Thakur et al. 2021)."""

import json
from collections.abc import Iterator
from pathlib import Path

from pg_semantic import errors
from pg_semantic.evaluation import input_lines
from pg_semantic.evaluation.grade_records import GradeRecord
from pg_semantic.evaluation.input_lines import InvalidLine

_HEADER = ("query-id", "corpus-id", "score")


def qrels_of(folder: Path, split: str) -> Path:
    """Returns the file with the judgements of a split.

    Raises:
        errors.ConfigurationError: The folder has no such split.
    """
    file = input_lines.existing(folder / "qrels" / f"{split}.tsv")
    if not file.exists():
        splits = sorted(path.name.removesuffix(".gz").removesuffix(".tsv") for path in folder.glob("qrels/*.tsv*"))
        raise errors.ConfigurationError(
            f"{folder} has no file qrels/{split}.tsv: a BEIR folder has queries.jsonl, and qrels with a file per split "
            f"(here: {', '.join(splits) or 'none'})."
        )
    return file


def records(folder: Path, split: str) -> Iterator[GradeRecord]:
    """Yields the judgements of a split, with the texts of their queries.

    Raises:
        errors.ConfigurationError: A file cannot be read, or a line is not valid.
    """
    texts = _texts(folder)
    with input_lines.opened(qrels_of(folder, split)) as file:
        for number, line in input_lines.numbered(file):
            fields = tuple(line.split("\t"))
            if number == 1 and fields == _HEADER:
                continue
            if len(fields) != len(_HEADER):
                raise InvalidLine(number, "Write query-id, corpus-id and score, separated by tabs.")
            query, key, grade = fields
            if query not in texts:
                raise InvalidLine(number, "queries.jsonl has no query with this query-id.")
            yield GradeRecord(number, texts[query], key, grade)


def _texts(folder: Path) -> dict[str, str]:
    """Returns the text of each query by its id."""
    texts: dict[str, str] = {}
    with input_lines.opened(input_lines.existing(folder / "queries.jsonl")) as file:
        for number, line in input_lines.numbered(file):
            try:
                record = json.loads(line)
                name, text = record["_id"], record["text"]
            except (ValueError, KeyError, TypeError, RecursionError):
                name = text = None
            if not (isinstance(name, str) and isinstance(text, str)):
                raise InvalidLine(number, 'write {"_id": "...", "text": "..."} on each line.')
            if texts.setdefault(name, text) != text:
                raise InvalidLine(number, "An earlier query has the same _id and another text.")
    return texts
