"""``pg-semantic recall``: measures the share of an exact search's rows that the vector index finds."""

from typing import Annotated

import typer
from sqlalchemy import orm

from pg_semantic import search as searching
from pg_semantic.cli import named_index, options, output, progress
from pg_semantic.search import ClassRecall, RecallReport

EXAMPLES = options.examples(
    "pg-semantic recall article_semantic",
    "pg-semantic recall article_semantic --sample 200 --min 0.95",
)

_TOO_LOW = 1
_COLUMNS = ("filter", "queries", "recall", "from", "to", "short", "completed", "ms", "exact ms", "index")


def recall(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    sample: Annotated[int, typer.Option(help="How many stored vectors to use as queries.", min=1)] = 100,
    limit: Annotated[int, typer.Option(help="How many rows each search returns.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Seed for choosing the vectors.")] = 0,
    least: Annotated[
        float | None, typer.Option("--min", help="Exit with 1 if recall is below this.", min=0, max=1)
    ] = None,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Compare searches through the vector index with exact ones; exit with 1 if recall is below --min.

    recall: the mean share of the exact result that a search finds; from, to: its 95% interval. short: index scans that
    returned too few rows. completed: searches that returned fewer than --limit rows and were rerun as exact ones. ms,
    exact ms: median times. index: whether the planner uses the vector index.

    The queries are vectors of random chunks. Changes nothing.
    """
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        bound = named_index.find(session, index)
        with progress.queries(sample, shown=not json) as advance:
            report = searching.recall(session, bound, sample=sample, limit=limit, seed=seed, on_query=advance)
    if json:
        output.as_json(report)
    else:
        _print(report)
    if least is not None and report.worst.recall < least:
        if not json:
            output.say(f"Recall@{limit} is {report.worst.recall:.3f}, less than the required {least}.")
        raise typer.Exit(_TOO_LOW)


def _print(report: RecallReport) -> None:
    output.table(_COLUMNS, [_row(one) for one in report.classes], title=f"{report.index}, recall@{report.limit}")


def _row(one: ClassRecall) -> tuple[object, ...]:
    walked = "used" if one.uses_vector_index else "not used"
    shares = (one.recall, one.low, one.high)
    return (one.name, one.queries, *shares, one.short, one.completed, one.walk_ms, one.exact_ms, walked)
