"""Reads judgements from the user's own tables."""

from collections.abc import Iterator
from typing import Any

from pg_semantic import errors
from pg_semantic.evaluation import grade_records, user_statement
from pg_semantic.evaluation.grade_records import GradeRecord
from pg_semantic.evaluation.sessions import Session
from pg_semantic.evaluation.user_statement import UserStatement
from pg_semantic.index.bound_index import BoundIndex


def select(session: Session, index: BoundIndex[Any], statement: UserStatement) -> dict[str, dict[str, int]]:
    """Returns the grades of each query by key; `judgements.Judgements.select` describes the statement.

    Raises:
        errors.QueryError: The statement fails, returns other columns or no rows, or a row is not a judgement.
        errors.DatabaseError: The role lacks privileges, or the database does not respond.
    """
    wrapped = user_statement.wrap(session, index, statement, others=["grade"], required=0)
    rows = user_statement.execute(session, index, wrapped)
    grades = grade_records.collect(_records(rows), refuse=_refusal)
    if not grades:
        raise errors.QueryError("The statement returns no judgements.")
    return grades


def _records(rows: Any) -> Iterator[GradeRecord]:  # noqa: ANN401 - rows of any columns
    for number, (query, key, *grades) in enumerate(rows, start=1):
        grade = grades[0] if grades else 1
        yield GradeRecord(number, query, key, int(grade) if isinstance(grade, bool) else grade)


def _refusal(number: int, problem: str) -> errors.QueryError:
    return errors.QueryError(f"Row {number} of the statement: {problem[:1].lower()}{problem[1:]}")
