"""``pg-semantic explain``: shows how Postgres would run a search, and whether it would use the indexes."""

from typing import Annotated, Any, assert_never

import sqlalchemy as sa
import typer
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import encoders
from pg_semantic import search as searching
from pg_semantic.cli import named_index, options, output
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import IndexSpec
from pg_semantic.search import Plan
from pg_semantic.search.request import Mode

EXAMPLES = options.examples(
    'pg-semantic explain article_semantic "log in again"',
    'pg-semantic explain article_semantic "log in again" --mode hybrid --analyze',
)


def explain(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    text: Annotated[str, typer.Argument(help="The query.")],
    mode: Annotated[Mode, typer.Option(help="Rank by meaning, by words, or by both.")] = "dense",
    limit: Annotated[int, typer.Option(help="How many rows to return.", min=1)] = 10,
    exact: Annotated[bool, typer.Option("--exact", help="Compute every distance, without the vector index.")] = False,
    analyze: Annotated[
        bool, typer.Option("--analyze", help="Also run the search, and show how long each step takes.")
    ] = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Show the plan of a search, and whether it uses the vector index; if not, why not and what to do."""
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        statement = _statement(named_index.find(session, index), text, mode=mode, limit=limit)
        if exact:
            statement = searching.exactly(statement)
        plan = searching.explain(session, statement, analyze=analyze)
    if json:
        output.as_json(plan)
    else:
        _print(plan)


def _statement(index: BoundIndex[Any], text: str, *, mode: Mode, limit: int) -> "sa.Select[*tuple[Any, ...]]":
    match mode:
        case "dense":
            return searching.knn(index, _vector(index.spec, text), limit=limit)
        case "lexical":
            return searching.lexical(index, text, limit=limit)
        case "hybrid":
            return searching.hybrid(index, _vector(index.spec, text), text, limit=limit)
        case _:
            assert_never(mode)


def _vector(spec: IndexSpec, text: str) -> NDArray[Any]:
    encoder = encoders.load(spec.encoder.reference, dimensions=spec.encoder.dimensions)
    vector: NDArray[Any] = encoder.encode_queries([text])[0]
    return vector


def _print(plan: Plan) -> None:
    output.verbatim(str(plan))
    used = {"vector index": plan.uses_vector_index, "lexical index": plan.uses_lexical_index}
    output.table(("index", "used"), [(name, "yes" if is_used else "no") for name, is_used in used.items()])
    for sentence in (*plan.reasons, *plan.notes):
        output.say(output.escaped(sentence))
