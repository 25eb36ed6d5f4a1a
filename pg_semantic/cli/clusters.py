"""``pg-semantic clusters``: shows what is in a table."""

from typing import Annotated

import typer
from sqlalchemy import orm

from pg_semantic import search as searching
from pg_semantic.cli import named_index, options, output
from pg_semantic.cli.shown_rows import ShownRows

EXAMPLES = options.examples(
    "pg-semantic clusters article_semantic",
    "pg-semantic clusters article_semantic --clusters 20 --sample 20000 --json",
)


def clusters(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    count: Annotated[
        int | None, typer.Option("--clusters", help="How many clusters. Default: up to 12.", show_default=False, min=1)
    ] = None,
    sample: Annotated[int, typer.Option(help="How many rows to cluster, at most.", min=1)] = 5000,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Show what is in a table: clusters of random rows that are close in meaning, largest first.

    rows, share: how many rows of the sample a cluster has. terms: words that are more frequent in it than in the whole
    sample; none without BM25. Then its most typical row: the key, and the beginning of the first text column that isn't
    blank. spread: how far its rows are from their mean, as a mean cosine distance.

    Needs scikit-learn, and no encoder. Changes nothing.
    """
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        bound = named_index.find(session, index)
        found = searching.clusters(session, bound, count=count, sample=sample)
        rows = ShownRows.read(session, bound, [one.medoid for one in found])
    if json:
        output.as_json(
            [
                {"rows": one.size, "share": one.share, "terms": one.terms, "spread": one.spread}
                | {"medoid": rows.as_object(one.medoid)}
                for one in found
            ]
        )
        return
    columns = ("rows", "share", "terms", *rows.names, "headline", "spread")
    cells = [(one.size, one.share, ", ".join(one.terms), *rows.cells(one.medoid), one.spread) for one in found]
    output.table(columns, cells, empty="No row has vectors.")
