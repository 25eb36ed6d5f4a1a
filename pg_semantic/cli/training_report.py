"""Prints what training did."""

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from pg_semantic import errors
from pg_semantic.cli import output
from pg_semantic.training import TrainingReport
from pg_semantic.training.report import WHY_GONE


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not trained on, because a split has held it out.

    Attributes:
        queries: How many queries are held out.
        pairs: How many pairs of other queries name a row that answers one of those.
    """

    queries: int
    pairs: int


def show(name: str, report: TrainingReport, *, left_out: LeftOut, json: bool) -> None:
    """Prints the report as JSON, or as a table with what to do next.

    Args:
        name: The name of the semantic index.
        report: The report.
        left_out: What is held out.
        json: Whether to print JSON.
    """
    if json:
        output.as_json(report)
        return
    parts = (("held out", report.held_out), ("trained on", report.trained_on))
    rows = [(part, g.queries, g.before, g.after, g.difference, g.low, g.high, g.p) for part, g in parts if g]
    columns = ("queries", "number", f"{report.measure} before", "after", "difference", "from", "to", "p")
    output.table(columns, rows, title=f"{report.index}, {report.kind}, {output.counted(report.pairs, 'pair')}")
    for line in _left_out(report, left_out):
        output.say(line)
    if report.is_sample:
        output.say(f"Compared with a sample of {report.vectors} vectors, because the index has more.")
    output.say(report.verdict)
    if report.folder is None:
        return
    folder = output.escaped(shlex.quote(str(report.folder)))
    if report.kind == "reranker":
        output.say(
            f"Wrote {folder} in {report.seconds:.0f} s. Load it with rerankers.load(...), and search with Rerank."
        )
        return
    output.say(
        f"Wrote {folder} in {report.seconds:.0f} s. Put a copy at the same path on each machine that searches, then "
        f"run `pg-semantic generation begin {output.escaped(shlex.quote(name))} --encoder {folder}`."
    )


def _left_out(report: TrainingReport, left_out: LeftOut) -> Iterator[str]:
    if left_out.queries:
        yield f"Left out {left_out.queries} queries that are held out to measure with."
    if left_out.pairs:
        left = output.counted(left_out.pairs, "pair")
        yield f"Left out {left} of other queries, whose row answers a query that is held out."
    if report.gone:
        why = " whose row does not exist, or is left out by --where" if report.kind == "reranker" else f": {WHY_GONE}"
        yield f"Left out {output.counted(report.gone, 'pair')}{why}."


@contextlib.contextmanager
def explaining(left_out: int) -> Iterator[None]:
    """Adds to the error of too few queries how many others were left out because they are held out."""
    try:
        yield
    except errors.QueryError as error:
        if not left_out:
            raise
        raise errors.QueryError(f"{error} {left_out} others are held out to measure with.") from error
