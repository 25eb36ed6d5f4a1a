"""``pg-semantic train encoder``: trains an encoder for queries and documents."""

import json as json_lines
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import orm

from pg_semantic import errors, evaluation, rerankers, training
from pg_semantic.cli import named_index, options, progress, training_report
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import Judgements, existing_rows
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.training import EncoderTraining, MinedPair, Pair, TrainingReport

EXAMPLES = options.examples(
    "pg-semantic train encoder article_semantic --pairs mined.jsonl --out ./encoders/articles-2",
    "pg-semantic train encoder article_semantic --pairs mined.jsonl --out ./encoders/articles-2 --lora --seconds 1800",
    "pg-semantic train encoder article_semantic --pairs judged.csv --out ./encoders/articles-2 --matryoshka 256,128",
)


class TrainedLoss(StrEnum):
    """What an encoder learns; see `EncoderTraining`."""

    ranking = "ranking"
    gist = "gist"
    cosent = "cosent"
    cosine = "cosine"
    teacher = "teacher"


PairsFile = Annotated[
    Path, typer.Option(help="A file that `mine` wrote, one of pairs or judgements, or a BEIR folder (its split train).")
]
Out = Annotated[Path, typer.Option(help="Where to write the new encoder: an empty or new folder.")]
Learned = Annotated[TrainedLoss, typer.Option("--loss", help="Rank answers above others, or learn scores of pairs.")]
TeachingReranker = Annotated[
    str | None, typer.Option("--teacher", help="The cross-encoder whose scores --loss teacher learns.")
]
Negatives = Annotated[int, typer.Option(help="How many mined negatives per pair.", min=0)]
Matryoshka = Annotated[str | None, typer.Option(help="Smaller dimensions to train too, such as 256,128.")]
Lora = Annotated[bool, typer.Option("--lora", help="Train low-rank changes of the weights, which takes less memory.")]
Epochs = Annotated[int, typer.Option(help="How many epochs at most.", min=1)]
Batch = Annotated[int | None, typer.Option(help="Pairs per step. Default: 32 on a CPU, else 128.", min=2)]
LearningRate = Annotated[
    float | None, typer.Option(help="The highest learning rate. Default: 5e-5, or 5e-4 with --lora.")
]
RandomPassages = Annotated[
    int | None, typer.Option("--random", help="Random passages to measure with. Default: 500 on a CPU, else 2000.")
]
WithoutQuotes = Annotated[
    bool, typer.Option("--without-quotes", help="Cut queries out of the passages that quote them word for word.")
]
HeldOut = Annotated[float, typer.Option(help="Share of the queries to hold out.")]
Seconds = Annotated[float | None, typer.Option(help="How long everything may take.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same encoder on the same machine.")]
Keep = Annotated[bool, typer.Option("--keep", help="Write the encoder even without a gain.")]
FromTrained = Annotated[bool, typer.Option("--from-trained", help="Start from an encoder that was already trained.")]


def encoder(
    name: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    pairs: PairsFile,
    out: Out,
    loss: Learned = TrainedLoss.ranking,
    teacher: TeachingReranker = None,
    negatives: Negatives = 1,
    matryoshka: Matryoshka = None,
    lora: Lora = False,
    epochs: Epochs = 3,
    batch: Batch = None,
    learning_rate: LearningRate = None,
    random: RandomPassages = None,
    without_quotes: WithoutQuotes = False,
    held_out: HeldOut = 0.2,
    seconds: Seconds = None,
    seed: Seed = 0,
    keep: Keep = False,
    from_trained: FromTrained = False,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Train the live copy's encoder for queries and documents. The worker then encodes all rows again.

    held out: queries that share no row with those that the encoder was trained on. They rank their answers among random
    passages, so compare the copies with `generation compare` before you switch. trained on: queries that it knows;
    never decide by them. from, to: the 95% interval of the difference.

    Writes the encoder only if that interval is above 0, or with --keep. Queries that were held out by an earlier split
    are left out; the others are recorded as trained on, so that no later split holds them out.
    """
    chosen = EncoderTraining(
        loss=loss.value, negatives=negatives, matryoshka=_dimensions(matryoshka), lora=lora, epochs=epochs, batch=batch,
        learning_rate=learning_rate, random=random, without_quotes=without_quotes, held_out=held_out, seconds=seconds,
        seed=seed, keep=keep, from_trained=from_trained,
    )  # fmt: skip
    report, left_out = _train(name, _read(pairs), out, chosen=chosen, teacher=teacher, dsn=dsn, shown=not json)
    training_report.show(name, report, left_out=left_out, json=json)


def _train(
    name: str,
    given: Sequence[MinedPair | Pair],
    out: Path,
    *,
    chosen: EncoderTraining,
    teacher: str | None,
    dsn: str | None,
    shown: bool,
) -> tuple[TrainingReport, int]:
    """Trains on the pairs that aren't held out. Returns the report, and how many queries were left out."""
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        index = named_index.find(session, name)
        with own_transaction.reading(session):
            used, left_out = _without_held_out(session, index, given)
        evaluation.record_training(session, index, {one.query for one in used})  # first, so that none is held out
        session.commit()
        loaded = None if teacher is None else rerankers.load(teacher)
        with progress.training(shown=shown) as advance:
            report = training.train_encoder(
                session, index, used, out=out, options=chosen, teacher=loaded, on_step=advance
            )
    return report, left_out


def _without_held_out(
    session: orm.Session, index: BoundIndex[Any], given: Sequence[MinedPair | Pair]
) -> tuple[list[MinedPair | Pair], int]:
    """Returns the pairs that may be trained on, and how many queries are held out.

    Pairs about a row that is relevant to a held-out query are left out too. Pairs whose row doesn't exist stay, to be
    counted later.
    """
    canonical = existing_rows.canonical(session, index, {_row(one) for one in given})
    grades: dict[str, dict[str, int]] = {}
    for one in given:
        if _row(one) in canonical:
            grades.setdefault(one.query, {})[canonical[_row(one)]] = 1
    left = evaluation.without_held_out(session, index, Judgements(grades))
    kept = left.judgements.grades
    held_out = evaluation.held_out_hashes(session, index)
    used = [
        one
        for one in given
        if evaluation.query_hash(one.query) not in held_out
        and (_row(one) not in canonical or canonical[_row(one)] in kept.get(one.query, ()))
    ]
    return used, sum(evaluation.query_hash(query) in held_out for query in {one.query for one in given})


def _row(one: MinedPair | Pair) -> str:
    return one.key if isinstance(one, Pair) else one.positive.key


def _read(path: Path) -> Sequence[MinedPair | Pair]:
    return training.read_mined(path) if _is_mined(path) else options.read_pairs(path)


def _is_mined(path: Path) -> bool:
    """Returns whether the first line is one of a mined file. Whatever is wrong with it is reported by the reader."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return "positive" in json_lines.loads(next((line for line in file if line.strip()), "{}"))
    except (OSError, ValueError, TypeError):
        return False


def _dimensions(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise errors.ConfigurationError(f"--matryoshka {text}: write numbers such as 256,128.") from None
