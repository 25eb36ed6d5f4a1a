"""``pg-semantic train``: trains encoders on a semantic index."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import orm

from pg_semantic import evaluation, registry, training
from pg_semantic.cli import options, output, progress
from pg_semantic.evaluation import Judgements
from pg_semantic.index import declare
from pg_semantic.training import QueryTraining, TrainingReport

app = typer.Typer(help="Train encoders on your own rows and judgements.", no_args_is_help=True)

_COLUMNS = ("queries", "number", "nDCG@10 before", "after", "difference", "from", "to", "p")


class TrainedPart(StrEnum):
    """What is trained: a map of the vectors of queries, or a copy of the encoder."""

    map = "map"
    encoder = "encoder"


JudgementsPath = Annotated[
    Path,
    typer.Option(
        help='A file with {"query": "...", "relevant": {"key": 1}} on each line, or CSV, a BEIR folder, qrels.'
    ),
]
Kind = Annotated[
    TrainedPart, typer.Option(help="Train a linear map of the vectors of queries, or a copy of the encoder for them.")
]
Epochs = Annotated[
    int | None, typer.Option(help="How many epochs at most. Default: 6 for a map, 1 for an encoder.", min=1)
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same encoder on the same machine.")]
FromTrained = Annotated[
    bool, typer.Option("--from-trained", help="Start from the live encoder even if it was trained.")
]


@app.command(
    short_help="Train how an encoder encodes queries. No row is encoded again.",
    epilog=options.examples(
        "pg-semantic train queries article_semantic --judgements judged.jsonl --out ./encoders/articles-1",
        "pg-semantic train queries article_semantic --judgements judged.jsonl --out ./encoders/articles-1 "
        "--kind encoder --seconds 600",
    ),
)
def queries(
    name: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    judgements: JudgementsPath,
    out: Annotated[Path, typer.Option(help="Where to write the new encoder: an empty or new folder.")],
    kind: Kind = TrainedPart.map,
    split: Annotated[str, typer.Option(help="Which judgements of a BEIR folder.")] = "train",
    topics: Annotated[Path | None, typer.Option(help="The queries, for qrels.")] = None,
    held_out: Annotated[float, typer.Option(help="Share of the queries to hold out at a time.")] = 0.2,
    epochs: Epochs = None,
    seconds: Annotated[float | None, typer.Option(help="How long everything may take.")] = None,
    seed: Seed = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Write the encoder even without a gain.")] = False,
    from_trained: FromTrained = False,
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
        kind=kind.value, held_out=held_out, epochs=epochs, seconds=seconds, seed=seed, keep=keep,
        from_trained=from_trained,
    )  # fmt: skip
    judged = Judgements.read(judgements, split=split, topics=topics)
    report, left_out = _train(name, judged, out, chosen=chosen, dsn=dsn, shown=not json)
    if json:
        output.as_json(report)
    else:
        _print(name, report, left_out=left_out)


def _train(
    name: str, judged: Judgements, out: Path, *, chosen: QueryTraining, dsn: str | None, shown: bool
) -> tuple[TrainingReport, int]:
    """Trains on the judgements that aren't held out. Returns the report, and how many queries were left out."""
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        index = declare.bind(registry.find(session.connection(), name).spec)
        left = evaluation.without_held_out(session, index, judged)
        pairs = training.from_judgements(left.judgements)
        session.rollback()
        with progress.training(shown=shown) as advance:
            report = training.train_query_side(session, index, pairs, out=out, options=chosen, on_step=advance)
        evaluation.record_training(session, index, {pair.query for pair in pairs})
        session.commit()
    return report, left.held_out_queries


def _print(name: str, report: TrainingReport, *, left_out: int) -> None:
    parts = (("held out", report.held_out), ("trained on", report.trained_on))
    rows = [(part, g.queries, g.before, g.after, g.difference, g.low, g.high, g.p) for part, g in parts]
    output.table(_COLUMNS, rows, title=f"{report.index}, {report.kind}, {output.counted(report.pairs, 'pair')}")
    if left_out:
        output.say(f"Left out {left_out} queries that are held out to measure with.")
    if report.gone:
        output.say(f"Left out {output.counted(report.gone, 'pair')} whose row has no vectors.")
    if report.is_sample:
        output.say(f"Compared with a sample of {report.vectors} vectors, because the index has more.")
    output.say(report.verdict)
    if report.folder is None:
        return
    folder = output.escaped(shlex.quote(str(report.folder)))
    output.say(
        f"Wrote {folder} in {report.seconds:.0f} s. Put a copy at the same path on each machine that searches, then "
        f"run `pg-semantic generation begin {output.escaped(shlex.quote(name))} --encoder {folder}`."
    )
