"""The part of ``pg-semantic tune`` that finds the ``ef_search`` for a recall objective."""

import sqlalchemy as sa

from pg_semantic import registry, tuning
from pg_semantic.cli import output, progress
from pg_semantic.index import declare
from pg_semantic.recall import objective
from pg_semantic.tuning import RecallTuning

_COLUMNS = ("ef_search", "recall", "from", "to", "ms", "")


def run(engine: sa.Engine, index: str, *, wanted: float, sample: int | None, save: bool, json: bool) -> None:
    """Measures the recall of an index, prints the result, and keeps what is recommended if ``save``.

    Raises what `tuning.tune_ef_search` raises.
    """
    with engine.connect() as connection:
        bound = declare.bind(registry.find(connection, index).spec)
        with progress.queries(len(objective.STEPS), shown=not json, what="ef_search") as advance:
            found = tuning.tune_ef_search(connection, bound, wanted=wanted, sample=sample, on_point=advance)
    if json:
        output.as_json(found.figures)
    else:
        _print(found)
    if save:  # last, so that a missing privilege doesn't cost the figures
        tuning.keep_ef_search(engine, found)
        if found.recommended is not None and not json:
            output.say("Kept in the database: searches of this copy of the index use it from now on.")


def _print(found: RecallTuning) -> None:
    chosen = found.recommended
    rows = [
        (point.ef_search, point.recall, point.low, point.high, point.ms, "recommended" if point == chosen else "")
        for point in found.curve.points
    ]
    title = f"{found.index}, recall@{found.curve.limit}, {found.curve.queries} queries"
    output.table(_COLUMNS, rows, title=title)
    if chosen is None:
        output.say(f"No ef_search reaches {found.objective:g} with 95% confidence: {objective.UNREACHABLE_ADVICE}.")
        return
    output.say(
        f"Recommended: ef_search = {chosen.ef_search}. An exact search takes {found.curve.exact_ms:.1f} ms, this one "
        f"{chosen.ms:.1f} ms."
    )
