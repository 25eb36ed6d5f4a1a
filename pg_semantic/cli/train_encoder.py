"""``pg-semantic train encoder``: trains an encoder for queries and documents."""

import dataclasses
import json as json_lines
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from sqlalchemy import orm

from pg_semantic import errors, evaluation, rerankers, training
from pg_semantic.cli import named_index, options, progress, row_conditions, training_options, training_report
from pg_semantic.cli.training_report import LeftOut
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import Judgements, existing_rows, input_lines
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.training import EncoderTraining, MinedPair, Pair, RowPair, TrainingReport, live_generation
from pg_semantic.training.encoder import train as encoder_training

AskedPairs: TypeAlias = Sequence[MinedPair | Pair]
Given: TypeAlias = Sequence[MinedPair | Pair | RowPair]

EXAMPLES = options.examples(
    "pg-semantic train encoder article_semantic --pairs mined.jsonl --out ./encoders/articles-2",
    "pg-semantic train encoder article_semantic --pairs mined.jsonl --out ./encoders/articles-2 --lora --seconds 1800",
    "pg-semantic train encoder article_semantic --pairs mined.jsonl --out ./encoders/articles-2 --resume",
    "pg-semantic train encoder article_semantic --pairs judged.csv --out ./encoders/articles-2 --matryoshka 256,128",
    "pg-semantic train encoder article_semantic --pairs sentences.jsonl --pairs rows.jsonl --without-quotes "
    "--out ./encoders/articles-2",
)


class TrainedLoss(StrEnum):
    """What an encoder learns; see `EncoderTraining`."""

    ranking = "ranking"
    gist = "gist"
    triplet = "triplet"
    cosent = "cosent"
    cosine = "cosine"
    teacher = "teacher"
    tsdae = "tsdae"


PairsFiles = Annotated[
    list[Path],
    typer.Option(
        metavar="FILE",
        help="A file of `mine` or `pairs`, one of pairs or judgements, or a BEIR folder (train). Repeat for more.",
    ),
]
Out = Annotated[Path, typer.Option(help="Where to write the new encoder: an empty or new folder.")]
Learned = Annotated[
    TrainedLoss, typer.Option("--loss", help="Rank answers above others, learn scores of pairs, or restore texts.")
]
TeachingReranker = Annotated[
    str | None, typer.Option("--teacher", help="The cross-encoder whose scores --loss teacher learns.")
]
Negatives = Annotated[int, typer.Option(help="How many mined negatives per pair.", min=0)]
Matryoshka = Annotated[str | None, typer.Option(help="Smaller dimensions to train too, such as 256,128.")]
Lora = Annotated[bool, typer.Option("--lora", help="Train low-rank changes of the weights, which takes less memory.")]
Batch = Annotated[int | None, typer.Option(help="Pairs per step. Default: 32 on a CPU, else 128.", min=2)]
Margin = Annotated[
    float, typer.Option(help="With --loss triplet: by how much an answer should be more similar than a negative.")
]
LearningRate = Annotated[
    float | None, typer.Option(help="The highest learning rate. Default: 5e-5, or 5e-4 with --lora.")
]
RandomPassages = Annotated[
    int | None, typer.Option("--random", help="Random passages to measure with. Default: 500 on a CPU, else 2000.")
]
WithoutQuotes = Annotated[
    bool, typer.Option("--without-quotes", help="Cut queries out of the passages that quote them word for word.")
]


def encoder(
    name: training_options.Name,
    pairs: PairsFiles,
    out: Out,
    loss: Learned = TrainedLoss.ranking,
    teacher: TeachingReranker = None,
    negatives: Negatives = 1,
    margin: Margin = 0.2,
    matryoshka: Matryoshka = None,
    lora: Lora = False,
    epochs: training_options.Epochs = 3,
    batch: Batch = None,
    learning_rate: LearningRate = None,
    random: RandomPassages = None,
    where: row_conditions.Where = None,
    without_quotes: WithoutQuotes = False,
    held_out: training_options.HeldOut = 0.2,
    seconds: training_options.Seconds = None,
    seed: training_options.Seed = 0,
    keep: training_options.Keep = False,
    from_trained: training_options.FromTrained = False,
    resume: training_options.Resume = False,
    checkpoint_minutes: training_options.CheckpointMinutes = 10.0,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Train the live copy's encoder for queries and documents. The worker then encodes all rows again.

    held out: queries that share no row with those it was trained on. Writes it only if the 95% interval (from, to) of
    these is above 0, or with --keep. Queries that a split has held out are left out; others are recorded as trained on.
    """
    chosen = EncoderTraining(
        loss=loss.value, negatives=negatives, margin=margin, lora=lora, epochs=epochs, batch=batch, random=random,
        matryoshka=options.whole_numbers("--matryoshka", matryoshka), learning_rate=learning_rate, held_out=held_out,
        without_quotes=without_quotes, seconds=seconds, seed=seed, keep=keep, from_trained=from_trained, resume=resume,
        checkpoint_seconds=60 * checkpoint_minutes,
    )  # fmt: skip
    extras = _Extras(where, teacher)
    report, left_out = _train(name, _read(pairs), out, chosen=chosen, extras=extras, dsn=dsn, shown=not json)
    training_report.show(name, report, left_out=left_out, json=json)


@dataclasses.dataclass(frozen=True, slots=True)
class _Extras:
    """What is looked up once the index is known: conditions on its rows, and the teacher."""

    where: Sequence[str] | None
    teacher: str | None


def _train(
    name: str,
    given: Given,
    out: Path,
    *,
    chosen: EncoderTraining,
    extras: _Extras,
    dsn: str | None,
    shown: bool,
) -> tuple[TrainingReport, LeftOut]:
    """Trains on the pairs that aren't held out. Returns the report, and what was left out."""
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        index = named_index.find(session, name)
        chosen = dataclasses.replace(chosen, where=row_conditions.conditions(session, index, extras.where))
        asked = [one for one in given if not isinstance(one, RowPair)]
        with own_transaction.reading(session):
            used, left_out = _without_held_out(session, index, asked)
            rows = _rows_without_held_out(session, index, given, asked=asked, used=used)
        queries = {one.query for one in used}  # recorded only if they can be trained on
        with training_report.explaining(left_out.queries):
            encoder_training.check([*used, *rows], out=out, options=chosen, has_teacher=extras.teacher is not None)
        loaded = None if extras.teacher is None else rerankers.load(extras.teacher)
        live_generation.require_trainable(session, index, queries, where=chosen.where, from_trained=chosen.from_trained)
        evaluation.record_training(session, index, queries)  # first, so that none is held out
        session.commit()
        with progress.training(shown=shown) as advance:
            report = training.train_encoder(
                session, index, [*used, *rows], out=out, options=chosen, teacher=loaded, on_step=advance
            )
    return report, left_out


def _rows_without_held_out(
    session: orm.Session, index: BoundIndex[Any], given: Given, *, asked: AskedPairs, used: AskedPairs
) -> list[RowPair]:
    """Returns the pairs of rows without those of rows that answer a held-out query, as far as these were given."""
    held_out = evaluation.held_out_hashes(session, index)
    pairs = [one for one in given if isinstance(one, RowPair)]
    left = {_row(one) for one in asked if evaluation.query_hash(one.query) in held_out and _is_answer(one)}
    if not pairs or len(used) == len(asked):
        return pairs
    named = left.union(*((one.row, one.key) for one in pairs))
    canonical = existing_rows.canonical(session, index, named)
    rows = {canonical.get(key, key) for key in left}
    return [one for one in pairs if rows.isdisjoint(canonical.get(key, key) for key in (one.row, one.key))]


def _without_held_out(
    session: orm.Session, index: BoundIndex[Any], given: AskedPairs
) -> tuple[list[MinedPair | Pair], LeftOut]:
    """Returns the pairs that may be trained on, and what was left out.

    Pairs about a row that is relevant to a held-out query are left out too. Pairs whose row doesn't exist stay, to be
    counted later.
    """
    canonical = existing_rows.canonical(session, index, {_row(one) for one in given})
    grades: dict[str, dict[str, int]] = {}
    for one in given:
        if _row(one) in canonical:
            graded = grades.setdefault(one.query, {})
            graded[canonical[_row(one)]] = max(graded.get(canonical[_row(one)], 0), int(_is_answer(one)))
    left = evaluation.without_held_out(session, index, Judgements(grades))
    kept = left.judgements.grades
    held_out = evaluation.held_out_hashes(session, index)
    others = [one for one in given if evaluation.query_hash(one.query) not in held_out]
    used = [one for one in others if _row(one) not in canonical or canonical[_row(one)] in kept.get(one.query, ())]
    queries = {one.query for one in given} - {one.query for one in others}
    return used, LeftOut(len(queries), len(others) - len(used))


def _row(one: MinedPair | Pair) -> str:
    return one.key if isinstance(one, Pair) else one.positive.key


def _is_answer(one: MinedPair | Pair) -> bool:
    return not isinstance(one, Pair) or one.score != 0


def _read(paths: Sequence[Path]) -> Given:
    return [one for path in paths for one in _read_one(path)]


def _read_one(path: Path) -> Given:
    first = _first_line(path)
    if "positive" in first:
        return training.read_mined(path)
    return training.read_row_pairs(path) if "row" in first else options.read_pairs(path)


def _first_line(path: Path) -> Mapping[str, Any]:
    """Returns the first line of a file of JSON Lines. Whatever is wrong with it is reported by the reader."""
    try:
        with input_lines.opened(path) as file:
            found = json_lines.loads(next((line for _, line in input_lines.numbered(file)), "{}"))
    except (errors.ConfigurationError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
