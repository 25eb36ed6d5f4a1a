"""`tune_ef_search`: finds the smallest ``ef_search`` that reaches a recall objective. It needs no judgements."""

import dataclasses
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import database, errors, registry
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.recall import curve, objective, store
from pg_semantic.recall.curve import CurvePoint, RecallCurve
from pg_semantic.registry import Generation
from pg_semantic.worker import create_index_concurrently

_FEWEST = 100
_MARGIN = 2  # times as many queries as perfect ones would need, so that a few misses don't hide what is reached


@dataclass(frozen=True, slots=True)
class RecallTuning:
    """What was measured, and what is recommended.

    Attributes:
        index: Name of the index with its schema.
        generation_id: The generation that was measured.
        objective: The share of the nearest chunks that should be found.
        curve: The recall at growing values of ``hnsw.ef_search``, up to the first that reaches the objective.
    """

    index: str
    generation_id: int
    objective: float
    curve: RecallCurve

    @property
    def recommended(self) -> CurvePoint | None:
        """The point with the smallest value whose whole 95% interval reaches the objective; None if none does."""
        return next((point for point in self.curve.points if point.low >= self.objective), None)

    @property
    def figures(self) -> dict[str, Any]:
        """The figures as data for JSON."""
        found = asdict(self)
        chosen = self.recommended
        return found | {"recommended": chosen and chosen.ef_search}


def tune_ef_search(
    session: orm.Session | sa.Connection,
    index: BoundIndex[Any],
    *,
    wanted: float,
    sample: int | None = None,
    on_point: Callable[[], object] = lambda: None,
) -> RecallTuning:
    """Measures the recall of a vector index at growing values of ``hnsw.ef_search``, until one reaches an objective.

    The queries are the vectors of random chunks, and each looks for the ten nearest ones. Takes as long as ``sample``
    exact searches, and as many scans per value.

    Args:
        session: Connects to the database, as a role that can read the index.
        index: The semantic index, such as ``Article.semantic``. Its live generation is measured.
        wanted: The share of the nearest chunks that should be found, between 0 and 1.
        sample: How many queries. By default, twice as many as it takes if they find everything.
        on_point: Called after each value.

    Raises:
        errors.ConfigurationError: The objective is out of range, or the sample is too small to show it.
        errors.IndexNotFound: The index has not been created.
        errors.QueryError: Its vector index is not built, or it has too few chunks.
    """
    queries = _queries(wanted, sample)
    if isinstance(session, orm.Session):
        session = session.connection(bind_arguments={"mapper": index.entity})
    with database.translated():
        live, _ = registry.live(session, index.tables)
        _require_built(session, live)
        index = dataclasses.replace(index, tables=live.tables)
        steps = objective.STEPS
        found = curve.recall_curve(session, index, sample=queries, widths=steps, until=wanted, on_point=on_point)
    if found.queries < (needed := objective.queries_needed(wanted)):
        raise errors.QueryError(
            f"{live.qualified_name} has {found.queries} vectors, too few to show a recall of {wanted:g}, which takes "
            f"{needed}: such a small index needs no tuning."
        )
    return RecallTuning(live.qualified_name, live.id, wanted, found)


def _queries(wanted: float, sample: int | None) -> int:
    """Returns how many queries to measure: by default, more for a higher objective."""
    if not 0 < wanted < 1:
        raise errors.ConfigurationError(f"The recall objective {wanted:g} is out of range: use a share such as 0.95.")
    needed = objective.queries_needed(wanted)
    if sample is not None and sample < needed:
        raise errors.ConfigurationError(
            f"{sample} queries can't show a recall of {wanted:g}, even if they find everything: use {needed} or more."
        )
    return sample or max(_FEWEST, _MARGIN * needed)


def _require_built(connection: sa.Connection, live: Generation) -> None:
    if create_index_concurrently.state(connection, live.stored.vector_index) != "ready":
        raise errors.QueryError(
            f"The vector index of {live.qualified_name} is not built yet: see `pg-semantic status`."
        )


def keep_ef_search(engine: sa.Engine, found: RecallTuning) -> None:
    """Makes searches of the measured generation use what is recommended. Does nothing without a recommendation.

    Raises:
        errors.DatabaseError: The role may not write to the schema `semantic`.
    """
    chosen = found.recommended
    if chosen is None:
        return
    # Without times, which would tell other roles how many rows there are.
    points = [{name: value for name, value in asdict(one).items() if name != "ms"} for one in found.curve.points]
    evidence = {"objective": found.objective, "queries": found.curve.queries, "limit": found.curve.limit}
    with database.translated(), engine.begin() as connection:
        store.keep(connection, found.generation_id, ef_search=chosen.ef_search, evidence=evidence | {"points": points})
