"""``pg-semantic search``: searches a semantic index from the shell."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from sqlalchemy import orm

from pg_semantic import encoders
from pg_semantic.cli import named_index, options, output
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.index.spec import IndexSpec
from pg_semantic.search import Hit, Options, Searcher
from pg_semantic.search.request import Mode

EXAMPLES = options.examples(
    'pg-semantic search article_semantic "how do I get back into my account" --limit 5',
    'pg-semantic search article_semantic "error E1047" --mode hybrid',
)

_HEADLINE_WIDTH, _PASSAGE_WIDTH = 40, 200


def search(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    text: Annotated[str, typer.Argument(help="The query, in your own words.")],
    limit: Annotated[int, typer.Option(help="How many rows to return.", min=1)] = 10,
    offset: Annotated[int, typer.Option(help="How many rows to skip.", min=0)] = 0,
    mode: Annotated[Mode, typer.Option(help="Rank by meaning, by words (BM25), or by both.")] = "dense",
    match: Annotated[Match, typer.Option(help="Which rows match in a search by words.")] = "any",
    exact: Annotated[bool, typer.Option("--exact", help="Compute every distance, without the vector index.")] = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Find the rows closest in meaning to a text.

    headline: the beginning of the row's first text column that isn't blank. The table shows the beginning of each
    passage, --json all of it.
    """
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        bound = named_index.find(session, index)
        spec = bound.spec
        lexical = mode == "lexical"
        encoder = None if lexical else encoders.load(spec.encoder.reference, dimensions=spec.encoder.dimensions)
        found = Searcher(encoder).search(
            session,
            bound,
            text,
            limit=limit,
            offset=offset,
            mode=mode,
            exact=exact,
            options=Options(match=match, headlines=True),
        )
        _print(found, spec, json=json)


def _print(hits: Sequence[Hit[Any]], spec: IndexSpec, *, json: bool) -> None:
    names = [column.name for column in spec.key]
    if json:
        output.as_json([_as_object(hit, names) for hit in hits])
        return
    rows = [
        (
            hit.score,
            *(getattr(hit.entity, name) for name in names),
            hit.headline and output.one_line(hit.headline, width=_HEADLINE_WIDTH),
            output.one_line(hit.passage, width=_PASSAGE_WIDTH),
        )
        for hit in hits
    ]
    output.table(("score", *names, "headline", "passage"), rows, empty="No rows match.")


def _as_object(hit: Hit[Any], key: list[str]) -> dict[str, Any]:
    identity = {name: getattr(hit.entity, name) for name in key}
    return {
        "key": identity,
        "headline": hit.headline,
        "score": hit.score,
        "scores": hit.scores,
        "passage": hit.passage,
        "ordinal": hit.ordinal,
    }
