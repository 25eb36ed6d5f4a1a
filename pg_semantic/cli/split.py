"""``pg-semantic split``: holds some judged queries out, to measure with what is tuned and trained on the others."""

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import orm

from pg_semantic import evaluation
from pg_semantic.cli import named_index, options, output
from pg_semantic.evaluation import Split, private_files

EXAMPLES = options.examples(
    "pg-semantic split article_semantic --judgements judged.csv --train train.jsonl --held-out held_out.jsonl",
    "pg-semantic split article_semantic --judgements beir/scifact --split-of test --share 1 --held-out held_out.jsonl",
)


def split(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    judgements: options.JudgementsPath,
    held_out: Annotated[Path, typer.Option(help="The file to write those to that are held out.")],
    train: Annotated[Path | None, typer.Option(help="The file to write the others to.")] = None,
    share: Annotated[float, typer.Option(help="Which share of the queries to hold out.", min=0, max=1)] = 0.3,
    topics: options.Topics = None,
    split_of: options.TrainSplit = None,
    seed: Annotated[int, typer.Option(help="The same seed holds the same queries out.")] = 0,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Divide judgements into those to tune and train on, and those that are held out to measure the result.

    No row that is relevant to a query is on both sides, so queries that share a relevant row stay together. The
    database remembers the side of each query, under a hash: later splits keep it, and no command tunes or trains on
    queries that are held out. The files have your queries; only you can read them.
    """
    if train is not None and train.resolve() == held_out.resolve():
        raise typer.BadParameter("--train and --held-out name the same file.")
    for path in filter(None, (held_out, train)):  # first, because the database remembers what was held out
        private_files.require_writable(path)
    qrels = options.split_of(judgements, split_of, usual="train", name="--split-of")
    judged = options.read_judgements(judgements, split=qrels, topics=topics)
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        found = evaluation.split(session, named_index.find(session, index), judged, held_out=share, seed=seed)
        session.commit()
    found.held_out.write(held_out)
    if train is not None:
        found.train.write(train)
    _print(found, share, json=json)


def _print(found: Split, share: float, *, json: bool) -> None:
    parts = {"train": found.train, "held out": found.held_out, "left out": found.left_out}
    if json:
        counts = {name.replace(" ", "_"): {"queries": len(of), "judgements": of.count} for name, of in parts.items()}
        output.as_json(counts | {"removed": found.removed, "gone": found.gone})
        return
    output.table(
        ("side", "queries", "judgements"), [(name, len(of), of.count) for name, of in parts.items() if len(of)]
    )
    if len(found.left_out):
        output.say(
            f"Left out {len(found.left_out)} queries that were trained on, because they share a row with queries that "
            "are held out by now."
        )
    if len(found.train) and not len(found.held_out) and share:
        typer.echo(
            "No query is held out. Those that were tuned or trained on stay in train, and so do those that share "
            "relevant rows with them: judge other queries to measure with.",
            err=True,
        )
    if found.gone:
        output.say(f"Left out {output.counted(found.gone, 'judgement')} whose row doesn't exist.")
