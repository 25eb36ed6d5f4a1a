"""Measures the recall of a compressed vector index before a switch, and refuses it below the objective of the index."""

import sqlalchemy as sa

from pg_semantic import errors, sql
from pg_semantic.database import transaction
from pg_semantic.recall import curve, store
from pg_semantic.recall.objective import DEFAULT_EF_SEARCH, STEPS, RecallEstimate
from pg_semantic.registry import Generation

_QUERIES, _LIMIT = 100, 10
_SECONDS = 30.0  # afterwards, no further exact search begins
_TIMEOUT = "10min"


def require(engine: sa.Engine, generation: Generation) -> None:
    """Checks that a compressed vector index can reach its recall objective, and makes searches use what that takes.

    Does nothing for an index on whole vectors, which a worker measures once it is live; nor without an objective, or
    with so few chunks that no vector index is needed. Takes as long as up to 100 exact searches.

    Args:
        engine: Connects to the database.
        generation: The generation, with its vector index built.

    Raises:
        errors.GenerationError: Its recall is below the objective however many candidates a scan keeps.
    """
    wanted = generation.spec.recall_objective
    if generation.spec.compressed is None or wanted is None:
        return
    with transaction.begin(engine) as connection:
        now = store.read(connection)[generation.id].ef_search
    ef_search, measured = _measure(engine, generation, wanted, now=now)
    if measured is None:
        return
    if measured.high < wanted:
        raise errors.GenerationError(
            f"{generation.title} finds {measured.recall:.3f} of the nearest chunks ({measured.low:.3f} to "
            f"{measured.high:.3f}) with ef_search = {ef_search}, and its recall objective is {wanted:g}: begin it "
            "with a longer prefix, lower the objective, or switch with --force."
        )
    with transaction.begin(engine) as connection:
        connection.execute(sql.statement("recall", "begin"))
        binds = {"generation": generation.id, "ef_search": ef_search, "before": now, "objective": wanted}
        if ef_search != now:
            connection.execute(sql.statement("recall", "change"), binds | {"default": DEFAULT_EF_SEARCH})


def _measure(
    engine: sa.Engine, generation: Generation, wanted: float, *, now: int
) -> tuple[int, RecallEstimate | None]:
    """Returns the first value of ``ef_search``, from ``now`` on, that reaches the objective, or the highest one."""
    ef_search, measured = now, None
    snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
    with transaction.begin(snapshot, statement_timeout=_TIMEOUT) as connection:
        connection.execute(sql.statement("registry", "find_pgvector"))
        tables = generation.tables
        true = curve.nearest_of_sample(connection, tables, sample=_QUERIES, limit=_LIMIT, seconds=_SECONDS)
        if not true or any(len(one.distances) < _LIMIT for one in true):
            return now, None
        for ef_search in (now, *(step for step in STEPS if step > now)):
            found = curve.scanned(connection, tables, true, ef_search=ef_search)
            measured = RecallEstimate(len(found), sum(count for count, _ in found), len(found) * _LIMIT)
            if measured.recall >= wanted:
                break
    return ef_search, measured
