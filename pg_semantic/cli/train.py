"""``pg-semantic train``: trains encoders and rerankers on a semantic index."""

import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import orm

from pg_semantic import evaluation, training
from pg_semantic.cli import (
    named_index,
    options,
    progress,
    row_conditions,
    train_encoder,
    train_reranker,
    train_static,
    training_options,
    training_report,
)
from pg_semantic.cli.training_report import LeftOut
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import Judgements
from pg_semantic.training import QueryTraining, TrainingReport, live_generation
from pg_semantic.training.query_side import train as query_side

app = typer.Typer(help="Train encoders and rerankers on your own rows and judgements.", no_args_is_help=True)


class TrainedPart(StrEnum):
    """What is trained: a map of the vectors of queries, or a copy of the encoder."""

    map = "map"
    encoder = "encoder"


Kind = Annotated[
    TrainedPart, typer.Option(help="Train a linear map of the vectors of queries, or a copy of the encoder for them.")
]
Epochs = Annotated[
    int | None, typer.Option(help="How many epochs at most. Default: 6 for a map, 1 for an encoder.", min=1)
]
HeldOut = Annotated[float, typer.Option(help="Share of the queries to hold out at a time: 0.5, 0.33, 0.25, 0.2, ...")]
LearningRate = Annotated[float | None, typer.Option(help="Default: 0.003 for a map, 0.00005 for an encoder.")]


@app.command(
    short_help="Train how an encoder encodes queries. No row is encoded again.",
    epilog=options.examples(
        "pg-semantic train queries article_semantic --judgements judged.jsonl --out ./encoders/articles-1",
        "pg-semantic train queries article_semantic --judgements judged.jsonl --out ./encoders/articles-1 "
        "--kind encoder --seconds 600",
    ),
)
def queries(
    name: training_options.Name,
    judgements: options.JudgementsPath,
    out: Annotated[Path, typer.Option(help="Where to write the new encoder: an empty or new folder.")],
    kind: Kind = TrainedPart.map,
    split: options.TrainSplit = None,
    topics: options.Topics = None,
    where: row_conditions.Where = None,
    held_out: HeldOut = 0.2,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    seconds: training_options.Seconds = None,
    seed: training_options.Seed = 0,
    keep: training_options.Keep = False,
    from_trained: training_options.FromTrained = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Train how the live copy's encoder encodes queries. Documents stay as they are, so vectors can be copied.

    held out: queries that share no row with those that the measured encoder was trained on, so they say what to expect
    for other rows. trained on: queries that it knows; never decide by them. from, to: the 95% interval of the
    difference.

    Writes the encoder only if that interval of held-out queries is above 0, or with --keep. Judged queries that were
    held out by an earlier split are left out; the others are recorded as trained on, so that no later split holds them
    out.
    """
    chosen = QueryTraining(
        kind=kind.value, held_out=held_out, epochs=epochs, learning_rate=learning_rate, seconds=seconds, seed=seed,
        keep=keep, from_trained=from_trained,
    )  # fmt: skip
    qrels = options.split_of(judgements, split, usual="train")
    judged = options.read_judgements(judgements, split=qrels, topics=topics)
    report, left_out = _train(name, judged, out, chosen=chosen, where=where, dsn=dsn, shown=not json)
    training_report.show(name, report, left_out=left_out, json=json)


def _train(
    name: str,
    judged: Judgements,
    out: Path,
    *,
    chosen: QueryTraining,
    where: Sequence[str] | None,
    dsn: str | None,
    shown: bool,
) -> tuple[TrainingReport, LeftOut]:
    """Trains on the judgements that aren't held out. Returns the report, and what was left out."""
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        index = named_index.find(session, name)
        chosen = dataclasses.replace(chosen, where=row_conditions.conditions(session, index, where))
        with own_transaction.reading(session):
            left = evaluation.without_held_out(session, index, judged)
        pairs = training.from_judgements(left.judgements)
        asked = {pair.query for pair in pairs}
        with training_report.explaining(left.held_out_queries):
            query_side.check(pairs, out=out, gone=left.gone)  # what cannot be trained on must not be recorded
        live_generation.require_trainable(session, index, asked, where=chosen.where, from_trained=chosen.from_trained)
        evaluation.record_training(session, index, asked)  # first, so that none is held out
        session.commit()
        with progress.training(shown=shown) as advance:
            report = training.train_query_side(session, index, pairs, out=out, options=chosen, on_step=advance)
    left_out = LeftOut(left.held_out_queries, left.held_out_pairs)
    return dataclasses.replace(report, gone=report.gone + left.gone), left_out


for function, examples, summary in (
    (train_encoder.encoder, train_encoder.EXAMPLES, "Train a whole encoder. All rows are encoded again."),
    (train_reranker.reranker, train_reranker.EXAMPLES, "Train a cross-encoder that reorders what a search finds."),
    (train_static.static, train_static.EXAMPLES, "Distill the encoder into a table of words, far faster on a CPU."),
):
    app.command(epilog=examples, short_help=summary)(function)
