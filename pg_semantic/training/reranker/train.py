"""Trains a reranker on mined pairs: `train_reranker`."""

import dataclasses
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import errors, settings
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import existing_rows
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.registry import Generation
from pg_semantic.search import generation_tracker, validation
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.legs import Where
from pg_semantic.training import extra, folder, live_generation, passages, precision, record, report, tenants
from pg_semantic.training.checkpoints import Checkpoints
from pg_semantic.training.mining.mined import MinedPair
from pg_semantic.training.pace import OnStep
from pg_semantic.training.pairs import Pair
from pg_semantic.training.query_side import folds
from pg_semantic.training.report import TrainingReport
from pg_semantic.training.reranker import candidates, fit, reranker_folder, starting_point, training_lists
from pg_semantic.training.reranker.fit import RerankerFit, RerankerSet
from pg_semantic.training.reranker.reranker_training import RerankerTraining
from pg_semantic.training.reranker.starting_point import StartingPoint
from pg_semantic.training.time_limit import TimeLimit


def train_reranker(
    session: orm.Session,
    index: BoundIndex[Any],
    mined: Sequence[MinedPair],
    *,
    out: Path,
    options: RerankerTraining = RerankerTraining(),  # noqa: B008 - frozen
    on_step: OnStep = lambda *_: None,
) -> TrainingReport:
    """Trains a cross-encoder that reorders what a search finds, and writes it to a folder.

    Held-out queries, which share no relevant row with the others, are searched as in an application. Nothing is written
    unless the reranker improves the order of their hits.

    Args:
        session: Reads and searches; row-level security applies. A transaction that this begins ends after that.
        index: The semantic index, such as ``Article.semantic``.
        mined: What `mine` returned or `read_mined` read. Pairs whose row doesn't exist are left out. Record the queries
            with `evaluation.record_training`, so that no split holds them out.
        out: A folder that doesn't exist or is empty.
        options: What to start from, which searches to improve, and for how long to train.
        on_step: Called after each step, with how many steps are done and how many are planned at most.

    Raises:
        errors.ConfigurationError: The folder isn't empty or its disk is full, time is too short, or training diverged.
        errors.EncoderError: The weights cannot be loaded or trained, or the stored vectors come from others.
        errors.MissingExtra: The extra ``train`` isn't installed.
        errors.QueryError: A query isn't valid or is held out, or there are too few with rows and negatives.
    """
    limit, out, mined = TimeLimit(options.seconds), out.resolve(), _merged(mined)
    checkpoints = check(mined, out=out, options=options)
    start, data, counts = _prepared(session, index, mined, out=out, options=options, limit=limit)
    checkpoints.begin(_training(start, data, mined, options=options))
    halved = precision.is_halved(start.device)
    fitted = fit.fit(data, start, options, halved=halved, limit=limit, checkpoints=checkpoints, on_step=on_step)
    found = _report(index.name, fitted, counts, components=data.components, options=options)
    if found.recommended or options.keep:
        found = _written(found, fitted, out, mined=mined, start=start, options=options)
    checkpoints.remove()
    return dataclasses.replace(found, seconds=round(limit.elapsed, 1))


def _merged(mined: Sequence[MinedPair]) -> list[MinedPair]:
    """Returns the pairs, in which queries that differ only in case, width or white space are the first of them."""
    first: dict[bytes, str] = {}
    return [dataclasses.replace(one, query=first.setdefault(query_hash(one.query), one.query)) for one in mined]


def check(mined: Sequence[MinedPair], *, out: Path, options: RerankerTraining, gone: int = 0) -> Checkpoints:
    """Checks what can be checked before anything is loaded, and before the queries are recorded as trained on.

    Args:
        mined: See `train_reranker`.
        out: See `train_reranker`.
        options: See `train_reranker`.
        gone: How many pairs were left out already because their row doesn't exist, for the message.

    Returns:
        The checkpoints of this training.

    Raises:
        errors.ConfigurationError: The folder isn't empty, or a training to it was stopped.
        errors.MissingExtra: The extra ``train`` isn't installed.
        errors.QueryError: A query isn't valid, or there are too few.
    """
    extra.require("ir_measures")
    folder.require_free(out)
    folds.require_enough_given(len({validation.check_query_text(pair.query) for pair in mined}), gone=gone)
    return Checkpoints(out.resolve(), seconds=options.checkpoint_seconds, resume=options.resume)


def _prepared(
    session: orm.Session,
    index: BoundIndex[Any],
    mined: Sequence[MinedPair],
    *,
    out: Path,
    options: RerankerTraining,
    limit: TimeLimit,
) -> "tuple[StartingPoint, RerankerSet, _ReadCounts]":
    """Loads what training starts from, outside of any transaction, and reads what it is trained on."""
    live = _live(session, index, mined, options=options)
    before = limit.elapsed
    start = starting_point.load(live, settings.load(), options)
    limit.reserved = limit.elapsed - before  # the reranker is written, and loaded to check it
    limit.require_not_over("loading the weights")
    folder.require_space(out, start.cross_encoder)
    return start, *_read(session, index, mined, live=live, start=start, options=options, limit=limit)


def _written(
    found: TrainingReport,
    fitted: RerankerFit,
    out: Path,
    *,
    mined: Sequence[MinedPair],
    start: StartingPoint,
    options: RerankerTraining,
) -> TrainingReport:
    """Writes the reranker, and returns the report with its folder."""
    used = options.recorded | {"bfloat16": precision.is_halved(start.device)}
    written = record.about(found, _pairs(mined), base=start.source, settings=used, seed=options.seed)
    reranker_folder.write(out, fitted.trained, record=written, settings=settings.load())
    return dataclasses.replace(found, folder=out)


def _training(
    start: StartingPoint, data: RerankerSet, mined: Sequence[MinedPair], *, options: RerankerTraining
) -> dict[str, Any]:
    """Returns what must be the same to resume a training. Texts of rows may have changed, and what searches find."""
    used = [(one.query, str(one.labels)) for one in data.lists]
    measured = [(f"held out: {one.query}", "") for one in data.held_out]
    return {
        "options": options.recorded | {"seed": options.seed},
        "pairs": record.pairs_hash(_pairs(mined)),
        "rows": record.hash_of([*used, *measured]),
        "weights to start from": start.source,
        "device and precision": [start.device, precision.is_halved(start.device)],
        "versions of packages": record.versions(),
    }


def _pairs(mined: Sequence[MinedPair]) -> list[Pair]:
    return [Pair(pair.query, pair.positive.key) for pair in mined]


def _live(
    session: orm.Session, index: BoundIndex[Any], mined: Sequence[MinedPair], *, options: RerankerTraining
) -> Generation:
    """Returns the live generation, once nothing keeps these queries from being trained on."""
    return live_generation.read(session, index, {pair.query for pair in mined}, where=options.where)


@dataclasses.dataclass(frozen=True, slots=True)
class _ReadCounts:
    """What the report counts."""

    queries: int
    pairs: int
    rows: int
    gone: int
    passages: int


def _read(  # noqa: PLR0913 - what is read from what, and within which time
    session: orm.Session,
    index: BoundIndex[Any],
    mined: Sequence[MinedPair],
    *,
    live: Generation,
    start: StartingPoint,
    options: RerankerTraining,
    limit: TimeLimit,
) -> tuple[RerankerSet, _ReadCounts]:
    """Reads what to train on, and searches the held-out queries."""
    bound = Target(live, live.tables, None).bound(index)
    with own_transaction.reading(session):
        relevant, gone = _relevant(session, index, mined, where=options.where)
        folds.require_enough(len(relevant), f"{gone} pairs name rows that don't exist, which leaves")
        component = folds.numbers_of(connecting(session, bound, mined, relevant=relevant, where=options.where))
        is_held_out = folds.share_of(component, options.held_out, seed=options.seed)
        held_out = {query: rows for (query, rows), held in zip(relevant.items(), is_held_out, strict=True) if held}
        others = {query: rows for query, rows in relevant.items() if query not in held_out}
        answers = frozenset().union(*held_out.values())
        lists = training_lists.read(
            session, bound, mined, relevant=others, where=options.where, seed=options.seed, without=answers
        )
        limit.require_not_over("reading")
        if not lists:
            raise errors.QueryError(
                "No query has both a passage that answers it and one that doesn't: mine the negatives again."
            )
        found = candidates.search(session, index, held_out, encoder=start.encoder, options=options, limit=limit)
    counts = _ReadCounts(
        queries=len(lists) + len(held_out),
        pairs=sum(map(len, relevant.values())),
        rows=len(frozenset().union(*relevant.values())),
        gone=gone,
        passages=len({text for one in lists for text in one.passages}),
    )
    return RerankerSet(lists, found, component[is_held_out]), counts


def connecting(
    session: orm.Session,
    index: BoundIndex[Any],
    mined: Sequence[MinedPair],
    *,
    relevant: Mapping[str, Set[str]],
    where: Where,
) -> dict[str, list[str]]:
    """Returns what connects queries: the rows that are relevant to each one, and the texts that answer it."""
    answers = [(pair.query, (pair.positive.key, pair.positive.ordinal)) for pair in mined if pair.query in relevant]
    texts = passages.read(session, index, {passage for _, passage in answers}, where=where)
    names = passages.names_of(texts)
    found = {query: [f"row {key}" for key in keys] for query, keys in relevant.items()}
    for query, passage in answers:
        if passage in texts:
            found[query] += names(passage)
    return found


def _relevant(
    session: orm.Session, index: BoundIndex[Any], mined: Sequence[MinedPair], *, where: Where
) -> tuple[Mapping[str, Set[str]], int]:
    """Returns the keys of the rows that answer each query, exist and may be used, and how many pairs have none."""
    pairs = {(pair.query, pair.positive.key) for pair in mined}
    canonical = existing_rows.canonical(session, index, {key for _, key in pairs})
    used = tenants.matching(generation_tracker.connect(session, index), index, canonical.values(), where=where)
    found: dict[str, set[str]] = {}
    for query, key in dict.fromkeys((pair.query, pair.positive.key) for pair in mined):
        if canonical.get(key) in used:
            found.setdefault(query, set()).add(canonical[key])
    return found, len(pairs) - sum(map(len, found.values()))


def _report(
    index: str,
    fitted: RerankerFit,
    counts: _ReadCounts,
    *,
    components: NDArray[np.int64],
    options: RerankerTraining,
) -> TrainingReport:
    """Returns the report of a training whose reranker wasn't written."""
    held_out = report.gain(*fitted.held_out, seed=options.seed, components=components)
    return TrainingReport(
        index=index,
        kind="reranker",
        recommended=bool(held_out.low > 0),
        folder=None,
        queries=counts.queries,
        pairs=counts.pairs,
        rows=counts.rows,
        gone=counts.gone,
        vectors=counts.passages,
        is_sample=False,
        epochs=fitted.epochs,
        decay=None,
        held_out=held_out,
        trained_on=None,
        seconds=0.0,
    )
