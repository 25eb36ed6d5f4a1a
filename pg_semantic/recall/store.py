"""The Python side of ``sql/recall.sql``: which ``ef_search`` was chosen for a generation, and what was measured."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pg_semantic import sql
from pg_semantic.recall.objective import DEFAULT_EF_SEARCH, RecallEstimate, State

_DAYS = 7


@dataclass(frozen=True, slots=True)
class KeptRecall:
    """The recall of one generation, as far as the database knows it.

    Attributes:
        ef_search: The value of ``hnsw.ef_search`` that searches for few rows use.
        tuned: Whether ``pg-semantic tune`` chose it.
        objective: The share of the nearest chunks that should be found; None if none was declared.
        recall: The share that was found with this value lately; None if it was not measured.
        low: The lower end of its 95% interval.
        high: The upper end.
        queries: How many queries were measured.
        measured_at: When the last of them was.
        state: How the recall compares with the objective; None without both.
        problem: Why it could not be measured the last time.
        stale: Whether a value was chosen for the previous generation, but none for this one.
    """

    ef_search: int
    tuned: bool
    objective: float | None
    recall: float | None
    low: float | None
    high: float | None
    queries: int
    measured_at: dt.datetime | None
    state: State | None
    problem: str | None
    stale: bool


def read(connection: sa.Connection) -> dict[int, KeptRecall]:
    """Returns the recall of each generation, by its id."""
    rows = connection.execute(sql.statement("recall", "read"), {"default": DEFAULT_EF_SEARCH})
    return {row.generation_id: _kept(row) for row in rows}


def keep(connection: sa.Connection, generation_id: int, *, ef_search: int, evidence: Mapping[str, Any]) -> None:
    """Makes searches of a generation use a value of ``hnsw.ef_search``, and keeps what speaks for it."""
    binds = {"generation": generation_id, "ef_search": ef_search, "evidence": json.dumps(evidence)}
    connection.execute(sql.statement("recall", "keep"), binds)


def record(
    connection: sa.Connection, generation_id: int, *, ef_search: int, measured: RecallEstimate, newest: int
) -> dict[int, RecallEstimate]:
    """Adds what was measured, and returns what is known of the generation at each value of ``hnsw.ef_search``.

    Only the ``newest`` queries at a value count, and only those of the last seven days. The others are deleted.
    """
    found = {"queries": measured.queries, "found": measured.found, "expected": measured.expected}
    own = {"generation": generation_id}
    connection.execute(sql.statement("recall", "record"), own | {"ef_search": ef_search} | found)
    connection.execute(sql.statement("recall", "forget"), own | {"days": _DAYS, "newest": newest})
    known = connection.execute(sql.statement("recall", "estimates"), own)
    return {row.ef_search: RecallEstimate(row.queries, row.found, row.expected) for row in known}


def _kept(row: sa.Row[Any]) -> KeptRecall:
    measured = RecallEstimate(row.queries, row.found, row.expected) if row.queries else None
    return KeptRecall(
        ef_search=row.ef_search,
        tuned=row.tuned,
        objective=row.objective,
        recall=measured.recall if measured else None,
        low=measured.low if measured else None,
        high=measured.high if measured else None,
        queries=measured.queries if measured else 0,
        measured_at=row.measured_at,
        state=measured.state(row.objective, ef_search=row.ef_search) if measured and row.objective else None,
        problem=row.problem,
        stale=row.stale,
    )
