"""``pg-semantic train reranker``: trains a cross-encoder that reorders what a search finds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import orm

from pg_semantic import evaluation, settings, training
from pg_semantic import search as searching
from pg_semantic.cli import named_index, options, progress, row_conditions, training_options, training_report
from pg_semantic.cli.training_report import LeftOut
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import Judgements, existing_rows
from pg_semantic.search.request import Mode
from pg_semantic.training import MinedPair, RerankerTraining, TrainingReport, live_generation
from pg_semantic.training.reranker import starting_point
from pg_semantic.training.reranker import train as reranker_training
from pg_semantic.training.reranker.reranker_training import RerankerLoss

EXAMPLES = options.examples(
    "pg-semantic train reranker article_semantic --pairs mined.jsonl --out ./rerankers/articles-1",
    "pg-semantic train reranker article_semantic --pairs mined.jsonl --out ./rerankers/articles-1 "
    "--start cross-encoder/ms-marco-MiniLM-L6-v2 --mode hybrid",
)

Start = Annotated[
    str | None,
    typer.Option(help="The cross-encoder to start from: a folder or a hub name. Default: the index's own encoder."),
]


def reranker(
    name: training_options.Name,
    pairs: Annotated[Path, typer.Option(help="A file that `pg-semantic mine` wrote.")],
    out: Annotated[Path, typer.Option(help="Where to write the reranker: an empty or new folder.")],
    start: Start = None,
    loss: Annotated[RerankerLoss, typer.Option(help="Learn which passages answer, or the order of passages.")] = "bce",
    mode: Annotated[Mode, typer.Option(help="How the searches rank that it must improve.")] = "dense",
    depth: Annotated[int, typer.Option(help="How many hits of a search to rerank.", min=10, max=1000)] = 20,
    max_tokens: Annotated[int | None, typer.Option(help="Truncate a query with its passage to this length.")] = None,
    where: row_conditions.Where = None,
    held_out: training_options.HeldOut = 0.2,
    epochs: training_options.Epochs = 3,
    batch: Annotated[int, typer.Option(help="Pairs of a query and a passage per step.", min=2)] = 32,
    learning_rate: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    seconds: training_options.Seconds = None,
    seed: training_options.Seed = 0,
    keep: training_options.Keep = False,
    from_trained: training_options.FromTrained = False,
    resume: training_options.Resume = False,
    checkpoint_minutes: training_options.CheckpointMinutes = 10.0,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Train a cross-encoder on mined pairs. Searches with it score each hit together with the query.

    before: held-out queries as a search ranks them now. after: the same hits, reranked. The queries share no relevant
    row with those that it was trained on. from, to: the 95% interval of the difference.

    Writes the reranker only if that interval is above 0, or with --keep. Queries that were held out by an earlier split
    are left out; the others are recorded as trained on, so that no later split holds them out. A hybrid search uses the
    options that `pg-semantic tune --save` kept.
    """
    chosen = RerankerTraining(
        start=start, loss=loss, mode=mode, depth=depth, max_tokens=max_tokens, epochs=epochs, batch=batch,
        learning_rate=learning_rate, held_out=held_out, seconds=seconds, seed=seed, keep=keep,
        from_trained=from_trained, resume=resume, checkpoint_seconds=60 * checkpoint_minutes,
    )  # fmt: skip
    mined = training.read_mined(pairs)
    report, left_out = _train_reranker(name, mined, out, chosen=chosen, where=where, dsn=dsn, shown=not json)
    training_report.show(name, report, left_out=left_out, json=json)


def _train_reranker(
    name: str,
    mined: list[MinedPair],
    out: Path,
    *,
    chosen: RerankerTraining,
    where: Sequence[str] | None,
    dsn: str | None,
    shown: bool,
) -> tuple[TrainingReport, LeftOut]:
    """Trains on the pairs that aren't held out. Returns the report, and what was left out."""
    grades: dict[str, dict[str, int]] = {}
    for pair in mined:
        grades.setdefault(pair.query, {})[pair.positive.key] = 1
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        index = named_index.find(session, name)
        chosen = dataclasses.replace(chosen, where=row_conditions.conditions(session, index, where))
        with own_transaction.reading(session):
            left = evaluation.without_held_out(session, index, Judgements(grades))
            keys = existing_rows.canonical(session, index, {pair.positive.key for pair in mined})
            if chosen.mode == "hybrid":
                chosen = dataclasses.replace(chosen, search=searching.tuned_options(session, index))
        known = left.judgements.grades
        pairs = [pair for pair in mined if keys.get(pair.positive.key) in known.get(pair.query, ())]
        asked = {pair.query for pair in pairs}  # recorded only if they can be trained on
        with training_report.explaining(left.held_out_queries):
            reranker_training.check(pairs, out=out, options=chosen, gone=left.gone)
        live = live_generation.read(session, index, asked, where=chosen.where)
        starting_point.require_trainable(live, settings.load(), chosen)
        evaluation.record_training(session, index, asked)  # first, so that none is held out
        session.commit()
        with progress.training(shown=shown) as advance:
            report = training.train_reranker(session, index, pairs, out=out, options=chosen, on_step=advance)
    left_out = LeftOut(left.held_out_queries, left.held_out_pairs)
    return dataclasses.replace(report, gone=report.gone + left.gone), left_out
