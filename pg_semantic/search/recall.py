"""Recall of the vector index: `recall`, and the `RecallReport` that it returns.

The recall of one query is the share of the rows of `search.exact` that `search.knn` finds too. A row found in place of
one with the same score counts as found, since it is chance which of the two comes last.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.distances import Vector
from pg_semantic.recall import random_chunks
from pg_semantic.recall.score_interval import interval
from pg_semantic.search import legs, query_plan, statements
from pg_semantic.search.legs import Where
from pg_semantic.search.statements import Ranked

T = TypeVar("T")
Statement: TypeAlias = "sa.Select[*tuple[Any, ...]]"

_SAME_SCORE = 1e-6


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """What was measured for one class of filters.

    Attributes:
        name: The name of the class.
        queries: How many queries were measured.
        recall: The mean recall of the index scan, 0 to 1, before any rerun.
        low: The lower end of the 95% interval of the recall over all queries like these. It is the score interval of
            Wilson (1927), which is wide enough for any shares between 0 and 1.
        high: The upper end.
        short: How many scans returned fewer rows than an exact search.
        completed: How many scans returned fewer rows than ``limit``, so that a Session would rerun them exactly.
        walk_ms: The median time of the index scans, in milliseconds.
        exact_ms: The median time of the exact searches, in milliseconds.
        uses_vector_index: False if the planner filters first, so that the results are exact.
    """

    name: str
    queries: int
    recall: float
    low: float
    high: float
    short: int
    completed: int
    walk_ms: float
    exact_ms: float
    uses_vector_index: bool


@dataclass(frozen=True, slots=True)
class RecallReport:
    """Recall at ``limit`` of a semantic index, for each class of filters."""

    index: str
    limit: int
    classes: tuple[ClassRecall, ...]

    @property
    def worst(self) -> ClassRecall:
        """The class with the lowest recall."""
        return min(self.classes, key=lambda one: one.recall)

    def require(self, least: float) -> None:
        """Raises AssertionError, with the names of the classes, if the recall of a class is below ``least``."""
        failed = [
            f"{one.name!r} {one.recall:.3f} (95% interval {one.low:.3f} to {one.high:.3f}, {one.queries} queries)"
            for one in self.classes
            if one.recall < least
        ]
        if failed:
            raise AssertionError(
                f"Recall@{self.limit} of {self.index} is below {least}: {', '.join(failed)}. To raise it, build the "
                "vector index with a higher ef_construction or m."
            )


@dataclass(frozen=True, slots=True)
class _Query:
    """A query vector, and the condition that excludes the row that it comes from."""

    vector: Vector
    others: sa.ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class _QueryRecall:
    """The scores that one query found with an index scan and exactly, best first, and the times."""

    walked: Sequence[float]
    exact: Sequence[float]
    walk_ms: float
    exact_ms: float

    @property
    def recall(self) -> float:
        least = self.exact[-1] - _SAME_SCORE
        return sum(score >= least for score in self.walked) / len(self.exact)


def recall(  # noqa: PLR0913 - options
    session: orm.Session | sa.Connection,
    index: BoundIndex[Any],
    *,
    sample: int = 100,
    limit: int = 10,
    where: Mapping[str, Where] | None = None,
    queries: Sequence[Vector] | None = None,
    seed: int = 0,
    on_query: Callable[[], object] = lambda: None,
) -> RecallReport:
    """Measures the recall of `search.knn` against `search.exact`, for each class of filters.

    Takes as long as ``sample`` exact searches per class, and reads all keys. If the table is being written to, use a
    REPEATABLE READ transaction, or changes count as misses. In a test: ``search.recall(...).require(0.95)``. With an
    AsyncSession: ``await session.run_sync(search.recall, Article.semantic)``.

    Args:
        sample: How many chunks to pick at random as queries. No query finds its own row.
        where: Filters by class name, such as ``{"all": (), "english": [Article.lang == "en"]}``. Default: no filter.
        queries: Query vectors to use instead of a sample. Every class gets the same queries.
        seed: The same seed picks the same sample from the same rows.
        on_query: Called after each query, in each class.

    Raises:
        errors.QueryError: There is nothing to measure: no vectors, or no rows in a class.
    """
    if where is not None and not isinstance(where, Mapping):
        raise errors.QueryError("where takes a dict of lists, such as where={'english': [Article.lang == 'en']}.")
    connection = session
    if isinstance(session, orm.Session):  # a Session would rerun short results
        connection = session.connection(bind_arguments={"mapper": index.entity})
    assert isinstance(connection, sa.Connection)  # noqa: S101 - the only other type
    with database.translated():
        asked = _given(queries) if queries is not None else _picked(connection, index, sample=sample, seed=seed)
        if not asked:
            raise errors.QueryError(f"There is nothing to measure: {index.name!r} has no vectors, or sample is 0.")
        ask = _Ask(connection, index, asked, limit, on_query)
        classes = tuple(ask.behind(name, conditions) for name, conditions in _checked(index, where).items())
    return RecallReport(index.name, limit, classes)


def _checked(index: BoundIndex[Any], where: Mapping[str, Where] | None) -> Mapping[str, Where]:
    classes = {name: legs.conditions(conditions) for name, conditions in (where or {"all": ()}).items()}
    for conditions in classes.values():
        legs.require_own(index, conditions)
    return classes


def _given(queries: Sequence[Vector]) -> list[_Query]:
    return [_Query(vector, sa.true()) for vector in queries]


def _picked(connection: sa.Connection, index: BoundIndex[Any], *, sample: int, seed: int) -> list[_Query]:
    tables = index.tables
    rows = connection.execute(random_chunks.picked(tables, sample=sample, seed=seed))
    return [
        _Query(vector, ~sa.and_(*(column == value for column, value in zip(tables.source_key, own, strict=True))))
        for vector, *own in rows
    ]


def _pair(index: BoundIndex[T], query: _Query, where: Where, *, limit: int) -> tuple[Statement, Statement]:
    """The statements of `search.knn` and `search.exact`, which return only the scores."""
    walking = statements.ranked_knn(index, query.vector, limit=limit, offset=0)
    exact = statements.ranked_exact(index, query.vector, limit=limit, offset=0)
    return _scores(walking, query, where), _scores(exact, query, where)


def _scores(ranked: Ranked[Any], query: _Query, where: Where) -> Statement:
    only = ranked.statement.with_only_columns(ranked.score.label("score"), maintain_column_froms=True)
    return only.where(query.others, *where)


@dataclass(frozen=True, slots=True)
class _Ask:
    """Runs all queries with an index scan and exactly."""

    connection: sa.Connection
    index: BoundIndex[Any]
    queries: Sequence[_Query]
    limit: int
    on_query: Callable[[], object]

    def behind(self, name: str, where: Where) -> ClassRecall:
        """Measures the queries with these filters."""
        pairs = [_pair(self.index, query, where, limit=self.limit) for query in self.queries]
        answers = [answer for pair in pairs if (answer := self._answer(*pair)).exact]
        if not answers:
            raise errors.QueryError(f"No row with vectors matches the filters of class {name!r}.")
        walks = query_plan.explain(self.connection, pairs[0][0]).uses_vector_index
        return _measured(name, answers, limit=self.limit, walks=walks)

    def _answer(self, walking: Statement, computing: Statement) -> _QueryRecall:
        walked, walk_ms = _timed(self.connection, walking)
        exact, exact_ms = _timed(self.connection, computing)
        self.on_query()
        return _QueryRecall(walked, exact, walk_ms, exact_ms)


def _timed(connection: sa.Connection, statement: Statement) -> tuple[Sequence[float], float]:
    began = time.perf_counter()
    scores = connection.scalars(statement).all()
    return scores, (time.perf_counter() - began) * 1000


def _measured(name: str, answers: Sequence[_QueryRecall], *, limit: int, walks: bool) -> ClassRecall:
    mean = statistics.fmean(answer.recall for answer in answers)
    low, high = interval(mean, len(answers))
    return ClassRecall(
        name=name,
        queries=len(answers),
        recall=mean,
        low=low,
        high=high,
        short=sum(len(answer.walked) < len(answer.exact) for answer in answers),
        completed=sum(len(answer.walked) < limit for answer in answers),
        walk_ms=statistics.median(answer.walk_ms for answer in answers),
        exact_ms=statistics.median(answer.exact_ms for answer in answers),
        uses_vector_index=walks,
    )
