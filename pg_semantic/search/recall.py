"""How much of the truth a walk of the vector index finds: `recall`, and the `RecallReport` that it gives.

Recall of one query is the share of the rows of `search.exact` that `search.knn` finds too. A row that is found in
place of one with the same score counts: which of the two comes last is chance.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.index.declare import BoundIndex
from pg_semantic.index.distances import Vector
from pg_semantic.search import explain, rankings, statements
from pg_semantic.search.rankings import Where
from pg_semantic.search.statements import Ranked

T = TypeVar("T")
Statement: TypeAlias = "sa.Select[*tuple[Any, ...]]"

_SAME_SCORE = 1e-6
_NORMAL_QUANTILE = 1.959964  # of 97.5 %: leaves 5 % outside an interval


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """What was measured behind the filters of one class, over its ``queries``.

    ``recall`` is the mean, 0 to 1, and ``low`` to ``high`` the 95 % interval of what it would be over all queries like
    these: the score interval of Wilson (1927), which no shares between 0 and 1 make too narrow. ``short`` counts the
    walks that gave fewer rows than there are, ``completed`` those that a Session would run again, exactly, for having
    given fewer than ``limit``; the recall is that of the walk before. Times are medians, in milliseconds.
    ``uses_vector_index`` is False where the planner filters first, so that results are exact.
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
        """Raises AssertionError, naming the classes, if a class's recall is less than this; for tests."""
        failed = [
            f"{one.name!r} {one.recall:.3f} (95 % interval {one.low:.3f} to {one.high:.3f}, {one.queries} queries)"
            for one in self.classes
            if one.recall < least
        ]
        if failed:
            raise AssertionError(
                f"Recall@{self.limit} of {self.index} is less than {least}: {', '.join(failed)}. A higher "
                "ef_construction or m makes a better graph."
            )


@dataclass(frozen=True, slots=True)
class _Query:
    """A vector to ask with, and the condition that leaves out the row it was taken from."""

    vector: Vector
    others: sa.ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class _QueryRecall:
    """What one query found in both ways; scores are in order."""

    walked: Sequence[float]
    exact: Sequence[float]
    walk_ms: float
    exact_ms: float

    @property
    def recall(self) -> float:
        least = self.exact[-1] - _SAME_SCORE
        return sum(score >= least for score in self.walked) / len(self.exact)


def recall(  # noqa: PLR0913 - what can be told
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
    """Measures `search.knn` against `search.exact`, behind each of the classes of filters in ``where``.

    ``where`` has conditions by the name of the class, as ``{"all": (), "english": [Article.lang == "en"]}``, by
    default the first. ``queries`` are vectors, by default those of ``sample`` chunks picked at random, the same ones
    for the same rows and ``seed``, none of which finds its own row. All classes are asked the same queries, and
    ``on_query`` is called after each. In a table that is written to meanwhile some differences are changes: measure in
    a REPEATABLE READ transaction there. Takes as long as that many exact searches for each class, and reads all keys
    to pick a sample.

    In an AsyncSession: ``await session.run_sync(search.recall, Article.semantic, sample=50)``. As a test:
    ``search.recall(session, Article.semantic).require(0.95)``.

    Raises `errors.QueryError` when there is nothing to measure: no vectors, or no row that matches a class.
    """
    if where is not None and not isinstance(where, Mapping):
        raise errors.QueryError("where has lists of conditions by name, as where={'english': [Article.lang == 'en']}.")
    connection = session
    if isinstance(session, orm.Session):  # a Session would complete what came out short
        connection = session.connection(bind_arguments={"mapper": index.entity})
    assert isinstance(connection, sa.Connection)  # noqa: S101 - there are two kinds
    with database.translated():
        asked = _given(queries) if queries is not None else _picked(connection, index, sample=sample, seed=seed)
        if not asked:
            raise errors.QueryError(f"There is nothing to measure: {index.name!r} has no vectors, or sample is 0.")
        ask = _Ask(connection, index, asked, limit, on_query)
        classes = tuple(ask.behind(name, conditions) for name, conditions in _checked(index, where).items())
    return RecallReport(index.name, limit, classes)


def _checked(index: BoundIndex[Any], where: Mapping[str, Where] | None) -> Mapping[str, Where]:
    classes = {name: rankings.conditions(conditions) for name, conditions in (where or {"all": ()}).items()}
    for conditions in classes.values():
        rankings.require_own(index, conditions)
    return classes


def interval(mean: float, count: int) -> tuple[float, float]:
    """The 95 % score interval (Wilson 1927) of a mean of so many shares, each 0 to 1.

    It is that of a yes or no, which varies the most of all shares with this mean; so it is wide enough for any.
    """
    square = _NORMAL_QUANTILE**2 / count
    middle = (mean + square / 2) / (1 + square)
    reach = math.sqrt(mean * (1 - mean) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _given(queries: Sequence[Vector]) -> list[_Query]:
    return [_Query(vector, sa.true()) for vector in queries]


def _picked(connection: sa.Connection, index: BoundIndex[Any], *, sample: int, seed: int) -> list[_Query]:
    """Vectors of random chunks: the first of all in the order of a hash of their keys."""
    tables = index.tables
    key = tables.chunk_key
    name = sa.cast(sa.func.row(*key, tables.chunks.c.ordinal), sa.Text)
    order = sa.func.hashtextextended(name, sa.cast(seed, sa.BigInteger))
    rows = connection.execute(sa.select(tables.chunks.c.vector, *key).order_by(order, name).limit(sample))
    return [
        _Query(vector, ~sa.and_(*(column == value for column, value in zip(tables.source_key, own, strict=True))))
        for vector, *own in rows
    ]


def _pair(index: BoundIndex[T], query: _Query, where: Where, *, limit: int) -> tuple[Statement, Statement]:
    """The statement of `search.knn` and that of `search.exact`, both giving scores alone."""
    walking = statements.ranked_knn(index, query.vector, limit=limit, offset=0)
    exact = statements.ranked_exact(index, query.vector, limit=limit, offset=0)
    return _scores(walking, query, where), _scores(exact, query, where)


def _scores(ranked: Ranked[Any], query: _Query, where: Where) -> Statement:
    only = ranked.statement.with_only_columns(ranked.score.label("score"), maintain_column_froms=True)
    return only.where(query.others, *where)


@dataclass(frozen=True, slots=True)
class _Ask:
    """Asks all queries in both ways."""

    connection: sa.Connection
    index: BoundIndex[Any]
    queries: Sequence[_Query]
    limit: int
    on_query: Callable[[], object]

    def behind(self, name: str, where: Where) -> ClassRecall:
        """What is found behind these filters."""
        pairs = [_pair(self.index, query, where, limit=self.limit) for query in self.queries]
        answers = [answer for pair in pairs if (answer := self._answer(*pair)).exact]
        if not answers:
            raise errors.QueryError(f"No row with vectors matches the filters of class {name!r}.")
        walks = explain.explain(self.connection, pairs[0][0]).uses_vector_index
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
