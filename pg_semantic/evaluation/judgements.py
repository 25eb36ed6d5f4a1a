"""`Judgements`: how relevant rows are to queries. What evaluation, tuning and training measure with.

Here is the data and its constructors, and not what they read: see `read_judgements`, `selected_judgements`, `clicks`
and `existing_rows`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pg_semantic import errors
from pg_semantic.evaluation import (
    clicks,
    existing_rows,
    grade_records,
    private_lines,
    read_judgements,
    selected_judgements,
)
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.evaluation.sessions import Session
from pg_semantic.evaluation.user_statement import UserStatement
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import validation


@dataclass(frozen=True, slots=True)
class Judgements:
    """How relevant rows are to queries.

    A row that was not judged for a query has no grade there, which is not the same as grade 0.

    Attributes:
        grades: For each query text, the grade of each judged row by its key. 0 means not relevant, and a higher grade
            a more relevant row. A key is a text: the column as text, or for several columns a JSON array of texts.
        implicit: Whether the grades were estimated from clicks, and not given by people. The two kinds don't mix.
        below_zero: How many grades in a file of TREC or BEIR were below 0, which marks spam, and were read as 0.

    Raises:
        errors.QueryError: A query cannot be searched for or has no judgements, or a grade is not a whole number from 0
            to 1,000,000.
    """

    grades: Mapping[str, Mapping[str, int]]
    implicit: bool = False
    below_zero: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        for query, graded in self.grades.items():
            validation.check_query_text(query)
            if not graded:
                raise errors.QueryError("A query has no judgements: leave it out, or give a grade to at least one row.")
            if not all(map(grade_records.is_grade, graded.values())):
                raise errors.QueryError(f"A grade is {grade_records.GRADE_RANGE}.")

    @classmethod
    def read(cls, path: Path | str, *, split: str = "test", topics: Path | str | None = None) -> "Judgements":
        """Reads judgements from a file or a folder. Each file may be compressed with gzip, with the suffix ``.gz``.

        The format follows from the name and the arguments:

        * ``.csv`` and ``.tsv``: a table with a header, and the columns ``query``, ``key`` and ``grade`` in any order.
          Other columns are ignored. Without the column ``grade``, each row is relevant with grade 1. A record with an
          empty grade has not been judged, and is left out.
        * a folder in the format of BEIR: ``queries.jsonl``, and ``qrels/<split>.tsv``.
        * with ``topics``: qrels of TREC, ``topic iteration document grade`` on each line. Here and in BEIR, a grade
          below 0 counts as 0.
        * any other file: JSON Lines, with ``{"query": "...", "relevant": {"key": grade}}`` on each line. Grades from
          clicks also have ``"implicit": true``, as `write` writes them.

        Args:
            path: The file or folder.
            split: Which judgements of a BEIR folder.
            topics: The queries for qrels of TREC: topics in SGML, whose titles are used, or ``topic<TAB>query`` lines.

        Raises:
            errors.ConfigurationError: A file cannot be read or is empty; or a line is not valid, or gives a row another
                grade than an earlier line for the same query. The message has the number of the line.
        """
        topics = None if topics is None else Path(topics)
        found = read_judgements.read(Path(path), split=split, topics=topics)
        return cls(found.grades, found.implicit, found.below_zero)

    @classmethod
    def select(cls, session: Session, index: BoundIndex[Any], statement: UserStatement) -> "Judgements":
        """Reads judgements from your own tables.

        Args:
            session: A Session or Connection, whose privileges and policies apply. With an AsyncSession:
                ``await session.run_sync(Judgements.select, Article.semantic, statement)``.
            index: The semantic index whose rows were judged.
            statement: A SELECT or its text, with the columns query, key (as many as the table has key columns, in key
                order) and grade, in this order and with any names. Without grade, each row is relevant with grade 1.
                A Boolean grade counts as 0 or 1.

        Raises:
            errors.QueryError: The statement fails, returns other columns or no rows, or a row is not valid.
            errors.DatabaseError: The role lacks privileges, or the database does not respond.
        """
        return cls(selected_judgements.select(session, index, statement))

    @classmethod
    def clicks(
        cls,
        session: Session,
        index: BoundIndex[Any],
        statement: UserStatement,
        *,
        least_expected: float = clicks.LEAST_EXPECTED,
    ) -> "Judgements":
        """Estimates judgements from clicks on the results of searches, in your own tables.

        Compares the clicks on a row with the clicks that an average row would have had at the same ranks (clicks over
        expected clicks). A row that was clicked less often than expected has grade 0, one that was clicked as often or
        more 1, twice as often 2, and four times as often 3. Clicks on queries that differ only in case, width or white
        space count together, for the most frequent spelling.

        Args:
            session: A Session or Connection, whose privileges and policies apply.
            index: The semantic index whose rows were found.
            statement: A SELECT or its text, with the columns query, key (as many as the table has key columns, in key
                order), rank and clicked, in this order and with any names. Return a row each time that a row was shown,
                whether it was clicked or not: rank is its position in the results, and clicked a Boolean or a number
                of clicks. Rows without a query, a key or a rank are ignored.
            least_expected: Leaves out rows with fewer expected clicks for a query. The default of 10 makes the standard
                error of an average row's ratio about 0.3.

        Returns:
            Implicit judgements. A row that was never shown for a query has none.

        Raises:
            errors.QueryError: The statement fails or returns other columns, no row or every row was clicked, or no row
                was shown often enough.
            errors.DatabaseError: The role lacks privileges, or the database does not respond.
        """
        return cls(clicks.select(session, index, statement, least_expected=least_expected), implicit=True)

    @property
    def queries(self) -> tuple[str, ...]:
        """The judged queries, in the order in which they were read."""
        return tuple(self.grades)

    @property
    def count(self) -> int:
        """The number of judgements: pairs of a query and a row."""
        return sum(map(len, self.grades.values()))

    def __len__(self) -> int:
        """The number of judged queries."""
        return len(self.grades)

    def relevant(self, query: str) -> frozenset[str]:
        """Returns the keys of the rows that are relevant to a query: those with a grade of 1 or more."""
        return frozenset(key for key, grade in self.grades.get(query, {}).items() if grade > 0)

    def only(self, queries: Iterable[str]) -> "Judgements":
        """Returns the judgements of these queries, in the present order. Ignores queries without judgements."""
        kept = frozenset(queries)
        return replace(self, grades={query: graded for query, graded in self.grades.items() if query in kept})

    def distinct(self) -> "Judgements":
        """Merges queries that differ only in case, width or white space into the first of them, as `split` does.

        Raises:
            errors.QueryError: They give a row different grades.
        """
        first: dict[bytes, str] = {}
        spelled = {query: first.setdefault(query_hash(query), query) for query in self.queries}
        if len(first) == len(self):
            return self
        merged: dict[str, dict[str, int]] = {query: {} for query in first.values()}
        differing = sum(_add(merged[spelled[query]], graded) for query, graded in self.grades.items())
        if differing:
            raise errors.QueryError(
                f"Queries that differ only in case, width or white space are the same query, but the judgements give "
                f"{differing} of their rows different grades: keep one of each."
            )
        return replace(self, grades=merged)

    def merged(self, other: "Judgements") -> "Judgements":
        """Returns these judgements followed by those of ``other``.

        Raises:
            errors.QueryError: One is implicit and the other isn't, or they give a row different grades for a query.
        """
        if self.implicit != other.implicit:
            raise errors.QueryError(
                "Grades from clicks and grades from people cannot be merged, because they measure different things: "
                "evaluate with each of them."
            )
        both = {query: dict(graded) for query, graded in self.grades.items()}
        differing = sum(_add(both.setdefault(query, {}), graded) for query, graded in other.grades.items())
        if differing:
            raise errors.QueryError(
                f"The judgements give different grades to {differing} pairs of a query and a row: keep one of each."
            )
        return replace(self, grades=both)

    def write(self, path: Path | str) -> None:
        """Writes JSON Lines, which `read` reads, to a file that only its owner can read.

        Raises:
            errors.ConfigurationError: The file cannot be written.
        """
        kind = {"implicit": True} if self.implicit else {}
        lines = ({"query": query, "relevant": dict(graded)} | kind for query, graded in self.grades.items())
        private_lines.write(Path(path), lines)

    def resolved(self, session: Session, index: BoundIndex[Any]) -> tuple["Judgements", int]:
        """Leaves out judgements of rows that don't exist, and writes keys as searches return them.

        Looks up each row by its key, which takes up to 3 seconds for 100,000 judgements whatever the size of the table.

        Args:
            session: A Session or Connection. Rows that its role can't see don't exist.
            index: The semantic index whose rows were judged.

        Returns:
            The judgements of existing rows, without queries that have none; and how many judgements were left out. A
            text that cannot be a key of the table counts as a row that doesn't exist.

        Raises:
            errors.QueryError: Two ways to write the same key, such as ``7`` and ``007``, have different grades.
            errors.DatabaseError: The role lacks privileges, or the database does not respond.
        """
        given = {key for graded in self.grades.values() for key in graded}
        canonical = existing_rows.canonical(session, index, given)
        grades: dict[str, dict[str, int]] = {}
        gone = differing = 0
        for query, graded in self.grades.items():
            found = [(canonical[key], grade) for key, grade in graded.items() if key in canonical]
            gone += len(graded) - len(found)
            if found:
                differing += _add(grades.setdefault(query, {}), found)
        if differing:
            raise errors.QueryError(
                f"The judgements give different grades to {differing} rows whose keys are written in several ways: "
                "keep one grade for each."
            )
        return replace(self, grades=grades), gone


def _add(to: dict[str, int], graded: Mapping[str, int] | Iterable[tuple[str, int]]) -> int:
    """Adds grades by key, and returns how many differ from those that are already there."""
    pairs = graded.items() if isinstance(graded, Mapping) else graded
    return sum(to.setdefault(key, grade) != grade for key, grade in pairs)
