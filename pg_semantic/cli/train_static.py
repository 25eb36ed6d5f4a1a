"""``pg-semantic train static``: distills an encoder into a table of words."""

import dataclasses
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import orm

from pg_semantic import training
from pg_semantic.cli import named_index, options, output, progress, row_conditions, training_options
from pg_semantic.training import StaticReport, StaticTraining

EXAMPLES = options.examples(
    "pg-semantic train static article_semantic --out ./encoders/articles-static",
    "pg-semantic train static article_semantic --out ./encoders/articles-static --judgements judged.jsonl "
    "--dimensions 256 --seconds 600",
)

_COLUMNS = ("dimensions", "vocabulary", "words of rows", "chunks", "sentences", "epochs")


class VocabularySource(StrEnum):
    """Where a student's words come from: the rows and the encoder, or the encoder alone."""

    rows = "rows"
    encoder = "encoder"


Measured = Annotated[
    Path | None, typer.Option("--judgements", help="A file of judgements to measure the student with.")
]
Dimensions = Annotated[int | None, typer.Option(help="Dimensions of its vectors. Default: those of the encoder.")]
Words = Annotated[
    VocabularySource, typer.Option(help="`encoder` writes no words of the rows into the student's files.")
]
LeastRows = Annotated[int, typer.Option(help="In how many rows a word must occur, to be taken from them.")]
Spans = Annotated[int, typer.Option(help="How many sentences of rows to encode, in place of queries.")]


def static(
    name: training_options.Name,
    out: Annotated[Path, typer.Option(help="Where to write the student: an empty or new folder.")],
    judgements: Measured = None,
    split: options.TestSplit = None,
    topics: options.Topics = None,
    dimensions: Dimensions = None,
    vocabulary: Words = VocabularySource.rows,
    least_rows: LeastRows = 5,
    spans: Spans = 20_000,
    where: row_conditions.Where = None,
    epochs: training_options.Epochs = 6,
    seconds: training_options.Seconds = None,
    seed: training_options.Seed = 0,
    from_trained: training_options.FromTrained = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Distill the live copy's encoder into a table of words: a static student.

    It takes next to no time on a CPU, and finds less: it ignores the order of words. A copy of the index with it
    encodes all rows again.

    Its files contain each word that occurs in at least --least-rows rows, unless you pass --vocabulary encoder. They
    contain no other text of your rows.
    """
    chosen = StaticTraining(
        dimensions=dimensions, vocabulary=vocabulary.value, least_rows=least_rows, spans=spans, epochs=epochs,
        seconds=seconds, seed=seed, from_trained=from_trained,
    )  # fmt: skip
    qrels = options.split_of(judgements, split, usual="test")
    judged = options.read_judgements(judgements, split=qrels, topics=topics) if judgements else None
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        index = named_index.find(session, name)
        chosen = dataclasses.replace(chosen, where=row_conditions.conditions(session, index, where))
        with progress.training(shown=not json) as advance:
            report = training.distill_static(
                session, index, out=out, options=chosen, judgements=judged, on_step=advance
            )
    _print(name, report, json=json)


def _print(name: str, report: StaticReport, *, json: bool) -> None:
    if json:
        output.as_json(report)
        return
    figures = (report.dimensions, report.vocabulary, report.words, report.chunks, report.spans, report.epochs)
    output.table(_COLUMNS, [figures], title=f"{report.index}, static")
    if report.is_sample:
        output.say("Learned from a sample of the chunks, because the index has more.")
    if report.gone:
        output.say(
            f"Left out {output.counted(report.gone, 'judgement')} whose row isn't among the chunks that were read."
        )
    output.say(report.verdict)
    folder, index = (output.escaped(shlex.quote(str(one))) for one in (report.folder, name))
    output.say(
        f"Wrote {folder} in {report.seconds:.0f} s. Put a copy at the same path on each machine that searches or runs "
        f"a worker, then run `pg-semantic generation begin {index} --encoder {folder}`."
    )
