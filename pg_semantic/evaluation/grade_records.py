"""Collects grades of relevance from the records of a file or a table, and refuses what is not one."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from pg_semantic import errors
from pg_semantic.search import validation

HIGHEST_GRADE = 1_000_000
GRADE_RANGE = f"a whole number from 0 (not relevant) to {HIGHEST_GRADE}"

_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_WHOLE_NUMBER = re.compile(r"([0-9]{1,7})(?:\.0*)?")  # programs that keep numbers as floats write 2.0
_BELOW_ZERO = re.compile(r"-[0-9]{1,7}")

Refuse = Callable[[int, str], errors.PgSemanticError]


class GradeRecord(NamedTuple):
    """A grade as it was read, not yet checked.

    Attributes:
        number: The number of its line or row, from 1.
        query: The text of the query.
        key: The key of a row as text.
        grade: The grade, as an integer or as text.
    """

    number: int
    query: object
    key: object
    grade: object


@dataclass(slots=True)
class FromZero:
    """Records of a format of TREC, where a grade below 0 marks spam or a page without text. Reads it as 0.

    Attributes:
        records: The records, with their grades as text.
        below_zero: How many of those that were read have a grade below 0.
    """

    records: Iterable[GradeRecord]
    below_zero: int = 0

    def __iter__(self) -> Iterator[GradeRecord]:
        """Yields the records."""
        for record in self.records:
            is_below = isinstance(record.grade, str) and _BELOW_ZERO.fullmatch(record.grade.strip()) is not None
            self.below_zero += is_below
            yield record._replace(grade=0) if is_below else record


def collect(records: Iterable[GradeRecord], *, refuse: Refuse) -> dict[str, dict[str, int]]:
    """Returns the grades of each query by key, in the order of the records.

    Args:
        records: The grades as they were read.
        refuse: Makes the exception for a record, from its number and from what is wrong.

    Raises:
        errors.PgSemanticError: What ``refuse`` returns for the first record that is not valid, or that differs from an
            earlier one about the same query and row.
    """
    grades: dict[str, dict[str, int]] = {}
    for number, query, key, grade in records:
        value = _as_grade(grade)
        if problem := _query_problem(query) or _key_problem(key):
            raise refuse(number, problem)
        if value is None:
            raise refuse(number, f"The grade must be {GRADE_RANGE}.")
        if grades.setdefault(str(query), {}).setdefault(str(key), value) != value:
            raise refuse(number, "An earlier judgement of the same query and row has another grade: keep one of them.")
    return grades


def is_grade(value: object) -> bool:
    """Returns whether a value is a grade of relevance."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HIGHEST_GRADE


def is_text(value: str) -> bool:
    """Returns whether Postgres can have a text: it has no NUL character and no lone surrogate."""
    return not _NO_TEXT.search(value)


def is_searchable(query: object) -> bool:
    """Returns whether a value is a text that can be searched for."""
    return _query_problem(query) is None


def _query_problem(query: object) -> str | None:
    """Returns why no one can search for a value, or None if they can."""
    if not isinstance(query, str):
        return "The query must be text."
    try:
        validation.check_query_text(query)
    except errors.QueryError as error:
        return str(error)
    return None


def _key_problem(key: object) -> str | None:
    """Returns why a value cannot be the key of a row, or None if it can."""
    if not isinstance(key, str) or not key:
        return "The key must be a text that isn't empty: the row's primary key, or a JSON array for several columns."
    return None if is_text(key) else "The key has a NUL character or a lone surrogate, which Postgres does not accept."


def _as_grade(value: object) -> int | None:
    """Returns the value of a grade in a record, or None if it is not valid."""
    if isinstance(value, str):
        whole = _WHOLE_NUMBER.fullmatch(value.strip())
        value = int(whole[1]) if whole else None
    elif isinstance(value, float | Decimal):  # numeric columns
        value = int(value) if float(value).is_integer() else None
    return value if isinstance(value, int) and is_grade(value) else None
