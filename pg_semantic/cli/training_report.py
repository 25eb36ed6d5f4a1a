"""Prints what training did."""

import shlex

from pg_semantic.cli import output
from pg_semantic.training import TrainingReport
from pg_semantic.training.report import WHY_GONE


def show(name: str, report: TrainingReport, *, left_out: int, json: bool) -> None:
    """Prints the report as JSON, or as a table with what to do next.

    Args:
        name: The name of the semantic index.
        report: The report.
        left_out: How many queries were left out because they are held out.
        json: Whether to print JSON.
    """
    if json:
        output.as_json(report)
        return
    parts = (("held out", report.held_out), ("trained on", report.trained_on))
    rows = [(part, g.queries, g.before, g.after, g.difference, g.low, g.high, g.p) for part, g in parts if g]
    columns = ("queries", "number", f"{report.measure} before", "after", "difference", "from", "to", "p")
    output.table(columns, rows, title=f"{report.index}, {report.kind}, {output.counted(report.pairs, 'pair')}")
    if left_out:
        output.say(f"Left out {left_out} queries that are held out to measure with.")
    if report.gone:
        left = output.counted(report.gone, "pair")
        if report.kind == "reranker":
            output.say(f"Left out {left} whose row does not exist, or is left out by --where.")
        else:
            output.say(f"Left out {left}: {WHY_GONE}.")
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
