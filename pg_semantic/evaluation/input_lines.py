"""Reads the lines of a text file, compressed or not, and says which file or line could not be read."""

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from pg_semantic import errors
from pg_semantic.search import validation

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a spreadsheet begins a formula
_AS_TEXT = "'"


class InvalidLine(Exception):  # noqa: N818 - never leaves `read_judgements`
    """What is wrong with a line, without the line."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(problem)
        self.number = number
        self.problem = problem


def existing(path: Path) -> Path:
    """Returns the path of a file, or of its compressed form ``.gz`` if only that exists."""
    compressed = path.with_name(f"{path.name}.gz")
    return compressed if compressed.exists() and not path.exists() else path


@contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    """Opens a text file in UTF-8, with or without a byte order mark. Decompresses ``.gz``.

    Raises:
        errors.ConfigurationError: The file cannot be read, or a line in it is not valid; the message has its number.
    """
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield cast("IO[str]", file)
    except InvalidLine as error:
        raise refusal(path, error.number, error.problem) from None
    except UnicodeDecodeError:
        raise errors.ConfigurationError(f"Cannot read {path}: it is not text in UTF-8. Convert it first.") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise errors.ConfigurationError(f"Cannot read {path}: {reason}.") from None


def refusal(path: Path, number: int, problem: str) -> errors.ConfigurationError:
    """Returns the exception for a line of a file."""
    return errors.ConfigurationError(f"{path}, line {number}: {problem[:1].lower()}{problem[1:]}")


def numbered(file: IO[str]) -> Iterator[tuple[int, str]]:
    """Yields each line that is not blank, with its number from 1 and without the end of the line."""
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, line.rstrip("\r\n")


def cell(value: object) -> object:
    """Returns a value for a CSV file. A text that a spreadsheet would run as a formula gets a quote in front."""
    return f"{_AS_TEXT}{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _without_mark(field: str) -> str:
    return field[1:] if field.startswith(_AS_TEXT) and field[1:].startswith(_FORMULA) else field


def table(file: IO[str], *, delimiter: str) -> Iterator[tuple[int, Sequence[str]]]:
    """Yields each record of a CSV or TSV file that is not blank, with the number of the line where it begins.

    Removes the quotes that `cell` puts in front of texts.

    Raises:
        InvalidLine: Quotes are not closed, or a field is too long for a query.
    """
    reader = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=True)
    for _ in itertools.count():
        number = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise InvalidLine(number, _csv_problem(str(error))) from None
        if record is None:
            return
        if any(field.strip() for field in record):
            yield number, [_without_mark(field) for field in record]


def _csv_problem(said: str) -> str:
    if "field limit" in said:
        return f"A field is longer than {validation.MOST_CHARACTERS} characters, the limit of a query."
    return (
        f"This is not a valid record ({said}): put a field with quotes, delimiters or line breaks in double quotes, "
        "and double the quotes inside."
    )
