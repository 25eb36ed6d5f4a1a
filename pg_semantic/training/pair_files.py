"""Reads and writes files of training pairs, and of pairs with their mined negatives: one JSON object per line.

A line of pairs is ``{"query": "...", "key": "7"}``, with an optional ``score`` from 0 to 1. A line of judgements,
``{"query": "...", "relevant": {"7": 1}}``, is read as one pair per relevant row. A line of a mined file has the keys of
the positive and its negatives, and where to find their passages. A line of pairs of rows is ``{"row": "7", "key":
"8"}``.

A file with the suffix ``.gz`` is read as one that is compressed with gzip. The files have queries and keys, but no
texts of rows. Queries can be as secret as the rows that answer them, so only the owner of a file can read it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import starmap
from pathlib import Path
from typing import Any, TypeVar

from pg_semantic import errors
from pg_semantic.evaluation import grade_records, input_lines, private_lines
from pg_semantic.training.mining.mined import MinedPair, ScoredChunk
from pg_semantic.training.pairs import Pair
from pg_semantic.training.row_pairs import RowPair

R = TypeVar("R")

_PAIR = '{"query": "...", "key": "7"} or {"query": "...", "relevant": {"7": 1}}'
_ROWS = '{"row": "7", "key": "8"}'
_MINED = '{"query": "...", "positive": "7", "negatives": ["8", "9"]}'


def read_pairs(path: Path) -> list[Pair]:
    """Reads a file of pairs or of judgements.

    Returns:
        The pairs in the order of the file, each once.

    Raises:
        errors.ConfigurationError: The file cannot be read or has no pair, or a line is invalid, such as one with a
            score that is not between 0 and 1, or another one than an earlier line has for the same query and row. The
            message has the number of the line.
    """
    scores: dict[tuple[str, str], float | None] = {}

    def consistent(record: Mapping[str, Any]) -> list[Pair]:
        pairs = _pairs_of(record)
        if any(scores.setdefault((one.query, one.key), one.score) != one.score for one in pairs):
            raise errors.ConfigurationError(
                "An earlier line has another score for the same query and row, or none: keep one of them."
            )
        return pairs

    found = list(dict.fromkeys(pair for pairs in _objects(path, consistent, expected=_PAIR) for pair in pairs))
    if not found:
        raise errors.ConfigurationError(f"{path} has no pairs: write {_PAIR} on each line.")
    return found


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Writes a file that `read_pairs` reads. Only its owner can read it. An existing file is replaced."""
    private_lines.write(
        path, (_without_none({"query": one.query, "key": one.key, "score": one.score}) for one in pairs)
    )


def read_row_pairs(path: Path) -> list[RowPair]:
    """Reads a file of pairs of rows.

    Returns:
        The pairs in the order of the file, each once.

    Raises:
        errors.ConfigurationError: The file cannot be read, or a line is invalid. The message has the line's number.
    """
    return list(dict.fromkeys(_objects(path, _row_pair_of, expected=_ROWS)))


def write_row_pairs(path: Path, pairs: Iterable[RowPair]) -> None:
    """Writes a file that `read_row_pairs` reads, with keys only. An existing file is replaced."""
    private_lines.write(path, ({"row": one.row, "key": one.key} for one in pairs))


def read_mined(path: Path) -> list[MinedPair]:
    """Reads a file that `write_mined` wrote.

    Raises:
        errors.ConfigurationError: The file cannot be read, or a line is invalid. The message has the line's number.
    """
    return list(_objects(path, _mined_of, expected=_MINED))


def write_mined(path: Path, pairs: Iterable[MinedPair]) -> None:
    """Writes pairs with their negatives. Only the owner of the file can read it. An existing file is replaced.

    On each line: ``query``, ``positive`` and ``negatives`` (keys), ``positive_ordinal`` and ``negative_ordinals`` (the
    chunks that are the passages), ``positive_score`` and ``negative_scores``.
    """
    private_lines.write(path, map(_mined_line, pairs))


def _pairs_of(record: Mapping[str, Any]) -> list[Pair]:
    query = _text(record["query"])
    if "relevant" in record:
        grades = {key: _whole(grade) for key, grade in record["relevant"].items()}
        return [Pair(query, key) for key, grade in grades.items() if grade >= 1]
    score = record.get("score")
    return [Pair(query, _key(record["key"]), None if score is None else _number(score))]


def _row_pair_of(record: Mapping[str, Any]) -> RowPair:
    return RowPair(_key(record["row"]), _key(record["key"]))


def _mined_line(one: MinedPair) -> dict[str, object]:
    return {
        "query": one.query,
        "positive": one.positive.key,
        "negatives": [negative.key for negative in one.negatives],
        "positive_ordinal": one.positive.ordinal,
        "negative_ordinals": [negative.ordinal for negative in one.negatives],
        "positive_score": one.positive.score,
        "negative_scores": [negative.score for negative in one.negatives],
    }


def _mined_of(record: Mapping[str, Any]) -> MinedPair:
    positive = _chunk(record["positive"], record["positive_ordinal"], record["positive_score"])
    columns = (record["negatives"], record["negative_ordinals"], record["negative_scores"])
    return MinedPair(_text(record["query"]), positive, tuple(starmap(_chunk, zip(*columns, strict=True))))


def _chunk(key: object, ordinal: object, score: object) -> ScoredChunk:
    return ScoredChunk(_key(key), _whole(ordinal), _number(score))


def _objects(path: Path, made: Callable[[Mapping[str, Any]], R], *, expected: str) -> Iterator[R]:
    """Yields what ``made`` makes of each line that isn't blank. Raises `errors.ConfigurationError`, naming the line."""
    with input_lines.opened(path) as file:
        for number, line in input_lines.numbered(file):
            try:
                yield made(json.loads(line))
            except (errors.ConfigurationError, errors.QueryError) as error:
                raise errors.ConfigurationError(f"{path}, line {number}: {error}") from None
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise errors.ConfigurationError(f"{path}, line {number}: write {expected} on each line.") from None


def _without_none(record: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in record.items() if value is not None}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _key(value: object) -> str:
    key = str(_whole(value)) if isinstance(value, int) else _text(value)
    if not grade_records.is_text(key):  # a lone surrogate or a NUL character, which no key has
        raise ValueError
    return key


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError
    return float(value)
