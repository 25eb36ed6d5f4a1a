"""Trains an encoder for queries and documents alike: `train_encoder`."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import orm

from pg_semantic import errors, settings
from pg_semantic.database import own_transaction
from pg_semantic.encoders.local import backends
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import validation
from pg_semantic.search.generation_tracker import Target
from pg_semantic.training import base_encoder, extra, folder, live_generation, passages, precision, record, report
from pg_semantic.training.base_encoder import BaseEncoder
from pg_semantic.training.checkpoints import Checkpoints
from pg_semantic.training.encoder import denoising, fit
from pg_semantic.training.encoder import examples as reading_examples
from pg_semantic.training.encoder import teacher as teachers
from pg_semantic.training.encoder.encoder_training import EncoderTraining
from pg_semantic.training.encoder.examples import Example, Given, TrainingExamples
from pg_semantic.training.encoder.fit import WholeFit, WholeSet
from pg_semantic.training.encoder.held_out_measures import RankedAnswers, ScoredPairs
from pg_semantic.training.encoder.teacher import Teacher
from pg_semantic.training.pace import OnStep
from pg_semantic.training.pairs import Pair
from pg_semantic.training.query_side import folds
from pg_semantic.training.report import TrainingReport
from pg_semantic.training.row_pairs import RowPair
from pg_semantic.training.time_limit import TimeLimit


def train_encoder(  # noqa: PLR0913 - the callback and the teacher are no options
    session: orm.Session,
    index: BoundIndex[Any],
    mined: Given,
    *,
    out: Path,
    options: EncoderTraining = EncoderTraining(),  # noqa: B008 - frozen
    teacher: Teacher | None = None,
    on_step: OnStep = lambda *_: None,
) -> TrainingReport:
    """Trains the live generation's encoder for queries and documents, and writes the new encoder to a folder.

    It is only written if it is better on held-out queries, which rank their answers among random passages. So measure a
    generation with it too before you switch to that.

    Args:
        session: Reads texts; row-level security applies. A transaction that this begins ends after reading.
        mined: Pairs, with negatives or without. Those whose row has no vectors are left out, and those with score 0
            unless scores are learned. Record the queries with `evaluation.record_training`.
        out: A folder that doesn't exist or is empty.
        teacher: Whose scores to learn with the loss ``teacher``: a reranker, or another encoder.
        on_step: Called after each step, with how many steps are done and how many are planned at most.

    Raises:
        errors.ConfigurationError: The folder isn't empty or its disk is full, time is too short, or options don't fit.
        errors.EncoderError: The encoder cannot be trained, or has other weights than the stored vectors come from.
        errors.MissingExtra: The extra ``train`` isn't installed.
        errors.QueryError: A query isn't valid or is held out, there are too few with rows, or pairs have no scores.
    """
    limit, out = TimeLimit(options.seconds), out.resolve()
    given, checkpoints = check(mined, out=out, options=options, has_teacher=teacher is not None)
    base, found, data = _prepared(session, index, given, options=options, teacher=teacher, limit=limit)
    folder.require_space(out, base.whole)
    checkpoints.begin(_training(base, data, given, options=options, teacher=teacher))
    fitted = _fit(data, base, options, limit=limit, checkpoints=checkpoints, on_step=on_step)
    made = _report(index.name, found, fitted, data=data, options=options)
    if is_written := made.recommended or options.keep:
        folder.write(out, fitted.trained, record=_record(made, base, given, options=options, teacher=teacher))
    checkpoints.remove()
    return dataclasses.replace(made, folder=out if is_written else None, seconds=round(limit.elapsed, 1))


def check(mined: Given, *, out: Path, options: EncoderTraining, has_teacher: bool) -> tuple[Given, Checkpoints]:
    """Checks what can be checked before anything is loaded, and before the queries are recorded as trained on.

    Returns:
        The pairs that can be used, and the checkpoints of this training.

    Raises:
        errors.ConfigurationError: The folder isn't empty, a training to it was stopped, or options don't fit.
        errors.MissingExtra: The extra ``train`` isn't installed.
        errors.QueryError: A query isn't valid, there are too few, or pairs have no scores.
    """
    extra.require(*(["peft"] if options.lora else []))
    folder.require_free(out)
    checkpoints = Checkpoints(out.resolve(), seconds=options.checkpoint_seconds, resume=options.resume)
    if has_teacher != (options.loss == "teacher"):
        raise errors.ConfigurationError(
            f"loss={options.loss!r}: a teacher and the loss 'teacher' belong together. Pass both or neither."
        )
    given = _given(mined, options)
    folds.require_enough(len(_asked(given)), "There are")
    return given, checkpoints


def _prepared(
    session: orm.Session,
    index: BoundIndex[Any],
    given: Given,
    *,
    options: EncoderTraining,
    teacher: Teacher | None,
    limit: TimeLimit,
) -> tuple[BaseEncoder, TrainingExamples, WholeSet]:
    """Returns the encoder, what was read, and what to train and measure with."""
    base, found = _read(session, index, given, options=options, limit=limit)
    limit.require_not_over("reading")
    data = divided(found, options)
    return base, found, dataclasses.replace(data, scores=_scores(data, teacher, options, limit=limit))


def _given(mined: Given, options: EncoderTraining) -> Given:
    """Returns the pairs to train on. Queries that differ only in case, width or white space are the first of them."""
    first: dict[bytes, str] = {}
    mined = [
        one
        if isinstance(one, RowPair)
        else dataclasses.replace(one, query=first.setdefault(query_hash(one.query), one.query))
        for one in mined
    ]
    if any(isinstance(one, RowPair) for one in mined) and not options.takes_rows:
        raise errors.QueryError(
            f"loss={options.loss!r} cannot learn from pairs of rows, which have no scores: use the loss ranking, gist "
            "or tsdae, or leave them out."
        )
    if not options.is_scored:
        return [one for one in mined if not isinstance(one, Pair) or one.score != 0]
    if any(not isinstance(one, Pair) or one.score is None for one in mined):
        raise errors.QueryError(
            f"loss={options.loss!r} learns scores, but there are pairs without one: give each pair a score from 0 to "
            "1, or use the loss ranking."
        )
    return mined


def _asked(given: Given) -> list[str]:
    """Returns the queries that people ask, each once. Raises `errors.QueryError` if one isn't valid."""
    asked = (one.query for one in given if not isinstance(one, RowPair))
    return list(dict.fromkeys(validation.check_query_text(query) for query in asked))


def _read(
    session: orm.Session, index: BoundIndex[Any], given: Given, *, options: EncoderTraining, limit: TimeLimit
) -> tuple[BaseEncoder, TrainingExamples]:
    """Loads the encoder, and reads the texts that it is trained with."""
    live = live_generation.read(session, index, _asked(given), where=options.where)
    before = limit.elapsed
    base = base_encoder.load(live, settings.load(), from_trained=options.from_trained)
    require_fitting(base, options)
    if options.loss == "tsdae":
        denoising.require_decoder(base.whole)
    limit.reserved = 2 * (limit.elapsed - before)  # the new encoder is written, and loaded to check it
    plain = list(dict.fromkeys(one.query for one in given if isinstance(one, Pair)))
    vectors = dict(zip(plain, base.encode_queries(plain, limit=limit), strict=True))
    with own_transaction.reading(session):
        found = reading_examples.read(
            session,
            Target(live, live.tables, None).bound(index),
            given,
            vectors=vectors,
            random_passages=options.random_on(base.whole.device.type),
            seed=options.seed,
            where=options.where,
            on_query=lambda: limit.require_not_over("reading"),
        )
    return base, found.without_quotes() if options.without_quotes else found


def divided(found: TrainingExamples, options: EncoderTraining) -> WholeSet:
    """Divides the examples into those to train on and those to measure with, which share no row, and no answer's text.

    Raises:
        errors.QueryError: There are too few queries, or too few can be held out.
    """
    relevant = _relevant(found.asked)
    folds.require_enough(len(relevant), f"{found.gone} pairs were left out, because {report.WHY_GONE}, which leaves")
    components = folds.numbers_of(_connecting(found))
    is_held_out = folds.share_of(components, options.held_out, seed=options.seed)
    held_out = {query: rows for (query, rows), held in zip(relevant.items(), is_held_out, strict=True) if held}
    component = dict(zip(relevant, components, strict=True))
    measured = _measure([one for one in found.asked if one.query in held_out], found, options)
    others, rows = _others(found, held_out)
    known = _some([one for one in others if one.row is None], count=len(held_out), seed=options.seed)
    most = options.negatives
    if not options.needs_negatives:
        most = min(most, max(len(one.negatives) for one in others))
    return WholeSet(
        examples=_padded(found, others, options, count=most, without=rows),
        texts=found.texts,
        held_out=measured,
        trained_on=_measure([dataclasses.replace(one, negatives=()) for one in known], found, options),
        groups=np.array([component[query] for query in measured.queries], np.int64),
        restored=_restored(others, found, options) if options.loss == "tsdae" else None,
    )


def _padded(
    found: TrainingExamples,
    others: Sequence[Example],
    options: EncoderTraining,
    *,
    count: int,
    without: Collection[str],
) -> list[Example]:
    """Returns the examples to train on, all with the same number of negatives.

    Raises:
        errors.QueryError: The loss needs negatives, and there are none.
    """
    padded = found.padded(others, count=count, seed=options.seed, without=without)
    if options.needs_negatives and not padded[0].negatives:
        raise errors.QueryError(
            f"loss={options.loss!r} compares answers with other passages, and no other row has another text: use the "
            "loss ranking, or fill the table first."
        )
    return padded


def _restored(others: Sequence[Example], found: TrainingExamples, options: EncoderTraining) -> list[tuple[str, str]]:
    """Returns the damaged texts of the rows to train on, with these texts."""
    rows = (one.query for one in others if one.row is not None)
    texts = list(dict.fromkeys([*(found.texts[one.positive] for one in others), *rows]))
    return list(zip(denoising.damaged(texts, seed=options.seed), texts, strict=True))


def _others(found: TrainingExamples, held_out: Mapping[str, Collection[str]]) -> tuple[list[Example], Collection[str]]:
    """Returns the examples to train on, and the keys of held-out rows.

    Of examples whose query is the text of a row, those are left out that have a row or a text of the held-out part.
    """
    rows = {row for keys in held_out.values() for row in keys}
    texts = {found.texts[one.positive] for one in found.asked if one.query in held_out}
    kept = [
        one
        for one in found.all
        if (one.row is None and one.query not in held_out)
        or (one.row is not None and rows.isdisjoint((one.row, one.positive[0])))
    ]
    return [one for one in kept if one.row is None or texts.isdisjoint((one.query, found.texts[one.positive]))], rows


def _relevant(asked: Sequence[Example]) -> dict[str, list[str]]:
    """Returns the keys of the rows that are relevant to each query that people ask."""
    found: dict[str, list[str]] = {}
    for one in asked:
        found.setdefault(one.query, []).append(one.positive[0])
    return found


def _connecting(found: TrainingExamples) -> dict[str, list[str]]:
    """Returns what connects queries: the rows that are relevant to each one, and the texts that answer it."""
    names = passages.names_of(found.texts)
    connecting: dict[str, list[str]] = {}
    for one in found.asked:
        connecting.setdefault(one.query, []).extend(names(one.positive))
    return connecting


def _measure(some: Sequence[Example], found: TrainingExamples, options: EncoderTraining) -> RankedAnswers | ScoredPairs:
    if options.is_scored:
        return ScoredPairs(some, found.texts)
    return RankedAnswers(some, found.texts, random=found.random)


def _scores(
    data: WholeSet, teacher: Teacher | None, options: EncoderTraining, *, limit: TimeLimit
) -> Sequence[float | Sequence[float] | None] | None:
    """Returns what the loss learns in addition to the texts, if anything."""
    if teacher is not None:
        return teachers.scores(teacher, data.examples, data.texts, limit=limit)
    return [one.score for one in data.examples] if options.is_scored else None


def _some(examples: Sequence[Example], *, count: int, seed: int) -> list[Example]:
    """Returns the examples of up to ``count`` random queries."""
    queries = list(dict.fromkeys(one.query for one in examples))
    order = np.random.default_rng(seed).permutation(len(queries))[:count]
    chosen = {queries[place] for place in order}
    return [one for one in examples if one.query in chosen]


def require_fitting(base: BaseEncoder, options: EncoderTraining) -> None:
    """Raises `errors.ConfigurationError` if the encoder cannot be trained with these options."""
    if options.lora and not backends.transformers_of(base.whole):
        raise errors.ConfigurationError(
            f"lora: {base.encoder.reference!r} has no transformer whose weights could change so. Leave lora out."
        )
    width = base.encoder.dimensions
    if too_many := [dimensions for dimensions in options.matryoshka if dimensions > width]:
        raise errors.ConfigurationError(
            f"matryoshka={too_many[0]}: the vectors have only {width} dimensions. Choose fewer."
        )


def _fit(
    data: WholeSet,
    base: BaseEncoder,
    options: EncoderTraining,
    *,
    limit: TimeLimit,
    checkpoints: Checkpoints,
    on_step: OnStep,
) -> WholeFit:
    halved = precision.is_halved(base.whole.device.type)
    return fit.fit(data, base.whole, options, halved=halved, limit=limit, checkpoints=checkpoints, on_step=on_step)


def _training(
    base: BaseEncoder, data: WholeSet, given: Given, *, options: EncoderTraining, teacher: Teacher | None
) -> dict[str, Any]:
    """Returns what must be the same to resume a training. Texts of rows may have changed, and random passages."""
    used = [(one.query, one.positive[0]) for one in data.examples]  # the query can be the text of a row, of any length
    measured = [(f"held out: {query}", "") for query in data.held_out.queries]
    return {
        "options": _options(options, teacher),
        "pairs": record.pairs_hash(_pairs(given)),
        "rows": record.hash_of([*used, *measured]),
        "encoder": base.encoder.fingerprint,
        "device and precision": [base.whole.device.type, precision.is_halved(base.whole.device.type)],
        "versions of packages": record.versions(),
    }


def _report(
    index: str, found: TrainingExamples, fitted: WholeFit, *, data: WholeSet, options: EncoderTraining
) -> TrainingReport:
    """Returns the report of a training whose encoder wasn't written."""
    held_out = report.gain(*fitted.held_out, seed=options.seed, components=data.groups)
    return TrainingReport(
        index=index,
        kind="whole",
        recommended=held_out.low > 0,
        folder=None,
        queries=len(_relevant(found.asked)),
        pairs=len(found.all),
        rows=len({row for rows in found.relevant().values() for row in rows}),
        gone=found.gone,
        vectors=data.held_out.passages,
        is_sample=found.is_sample,
        epochs=fitted.epochs,
        decay=None,
        held_out=held_out,
        trained_on=report.gain(*fitted.trained_on, seed=options.seed),
        seconds=0.0,
        measure="Spearman" if options.is_scored else "nDCG@10",
    )


def _record(
    made: TrainingReport, base: BaseEncoder, given: Given, *, options: EncoderTraining, teacher: Teacher | None
) -> dict[str, Any]:
    """Returns what to record about how an encoder was trained."""
    used = _options(options, teacher)
    return record.of(made, base.encoder, _pairs(given), side="both", settings=used, seed=used.pop("seed"))


def _options(options: EncoderTraining, teacher: Teacher | None) -> dict[str, Any]:
    """Returns the options that decide what is trained, as data for JSON. Conditions are only counted."""
    unused = {"where", "seconds", "keep", "from_trained", "resume", "checkpoint_seconds"}
    names = [field.name for field in dataclasses.fields(options) if field.name not in unused]
    used = {name: getattr(options, name) for name in names} | {"conditions": len(options.where)}
    return used | {"learning_rate": options.highest_rate, "teacher": None if teacher is None else teacher.reference}


def _pairs(given: Given) -> list[Pair]:
    """Returns what to record a hash of. A row whose text is the query is named by its key, in a form no query has."""
    return [
        one
        if isinstance(one, Pair)
        else Pair(f"row {one.row}", one.key)
        if isinstance(one, RowPair)
        else Pair(one.query, one.positive.key)
        for one in given
    ]
