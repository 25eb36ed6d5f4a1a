"""Keeps the figures of evaluations in the database, to see how quality changes. Never keeps a query."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.evaluation import measures, significance
from pg_semantic.evaluation.measures import Grades
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.evaluation.report import Evaluation, VariantFigures

_EVALUATION = sa.table("evaluation", sa.column("per_query"), schema="semantic")
_CURRENT_DAYS = 90  # how much older than the newest figures of an index those of a variant may be, to be shown


@dataclass(frozen=True, slots=True)
class Change:
    """How the base of an evaluation differs from when it was last evaluated, on the same judgements.

    Attributes:
        since: When that was.
        mean: The mean difference of the first measure, now minus then.
        p: Two-sided p value of the paired randomization test.
    """

    since: datetime
    mean: float
    p: float

    @property
    def is_worse(self) -> bool:
        """Whether the mean is lower, and by more than chance explains (p < .05)."""
        return self.mean < 0 and self.p < 0.05  # noqa: PLR2004 - the usual level


@dataclass(frozen=True, slots=True)
class KeptFigures:
    """The figures of a variant at one time.

    Attributes:
        evaluated_at: When.
        variant: Its name.
        measures: The mean of each measure.
        queries: How many queries the figures are means of.
        judged: The share of the first results that were judged.
        p50_ms: Median time of a search.
        p95_ms: 95th percentile of these times.
        judgements: Numbers the sets of judgements, from 1. Figures on others are not comparable.
        role: What the searched generation is now; None if it was dropped.
        encoder: The reference of its encoder; None if it was dropped.
    """

    evaluated_at: datetime
    variant: str
    measures: Mapping[str, float]
    queries: int
    judged: float
    p50_ms: float
    p95_ms: float
    judgements: int
    role: str | None
    encoder: str | None


@dataclass(frozen=True, slots=True)
class LatestFigures:
    """The latest figures of a variant.

    Attributes:
        generation_id: The live generation of the index.
        variant: Its name.
        measures: The mean of each measure.
        seconds: How long ago it was evaluated.
    """

    generation_id: int
    variant: str
    measures: Mapping[str, float]
    seconds: float


def newest(connection: sa.Connection, generation_id: int, *, most: int) -> list[KeptFigures]:
    """Returns the newest figures of an index, newest first; none for a role that can't read all rows of its table.

    Args:
        generation_id: Any generation of the index.
        most: How many to return at most. The variants of one evaluation count each.
    """
    binds = {"generation": generation_id, "most": most}
    return [KeptFigures(*row) for row in connection.execute(sql.statement("evaluation", "newest"), binds)]


def latest(connection: sa.Connection) -> list[LatestFigures]:
    """Returns the latest figures of each variant of every index whose rows the role can all read.

    Leaves out variants that were not evaluated in the 90 days before the latest evaluation of their index.
    """
    found = connection.execute(sql.statement("evaluation", "latest"), {"days": _CURRENT_DAYS})
    return [LatestFigures(row.live, row.variant, row.measures, float(row.seconds)) for row in found]


def require_readable(engine: sa.Engine) -> None:
    """Checks that a role can compare with earlier figures, before any search.

    Raises:
        errors.DatabaseError: The role may not read the schema `semantic`.
    """
    with database.translated(), engine.connect() as connection:
        connection.execute(sa.select(_EVALUATION).limit(0))


def save(engine: sa.Engine, evaluation: Evaluation) -> None:
    """Keeps the figures of all variants.

    Raises:
        errors.DatabaseError: The role may not write to the schema `semantic`.
    """
    judged = _judgements_hash(evaluation)
    with database.translated(), engine.begin() as connection:
        for one in evaluation.variants:
            connection.execute(sql.statement("evaluation", "save"), _row(evaluation, one, judged))


def change(engine: sa.Engine, evaluation: Evaluation) -> Change | None:
    """Compares the base with its last evaluation on the same judgements, with the same settings and limit.

    Returns:
        The change, or None if there is no earlier evaluation.

    Raises:
        errors.DatabaseError: The role may not read the schema `semantic`.
    """
    row = _row(evaluation, evaluation.base, _judgements_hash(evaluation))
    with database.translated(), engine.connect() as connection:
        last = connection.execute(sql.statement("evaluation", "last"), row).one_or_none()
    if last is None:
        return None
    paired = np.array(row["per_query"]) - np.array(last.per_query)
    return Change(last.evaluated_at, float(paired.mean()), significance.randomization_p(paired))


def require_not_worse(found: Change | None, evaluation: Evaluation) -> None:
    """Raises AssertionError if the base has become worse. None, for no earlier evaluation, is not worse."""
    if found is not None and found.is_worse:
        raise AssertionError(
            f"{evaluation.measure} of {evaluation.base.name!r} fell by {-found.mean:.4f} since {found.since:%Y-%m-%d} "
            f"(p {found.p:.3f}, {evaluation.queries} queries of {evaluation.index})."
        )


def _row(evaluation: Evaluation, one: VariantFigures, judged: bytes) -> dict[str, object]:
    details = evaluation.details
    known = dict(zip(details.queries, map(float, details.values[one.name][evaluation.measure]), strict=True))
    return {
        "generation": one.generation_id,
        "fingerprint": one.fingerprint,
        "judgements": judged,
        "queries": evaluation.queries,
        "variant": one.name,
        # How far a vector index is scanned and how much is reranked depend on the limit.
        "settings": json.dumps({**one.settings, "limit": evaluation.limit}),
        "measures": json.dumps(one.measures),
        "judged": one.judged,
        "p50_ms": one.p50_ms,
        "p95_ms": one.p95_ms,
        "measure": evaluation.measure,
        # A query whose relevant rows are all gone finds none of them.
        "per_query": [known.get(query, 0.0) for query in _ordered(details.given)],
    }


def _ordered(given: Grades) -> list[str]:
    """Returns the queries that have a relevant row, in the order of their hashes."""
    return sorted(measures.answerable(given), key=lambda query: (query_hash(query), query))


def _judgements_hash(evaluation: Evaluation) -> bytes:
    """Returns the hash of the judgements as they were given, also of rows that are gone by now."""
    given, hashed = evaluation.details.given, hashlib.sha256()
    for query in _ordered(given):
        hashed.update(json.dumps([query, sorted(given[query].items())]).encode())
    return hashed.digest()
