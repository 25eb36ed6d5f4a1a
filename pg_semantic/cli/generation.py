"""``pg-semantic generation``: changes a semantic index without downtime, and rolls back instantly."""

import dataclasses
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from pg_semantic import database, encoders, generations, registry
from pg_semantic.cli import options, output, progress
from pg_semantic.index import known_encoders
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.index.spec import EncoderSpec, Hnsw, IndexSpec, Lexical, Storage
from pg_semantic.operations import status as statuses
from pg_semantic.registry import Generation

app = typer.Typer(
    help="Change a semantic index without downtime: build another copy of it, switch to it, roll back.",
    no_args_is_help=True,
)

_COLUMNS = ("index", "generation", "encoder", "rows", "synced", "pending", "failed", "vector index", "bytes")

Name = Annotated[str, typer.Argument(help="The name of the semantic index.")]


class Copy(StrEnum):
    """A generation that is not live."""

    next = "next"
    previous = "previous"


class Kind(StrEnum):
    """The type of the stored vectors."""

    halfvec = "halfvec"
    vector = "vector"


@app.command(
    short_help="Start to build a changed copy of a semantic index.",
    epilog=options.examples("pg-semantic generation begin article_semantic --encoder intfloat/multilingual-e5-small"),
)
def begin(
    name: Name,
    encoder: Annotated[str | None, typer.Option(help="A hub name, a folder, or hashed:N.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Truncate the vectors to this many dimensions.")] = None,
    query_prompt: options.QueryPrompt = None,
    document_prompt: options.DocumentPrompt = None,
    columns: Annotated[str | None, typer.Option(help="Text columns to search, separated by commas.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens per chunk, at most.")] = None,
    overlap_tokens: Annotated[int | None, typer.Option(help="Tokens repeated from the previous chunk.")] = None,
    chunked: Annotated[bool | None, typer.Option("--chunked/--one-chunk", help="Split long texts or truncate.")] = None,
    storage: Annotated[Kind | None, typer.Option(help="Store 16 or 32 bits per dimension.")] = None,
    m: Annotated[int | None, typer.Option(help="Edges per node of the vector index.")] = None,
    ef_construction: Annotated[int | None, typer.Option(help="Candidates while the vector index is built.")] = None,
    lexical: Annotated[str | None, typer.Option(help="Text search configuration for BM25, or `none`.")] = None,
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Start to build a changed copy of a semantic index. Workers fill it; searches keep using the live copy.

    Options that you leave out keep their values, except that --encoder resets the prompts to the encoder's own. If the
    encoder stays the same, its vectors are reused. If the index belongs to a mapped class, change the declaration and
    write a migration instead: it does the same.
    """
    with options.engine(dsn) as engine:
        live = generations.find(engine, name, "live")
        changes: dict[str, Any] = {
            "encoder": _encoder(live.spec, encoder, dimensions, Prompts(query_prompt, document_prompt)),
            "columns": tuple(part.strip() for part in columns.split(",")) if columns else live.spec.columns,
            "chunking": _chunking(live.spec, max_tokens, overlap_tokens, chunked=chunked),
            "storage": _storage(live.spec, storage),
            "hnsw": _hnsw(live.spec, m, ef_construction),
            "lexical": _lexical(live.spec, lexical),
        }
        target = dataclasses.replace(live.spec, **changes)
        _begin(engine, live, target, ask=not yes)
    quoted = output.escaped(shlex.quote(live.qualified_name))
    output.say(
        f"Began building {output.escaped(live.qualified_name)} (next); a running worker fills it. To see its progress: "
        f"`pg-semantic generation status {quoted}`. To make it live: `pg-semantic generation switch {quoted}`."
    )


@app.command(
    short_help="Show the copies of each semantic index.",
    epilog=options.examples("pg-semantic generation status article_semantic --json"),
)
def status(
    name: Annotated[str | None, typer.Argument(help="The name of the semantic index. Default: all.")] = None,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Show the copies of each semantic index, their progress, and the disk space that they take."""
    with options.engine(dsn) as engine, engine.connect() as connection:
        database.require_installed(connection)
        known = registry.copies(connection, name) if name else registry.generations(connection)
        read = {one.generation_id: one for one in statuses.read(connection).indexes}
        found = [_described(connection, one, read[one.id]) for one in known]
    if json:
        output.as_json(found)
    else:
        output.table(_COLUMNS, [tuple(one.values()) for one in found], empty=output.NO_INDEXES)


@app.command(
    short_help="Make the new copy live.",
    epilog=options.examples("pg-semantic generation switch article_semantic --coverage 0.999"),
)
def switch(
    name: Name,
    coverage: Annotated[float, typer.Option(help="Share of the rows that must be current.", min=0, max=1)] = 1.0,
    force: Annotated[bool, typer.Option("--force", help="Switch even if the copy is not ready.")] = False,
    yes: options.Yes = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Make the new copy live. Workers keep the old one up to date, so that you can roll back.

    Refused until all rows are current (except a few edited in the last minute), no row has failed, and the
    indexes are built. Compares every row, in pages, before it switches.
    """
    del yes  # accepted as in the other commands: this one asks nothing
    with options.engine(dsn) as engine:
        live, chosen = (generations.find(engine, name, role) for role in ("live", "next"))
        if not json:
            _warn(live.spec, chosen.spec)
        with progress.pages(engine, [chosen], shown=not json) as advance:
            generations.switch(engine, name, least=coverage, force=force, on_page=advance)
    back = f"`pg-semantic generation rollback {shlex.quote(name)}`"
    _say(json, chosen, f"is live with {chosen.spec.encoder.reference}. To go back: {back}.")


@app.command(
    short_help="Make the previous copy live again.",
    epilog=options.examples("pg-semantic generation rollback article_semantic"),
)
def rollback(
    name: Name,
    drop_next: Annotated[
        bool,
        typer.Option("--drop-next", help="Drop the copy that is being built, which would be in the way. Asks first."),
    ] = False,
    yes: options.Yes = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Make the previous copy live again. The current one becomes `next`, and workers keep it up to date."""
    with options.engine(dsn) as engine:
        chosen = generations.find(engine, name, "previous")
        options.confirm(f"Drop {chosen.qualified_name} (next) and its vectors?", yes=yes or not drop_next)
        generations.rollback(engine, name, drop_next=drop_next)
    _say(json, chosen, f"is live with {chosen.spec.encoder.reference} again.")


@app.command(epilog=options.examples("pg-semantic generation drop article_semantic previous --yes"))
def drop(
    name: Name,
    copy: Annotated[Copy, typer.Argument(help="Which copy.")],
    yes: options.Yes = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Drop a copy that is not live, and its vectors."""
    with options.engine(dsn) as engine:
        if copy.value in generations.clear(engine, name):
            chosen = generations.find(engine, name, "live")
        else:
            chosen = generations.find(engine, name, copy.value)
            options.confirm(f"Drop {chosen.title} and its vectors?", yes=yes)
            generations.drop(engine, name, copy.value)
    _say(json, chosen, f"no longer has a {copy.value} generation.")


@app.command(
    short_help="Run the same queries on two copies, and compare the results.",
    epilog=options.examples("pg-semantic generation compare article_semantic --queries questions.txt --limit 10"),
)
def compare(
    name: Name,
    queries: Annotated[Path | None, typer.Option(help="A file with one query per line.")] = None,
    judgements: Annotated[
        Path | None, typer.Option(help='A file with {"query": "...", "relevant": {"key": 1}} on each line.')
    ] = None,
    copy: Annotated[Copy, typer.Option("--with", help="The copy to compare with the live one.")] = Copy.next,
    limit: Annotated[int, typer.Option(help="How many rows each search returns.", min=1, max=1000)] = 10,
    sample: Annotated[int, typer.Option(help="Without queries: how many chunks to use as queries.", min=1)] = 100,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Run the same queries on the live copy and another, and show how much of the results they share.

    overlap: the mean share of rows that both find; from, to: its 95% interval. nDCG (with --judgements): higher is
    better. Without queries, uses the beginnings of random chunks. Loads both encoders; changes nothing.
    """
    with options.engine(dsn) as engine:
        live, other = (generations.find(engine, name, role) for role in ("live", copy.value))
        judged = generations.read_judged(judgements) if judgements else None
        asked = generations.read_queries(queries) if queries else list(judged or ())
        asked = asked or generations.sampled(engine, live, sample=sample)
        with progress.queries(len(asked), shown=not json) as advance:
            found = generations.compare(engine, (live, other), asked, judged=judged, limit=limit, on_query=advance)
    if json:
        output.as_json(found)
        return
    columns = ("index", "with", "queries", "overlap", "from", "to", "nDCG of live", f"nDCG of {copy}")
    shares = (found.overlap, found.low, found.high, found.live_ndcg, found.ndcg)
    output.table(columns, [(found.index, found.role, found.queries, *shares)])


def _begin(engine: sa.Engine, live: Generation, target: IndexSpec, *, ask: bool) -> None:
    """Begins a copy after showing what it costs and asking for confirmation."""
    _show_cost(generations.disk(engine, live, target))
    _warn(live.spec, target)
    options.warn_of_prompts(target.encoder)
    options.confirm(f"Build a copy next to {live.qualified_name}?", yes=not ask)
    generations.begin(engine, live, target)


def _encoder(now: IndexSpec, reference: str | None, dimensions: int | None, prompts: Prompts) -> EncoderSpec:
    if reference is None:
        kept = prompts.filled(now.encoder.prompts)
        known = _given(dimensions, now.encoder.dimensions)
        return EncoderSpec(now.encoder.reference, known, kept.query, kept.document)
    length = dimensions if dimensions is not None else known_encoders.dimensions(reference)
    length = length if length is not None else encoders.load(reference).dimensions
    return EncoderSpec(reference, length, prompts.query, prompts.document)


def _hnsw(now: IndexSpec, m: int | None, ef_construction: int | None) -> Hnsw:
    return Hnsw(_given(m, now.hnsw.m), _given(ef_construction, now.hnsw.ef_construction))


def _chunking(
    now: IndexSpec, max_tokens: int | None, overlap_tokens: int | None, *, chunked: bool | None
) -> Chunking | None:
    given = max_tokens is not None or overlap_tokens is not None
    if chunked is False and given:
        raise typer.BadParameter("--one-chunk cannot be combined with --max-tokens or --overlap-tokens.")
    if chunked is False or (now.chunking is None and not chunked and not given):
        return None
    before = now.chunking or Chunking()
    longest = before.max_tokens if max_tokens is None else max_tokens
    return Chunking(max_tokens=longest, overlap_tokens=_given(overlap_tokens, before.overlap_tokens))


def _given(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _storage(now: IndexSpec, kind: Kind | None) -> Storage:
    return now.storage if kind is None else kind.value


def _lexical(now: IndexSpec, config: str | None) -> Lexical | None:
    if config is None:
        return now.lexical
    return None if config == "none" else dataclasses.replace(now.lexical or Lexical(), config=config)


def _show_cost(disk: generations.Disk) -> None:
    output.say(f"The live copy takes {_size(disk.live)}. The new one will take about {_size(disk.other)} more.")


def _warn(now: IndexSpec, target: IndexSpec) -> None:
    if now.lexical is not None and target.lexical is None:
        output.say(
            f"{output.escaped(now.name)}: once the new copy is live, searches by words (mode lexical or hybrid) fail: "
            "it has no BM25."
        )


def _described(connection: sa.Connection, one: Generation, read: statuses.IndexStatus) -> dict[str, object]:
    return {
        "index": one.qualified_name,
        "generation": one.role,
        "encoder": f"{one.spec.encoder.reference} ({one.spec.encoder.dimensions})",
        "rows": read.rows,
        "synced": read.synced,
        "pending": read.waiting,
        "failed": read.failed,
        "vector_index": read.vector_index,
        "bytes": generations.size(connection, one),
    }


def _say(json: bool, chosen: Generation, text: str) -> None:
    if json:
        output.as_json({"index": chosen.qualified_name, "encoder": chosen.spec.encoder.reference})
    else:
        output.say(f"{output.escaped(chosen.qualified_name)} {output.escaped(text)}")


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
