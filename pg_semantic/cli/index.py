"""``pg-semantic index``: semantic indexes on tables that have no mapped class."""

from typing import Annotated

import typer

from pg_semantic import database, encoders, registry
from pg_semantic.cli import options, output
from pg_semantic.index import encoder_catalog
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import EncoderSpec, Lexical
from pg_semantic.operations import create_index
from pg_semantic.worker import key_changes as adapting

app = typer.Typer(help="Create, list, refresh and drop semantic indexes of tables.", no_args_is_help=True)


@app.command(
    short_help="Make a table searchable by meaning.",
    epilog=options.examples(
        "pg-semantic index create article --columns title,body --encoder sentence-transformers/all-MiniLM-L6-v2"
    ),
)
def create(
    table: Annotated[str, typer.Argument(help="The table, with its schema if not on the search path.")],
    columns: Annotated[str, typer.Option(help="Text columns to search, with commas between.")],
    encoder: Annotated[str, typer.Option(help="A hub name, a folder, or hashed:N.")],
    name: Annotated[str | None, typer.Option(help="Name of the index. Default: TABLE_semantic.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Dimensions of the vectors, to truncate them.")] = None,
    query_prompt: options.QueryPrompt = None,
    document_prompt: options.DocumentPrompt = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest chunk. Default: the encoder's limit.")] = None,
    overlap_tokens: Annotated[int, typer.Option(help="Tokens that a chunk repeats of the one before.")] = 0,
    chunked: Annotated[bool, typer.Option("--chunked/--one-chunk", help="Cut long texts, or truncate.")] = True,
    lexical: Annotated[
        str, typer.Option(help="Text search configuration for BM25, as simple or german; `none` leaves BM25 out.")
    ] = Lexical().config,
    rights_by: Annotated[
        str | None, typer.Option(help="The column that the table's policies compare, as tenant_id: see docs/rights.md.")
    ] = None,
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Make a table searchable by meaning; a `worker` then encodes its rows."""
    del yes  # nothing is asked
    known = dimensions or encoder_catalog.dimensions(encoder) or encoders.load(encoder).dimensions
    described = EncoderSpec(encoder, known, query_prompt, document_prompt)
    with options.engine(dsn) as engine:
        with engine.connect() as connection:
            spec = create_index.describe(
                connection,
                table,
                columns=tuple(column.strip() for column in columns.split(",") if column.strip()),
                encoder=described,
                chunking=Chunking(max_tokens=max_tokens, overlap_tokens=overlap_tokens) if chunked else None,
                lexical=None if lexical == "none" else Lexical(lexical),
                rights_by=rights_by,
                name=name,
            )
        create_index.create(engine, spec)
        options.warn_of_prompts(described)
        output.say(f"Semantic index {output.escaped(spec.name)} is created. Next: `pg-semantic worker --once`")
        output.say(output.escaped(create_index.rights(engine, spec)))


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
    output.table(("index", "table", "columns", "encoder", "generation"), rows)


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
    """Move a semantic index to another table, as one that was loaded beside the old one and took its name.

    The table needs the same key and text columns. A worker then compares every row with its vectors: only text that
    differs is encoded. The old table is left as it is, without triggers.
    """
    with options.installed(dsn) as engine:
        with engine.connect() as connection:
            generation = registry.find(connection, name)
        target = table or "the table with its declared name"
        options.confirm(f"Move {generation.qualified_name} to {target}?", yes=yes)
        moved_to = create_index.adopt(engine, generation, table)
    output.say(
        f"Semantic index {output.escaped(generation.qualified_name)} is moved to {output.escaped(moved_to)}. A running "
        "worker compares its rows: see pg-semantic status."
    )


@app.command(
    short_help="Adapt a semantic index to a key that was altered.",
    epilog=options.examples("pg-semantic index refresh article_semantic"),
)
def refresh(
    name: Annotated[str, typer.Argument(help="The index, with its schema if the name is not unique.")],
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Adapt a semantic index to a table whose key columns have another type or collation by now; nothing is re-encoded.

    A worker does this by itself where it takes a moment. Tables that must be written again are locked meanwhile.
    """
    del yes  # nothing is asked
    with options.installed(dsn) as engine, database.translated():
        with engine.connect() as connection:
            generation = registry.find(connection, name)
        changed = adapting.refresh(engine, generation)
    said = "has the key of its table now" if changed else "has the key of its table already"
    output.say(f"Semantic index {output.escaped(generation.qualified_name)} {said}.")


@app.command(
    short_help="Drop a semantic index with all its vectors.",
    epilog=options.examples("pg-semantic index drop article_semantic --yes"),
)
def drop(
    name: Annotated[str, typer.Argument(help="The index, with its schema if the name is not unique.")],
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Drop a semantic index with all its vectors; the table itself is left as it is."""
    with options.installed(dsn) as engine:
        with engine.connect() as connection:
            generation = registry.find(connection, name)
        options.confirm(f"Drop {generation.qualified_name} and its vectors?", yes=yes)
        create_index.drop(engine, generation.spec)
    output.say(f"Semantic index {output.escaped(generation.qualified_name)} is dropped.")
