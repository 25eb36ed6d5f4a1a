"""``pg-semantic generation``: changes a semantic index without downtime, and rolls back instantly."""

import contextlib
import dataclasses
import shlex
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from pg_semantic import database, encoders, errors, generations, registry, settings
from pg_semantic.cli import changed_spec, judged_copies, options, output, progress
from pg_semantic.cli.judged_copies import Gate
from pg_semantic.encoders import Encoder
from pg_semantic.index import known_encoders
from pg_semantic.index.known_encoders import Prompts
from pg_semantic.index.spec import EncoderSpec, IndexSpec
from pg_semantic.operations import status as statuses
from pg_semantic.registry import Generation
from pg_semantic.worker import build_forecast

app = typer.Typer(
    help="Change a semantic index without downtime: build another copy of it, switch to it, roll back.",
    no_args_is_help=True,
)

_LARGE_BYTES = 100_000_000  # of a vector index; smaller ones take a few minutes at most
_COLUMNS = ("index", "generation", "encoder", "rows", "synced", "pending", "failed", "vector index", "bytes")

Name = Annotated[str, typer.Argument(help="The name of the semantic index.")]


_WorseBy = Annotated[
    float | None,
    typer.Option(help="Switch only if judged queries show a loss of at most this; 0 if none.", min=0, max=1),
]


class Copy(StrEnum):
    """A generation that is not live."""

    next = "next"
    previous = "previous"


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
    storage: options.StorageKind = None,
    m: Annotated[int | None, typer.Option(help="Edges per node of the vector index.")] = None,
    ef_construction: Annotated[int | None, typer.Option(help="Candidates while the vector index is built.")] = None,
    lexical: Annotated[str | None, typer.Option(help="Text search configuration for BM25, or `none`.")] = None,
    partitions: Annotated[int | None, typer.Option(help="Partitions of the vector index; 1 for none.", min=1)] = None,
    partition_by: Annotated[str | None, typer.Option(help="Key column that decides the partition, or `none`.")] = None,
    yes: options.Yes = False,
    dsn: options.Dsn = None,
) -> None:
    """Start to build a changed copy of a semantic index. Workers fill it; searches keep using the live copy.

    Options that you leave out keep their values, except that --encoder resets the prompts to the encoder's own. If the
    new encoder encodes documents as the live one does, vectors are copied. If the index belongs to a mapped class,
    change the declaration and write a migration instead: it does the same.
    """
    with options.engine(dsn) as engine:
        live = generations.find(engine, name, "live")
        chosen, loaded = _encoder(live.spec, encoder, dimensions, Prompts(query_prompt, document_prompt))
        changes: dict[str, Any] = {
            "encoder": chosen,
            "columns": tuple(part.strip() for part in columns.split(",")) if columns else live.spec.columns,
            "chunking": changed_spec.chunking(live.spec, max_tokens, overlap_tokens, chunked=chunked),
            **changed_spec.storage(storage),
            "hnsw": changed_spec.hnsw(live.spec, m, ef_construction),
            "lexical": changed_spec.lexical(live.spec, lexical),
            **changed_spec.partitions(live.spec, partitions, partition_by),
        }
        _begin(engine, live, dataclasses.replace(live.spec, **changes), loaded=loaded, ask=not yes)


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
    judgements: options.MaybeJudgementsPath = None,
    topics: options.Topics = None,
    split: options.TestSplit = None,
    if_better: Annotated[bool, typer.Option("--if-better", help="Switch only if judged queries show a gain.")] = False,
    unless_worse: _WorseBy = None,
    how: judged_copies.How = "",
    yes: options.Yes = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Make the new copy live. Workers keep the old one up to date, so that you can roll back.

    Refused until all rows are current (except a few edited in the last minute), no row has failed, and the
    indexes are built. Compares every row, in pages, before it switches. With --judgements, also refused unless judged
    queries show that the new copy is better, or at most --unless-worse lower.
    """
    del yes  # accepted as in the other commands: this one asks nothing
    qrels = options.split_of(judgements, split, usual="test")
    read = None if judgements is None else partial(options.read_judgements, judgements, split=qrels, topics=topics)
    gate = Gate.of(read, unless_worse, how, if_better=if_better)
    with options.engine(dsn) as engine:
        live, chosen = (generations.find(engine, name, role) for role in ("live", "next"))
        if not json:
            _warn(live.spec, chosen.spec)
        if gate:
            gate.require(engine, name, shown=not json)
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
    if_exists: Annotated[bool, typer.Option("--if-exists", help="Do nothing if there is no such copy.")] = False,
    yes: options.Yes = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Drop a copy that is not live, and its vectors."""
    with options.engine(dsn) as engine:
        chosen, had = generations.find(engine, name, "live"), "no longer has a"
        if copy.value not in generations.clear(engine, name):
            with contextlib.suppress(*([errors.GenerationError] if if_exists else [])):
                chosen = generations.find(engine, name, copy.value)
            if chosen.role == copy.value:
                options.confirm(f"Drop {chosen.title} and its vectors?", yes=yes)
                generations.drop(engine, name, copy.value)
            else:
                had = "has no"
    _say(json, chosen, f"{had} {copy.value} generation.")


@app.command(
    short_help="Run the same queries on two copies, and compare the results.",
    epilog=options.examples("pg-semantic generation compare article_semantic --queries questions.txt --limit 10"),
)
def compare(
    name: Name,
    queries: Annotated[Path | None, typer.Option(help="A file with one query per line.")] = None,
    judgements: options.MaybeJudgementsPath = None,
    topics: options.Topics = None,
    split: options.TestSplit = None,
    how: judged_copies.How = "",
    copy: Annotated[Copy, typer.Option("--with", help="The copy to compare with the live one.")] = Copy.next,
    limit: Annotated[int, typer.Option(help="How many rows each search returns.", min=1, max=1000)] = 10,
    sample: Annotated[int, typer.Option(help="Without queries: how many chunks to use as queries.", min=1)] = 100,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Run the same queries on the live copy and another, and show how much of the results they share.

    overlap: the mean share of rows that both find; from, to: its 95% interval. With --judgements: nDCG, the difference
    and its 95% interval, and the probability p of a difference as large as this by chance. Then the scores that keep
    the same share of hits, to adapt a min_score. Without queries, uses the beginnings of random chunks. Loads both
    encoders; changes nothing.
    """
    qrels = options.split_of(judgements, split, usual="test")
    with options.engine(dsn) as engine:
        live, other = (generations.find(engine, name, role) for role in ("live", copy.value))
        judged = options.read_judgements(judgements, split=qrels, topics=topics) if judgements else None
        asked = generations.read_queries(queries) if queries else list(judged.queries if judged else ())
        asked = asked or generations.sampled(engine, live, sample=sample)
        variant = judged_copies.variant(engine, live, how)
        with progress.queries(len(asked), shown=not json) as advance:
            found = generations.compare(
                engine, (live, other), asked, judged=judged, how=variant, limit=limit, on_query=advance
            )
        doubts = [] if json else [*judged_copies.doubts(engine, live, other, judged=judged, how=how)]
    if json:
        output.as_json(found)
    else:
        judged_copies.show(found)
        for doubt in doubts:
            typer.echo(doubt, err=True)


def _begin(engine: sa.Engine, live: Generation, target: IndexSpec, *, loaded: Encoder | None, ask: bool) -> None:
    """Begins a copy after showing what it costs and asking for confirmation."""
    _show_cost(generations.disk(engine, live, target, memory=settings.load().maintenance_work_mem))
    _say_if_copied(live, target, loaded)
    _warn(live.spec, target)
    options.warn_of_prompts(target.encoder)
    options.confirm(f"Build a copy next to {live.qualified_name}?", yes=not ask)
    generations.begin(engine, live, target)
    quoted = output.escaped(shlex.quote(live.qualified_name))
    output.say(
        f"Began building {output.escaped(live.qualified_name)} (next); a running worker fills it. To see its progress: "
        f"`pg-semantic generation status {quoted}`. To make it live: `pg-semantic generation switch {quoted}`."
    )


def _encoder(
    now: IndexSpec, reference: str | None, dimensions: int | None, prompts: Prompts
) -> tuple[EncoderSpec, Encoder | None]:
    """Returns the encoder of the new copy, and the loaded one if it had to be loaded to learn its dimensions."""
    if reference is None:
        kept = prompts.filled(now.encoder.prompts)
        known = now.encoder.dimensions if dimensions is None else dimensions
        return EncoderSpec(now.encoder.reference, known, kept.query, kept.document), None
    reference = options.encoder_reference(reference)
    length = dimensions if dimensions is not None else known_encoders.dimensions(reference)
    if length is not None:
        return EncoderSpec(reference, length, prompts.query, prompts.document), None
    loaded = encoders.load(reference, query_prompt=prompts.query, document_prompt=prompts.document)
    return EncoderSpec(reference, loaded.dimensions, prompts.query, prompts.document), loaded


def _say_if_copied(live: Generation, target: IndexSpec, loaded: Encoder | None) -> None:
    same_texts = (target.columns, target.chunking) == (live.spec.columns, live.spec.chunking)
    same_vectors = loaded is not None and loaded.document_fingerprint == live.document_fingerprint
    if same_texts and same_vectors and target.storage == live.spec.storage:
        output.say("The new encoder differs only in how it encodes queries: vectors are copied, no text is encoded.")


def _show_cost(disk: generations.Disk) -> None:
    now, more = (f"{size / 1e6:,.1f} MB" for size in (disk.live, disk.other))
    output.say(f"The live copy takes {now}. The new one will take about {more} more.")
    if disk.build.index_bytes > _LARGE_BYTES or disk.build.problems:
        output.say(f"Its vector index will take: {output.escaped(build_forecast.summary(disk.build))}.")
    for problem in disk.build.problems:
        typer.echo(f"Warning: {problem}.", err=True)


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
