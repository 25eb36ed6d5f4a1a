"""``pg-semantic index``: manages semantic indexes on tables that have no mapped class."""

from typing import Annotated

import sqlalchemy as sa
import typer

from pg_semantic import database, encoders, errors, registry
from pg_semantic.cli import forecast, options, output
from pg_semantic.index import known_encoders
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.index.spec import EncoderSpec, IndexSpec, Lexical
from pg_semantic.operations import create_index
from pg_semantic.worker import key_changes as adapting

_Config = Annotated[
    str, typer.Option(help="Text search configuration for BM25, such as simple or german; `none` omits BM25.")
]
_DEFAULT_CONFIG = Lexical().config

app = typer.Typer(help="Create, list, move, refresh and drop semantic indexes.", no_args_is_help=True)
app.command(short_help="Show what the build of a vector index takes.", epilog=forecast.EXAMPLES)(forecast.forecast)


@app.command(
    short_help="Make a table searchable by meaning.",
    epilog=options.examples(
        "pg-semantic index create article --columns title,body --encoder sentence-transformers/all-MiniLM-L6-v2"
    ),
)
def create(
    table: Annotated[str, typer.Argument(help="The table, with its schema if that is not on the search path.")],
    columns: Annotated[str, typer.Option(help="Text columns to search, separated by commas.")],
    encoder: Annotated[str, typer.Option(help="A hub name, a folder, or hashed:N.")],
    name: Annotated[str | None, typer.Option(help="Name of the index. Default: TABLE_semantic.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Truncate the vectors to this many dimensions.")] = None,
    query_prompt: options.QueryPrompt = None,
    document_prompt: options.DocumentPrompt = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens per chunk. Default: the encoder's limit.")] = None,
    overlap_tokens: Annotated[int, typer.Option(help="Tokens repeated from the previous chunk.")] = 0,
    chunked: Annotated[bool, typer.Option("--chunked/--one-chunk", help="Split long texts or truncate.")] = True,
    lexical: _Config = _DEFAULT_CONFIG,
    policy_column: Annotated[str | None, typer.Option(help="Column that the policies compare, e.g. tenant_id.")] = None,
    recall_objective: Annotated[float | None, typer.Option(help="Recall that a worker keeps, such as 0.95.")] = None,
    partitions: Annotated[int, typer.Option(help="Partitions of the vector index, built one by one.", min=1)] = 1,
    partition_by: Annotated[str | None, typer.Option(help="Key column whose hash decides the partition.")] = None,
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Make a table searchable by meaning. A `worker` then encodes its rows."""
    del yes  # accepted as in the other commands: this one asks nothing
    described = _encoder(options.encoder_reference(encoder), dimensions, Prompts(query_prompt, document_prompt))
    with options.engine(dsn) as engine:
        with engine.connect() as connection:
            spec = create_index.describe(
                connection,
                table,
                columns=tuple(column.strip() for column in columns.split(",") if column.strip()),
                encoder=described,
                chunking=Chunking(max_tokens=max_tokens, overlap_tokens=overlap_tokens) if chunked else None,
                lexical=None if lexical == "none" else Lexical(lexical),
                policy_column=policy_column,
                recall_objective=recall_objective,
                partitions=partitions,
                partition_by=partition_by,
                name=name,
            )
        create_index.create(engine, spec)
        _say_created(engine, spec)


def _say_created(engine: sa.Engine, spec: IndexSpec) -> None:
    options.warn_of_prompts(spec.encoder)
    output.say(f"Created semantic index {output.escaped(spec.name)}. To encode rows: `pg-semantic worker --once`")
    output.say(output.escaped(create_index.privileges(engine, spec)))


def _encoder(reference: str, dimensions: int | None, prompts: Prompts) -> EncoderSpec:
    known = dimensions or known_encoders.dimensions(reference) or encoders.load(reference).dimensions
    return EncoderSpec(reference, known, prompts.query, prompts.document)


@app.command("list", epilog=options.examples("pg-semantic index list --json"))
def list_(dsn: options.Dsn = None, json: options.Json = False) -> None:
    """List the semantic indexes of the database."""
    with options.installed(dsn) as engine, engine.connect() as connection:
        known = registry.generations(connection)
    if json:
        output.as_json([{**g.spec.to_json(), "name": g.qualified_name, "role": g.role} for g in known])
        return
    rows = [
        (g.qualified_name, g.spec.table, ", ".join(g.spec.columns), g.spec.encoder.reference, g.role) for g in known
    ]
    output.table(("index", "table", "columns", "encoder", "generation"), rows, empty=output.NO_INDEXES)


@app.command(
    short_help="Move a semantic index to another table.",
    epilog=options.examples("pg-semantic index adopt article_semantic --yes"),
)
def adopt(
    name: Annotated[str, typer.Argument(help="The index, with its schema if the name is not unique.")],
    table: Annotated[
        str | None, typer.Argument(help="The table to move it to. Default: the one with the declared name.")
    ] = None,
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Move a semantic index to another table, such as one that was loaded next to the old one and took its name.

    The table needs the same key and text columns. A worker then compares every row with its vectors and encodes only
    text that differs. The old table keeps its rows and loses the triggers.
    """
    with options.installed(dsn) as engine:
        with engine.connect() as connection:
            generation = registry.find(connection, name)
        target = table or "the table with its declared name"
        options.confirm(f"Move {generation.qualified_name} to {target}?", yes=yes)
        moved_to = create_index.adopt(engine, generation, table)
    output.say(
        f"Moved semantic index {output.escaped(generation.qualified_name)} to {output.escaped(moved_to)}. A worker now "
        "compares every row: see `pg-semantic status`."
    )


@app.command(
    short_help="Adapt a semantic index to an altered key.",
    epilog=options.examples("pg-semantic index refresh article_semantic"),
)
def refresh(
    name: Annotated[str, typer.Argument(help="The index, with its schema if the name is not unique.")],
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Adapt a semantic index to key columns whose type or collation was altered. No text is encoded again.

    A worker does this on its own if the index is small. The tables of the index are locked while Postgres rewrites
    them.
    """
    del yes  # accepted as in the other commands: this one asks nothing
    with options.installed(dsn) as engine, database.translated():
        with engine.connect() as connection:
            generation = registry.find(connection, name)
        changed = adapting.refresh(engine, generation)
    said = "now matches the key of its table" if changed else "already matches the key of its table"
    output.say(f"Semantic index {output.escaped(generation.qualified_name)} {said}.")


@app.command(
    short_help="Set the recall that a worker keeps.",
    epilog=options.examples(
        "pg-semantic index objective article_semantic 0.95", "pg-semantic index objective article_semantic none"
    ),
)
def objective(
    name: Annotated[str, typer.Argument(help="The index, with its schema if the name is not unique.")],
    recall: Annotated[str, typer.Argument(help="A share between 0 and 1, or `none`.")],
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Set the share of the nearest chunks that the vector index should find. A running worker measures and keeps it.

    Nothing is built again. If a mapped class declares the index, change `recall_objective` there too.
    """
    del yes  # accepted as in the other commands: this one asks nothing
    wanted = _share(recall)
    with options.installed(dsn) as engine:
        with engine.connect() as connection:
            generation = registry.find(connection, name)
        create_index.set_recall_objective(engine, generation.spec, wanted)
    title = output.escaped(generation.qualified_name)
    if wanted is None:
        output.say(f"Semantic index {title} no longer has a recall objective.")
    else:
        output.say(f"Semantic index {title} has the recall objective {wanted:g}: see `pg-semantic status`.")


def _share(given: str) -> float | None:
    if given == "none":
        return None
    try:
        return float(given)
    except ValueError:
        raise errors.ConfigurationError(f"{given!r} is not a share: pass a number such as 0.95, or `none`.") from None


@app.command(
    short_help="Drop a semantic index and all its vectors.",
    epilog=options.examples("pg-semantic index drop article_semantic --yes"),
)
def drop(
    name: Annotated[str, typer.Argument(help="The index, with its schema if the name is not unique.")],
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Drop a semantic index and all its vectors. The table itself is unchanged."""
    with options.installed(dsn) as engine:
        with engine.connect() as connection:
            generation = registry.find(connection, name)
        options.confirm(f"Drop {generation.qualified_name} and its vectors?", yes=yes)
        create_index.drop(engine, generation.spec)
    output.say(f"Dropped semantic index {output.escaped(generation.qualified_name)}.")
