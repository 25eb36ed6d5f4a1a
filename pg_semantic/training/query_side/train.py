"""Trains how an encoder encodes queries, while documents stay as they are: `train_query_side`.

Training compares queries with the stored vectors, so no row is encoded: not for training, and not for the roll-out.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import settings
from pg_semantic.database import own_transaction
from pg_semantic.evaluation import existing_rows
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import validation
from pg_semantic.search.generation_tracker import Target
from pg_semantic.training import base_encoder, folder, live_generation, random_generators, record, report
from pg_semantic.training.base_encoder import BaseEncoder
from pg_semantic.training.pace import OnStep
from pg_semantic.training.pairs import Pair
from pg_semantic.training.query_side import fit_encoder, fit_map, folds, stored_vectors, training_queries
from pg_semantic.training.query_side.fit import Fit, TrainingSet
from pg_semantic.training.query_side.query_training import QueryTraining
from pg_semantic.training.query_side.training_queries import TrainingQueries
from pg_semantic.training.report import TrainingReport
from pg_semantic.training.time_limit import TimeLimit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def train_query_side(
    session: orm.Session,
    index: BoundIndex[Any],
    pairs: Sequence[Pair],
    *,
    out: Path,
    options: QueryTraining = QueryTraining(),  # noqa: B008 - frozen
    on_step: OnStep = lambda *_: None,
) -> TrainingReport:
    """Trains how the live generation's encoder encodes queries, and writes the new encoder to a folder.

    Documents are encoded as before, to the last bit, so a generation with the new encoder copies all vectors. Nothing
    is written unless it is better on held-out queries, which share no row with those that it was trained on.

    Args:
        session: Reads stored vectors; row-level security applies. A transaction that this begins ends after reading.
        index: The semantic index, such as ``Article.semantic``.
        pairs: Queries, each with a row that answers it. Pairs whose row has no vectors are left out, and so are those
            with a score of 0. Record the queries with `evaluation.record_training`, so that no split holds them out.
        out: A folder that doesn't exist or is empty.
        options: What to train, and for how long.
        on_step: Called after each step, with how many steps are done and how many are planned at most.

    Raises:
        errors.ConfigurationError: The folder isn't empty, its disk is full, or the time is too short for one epoch.
        errors.EncoderError: The encoder has no weights here, is quantized, or was trained before; or training diverged.
        errors.EncoderMismatch: The stored vectors come from other weights.
        errors.QueryError: A query isn't valid or is held out, or there are too few with rows.
    """
    limit, out, pairs = TimeLimit(options.seconds), out.resolve(), [pair for pair in pairs if pair.score != 0]
    check(pairs, out=out)
    base, data = _read(session, index, pairs, options=options, limit=limit)
    folder.require_space(out, base.whole, copies=2 if options.kind == "encoder" else 1)
    fitted = _fit(data, base, options, limit=limit, on_step=on_step)
    found = _report(index.name, data.queries, fitted, options=options)
    if found.recommended or options.keep:
        written = record.of(found, base.encoder, pairs, side="queries", settings=options.used, seed=options.seed)
        folder.write(out, _made(base, fitted), base=base.whole, record=written)
        found = dataclasses.replace(found, folder=out)
    return dataclasses.replace(found, seconds=round(limit.elapsed, 1))


def check(pairs: Sequence[Pair], *, out: Path, gone: int = 0) -> None:
    """Checks what can be checked before anything is loaded, and before the queries are recorded as trained on.

    Args:
        pairs: See `train_query_side`.
        out: See `train_query_side`.
        gone: How many judgements were left out already because their row doesn't exist, for the message.

    Raises:
        errors.ConfigurationError: The folder isn't empty.
        errors.QueryError: A query isn't valid, or there are too few.
    """
    folder.require_free(out)
    folds.require_enough_given(len(_texts(pairs)), gone=gone)


def _read(
    session: orm.Session, index: BoundIndex[Any], pairs: Sequence[Pair], *, options: QueryTraining, limit: TimeLimit
) -> tuple[BaseEncoder, TrainingSet]:
    """Loads the encoder, and reads the vectors that it is trained with."""
    texts = _texts(pairs)
    live = live_generation.read(session, index, texts, where=options.where)
    before = limit.elapsed
    base = base_encoder.load(live, settings.load(), from_trained=options.from_trained)
    limit.reserved = 2 * (limit.elapsed - before)  # the new encoder is written, and loaded to check it
    vectors = base.encode_queries(texts, limit=limit)
    limit.require_not_over("loading the encoder")
    with own_transaction.reading(session):
        bound = Target(live, live.tables, None).bound(index)
        canonical = existing_rows.canonical(session, index, {pair.key for pair in pairs})
        pairs = [dataclasses.replace(pair, key=canonical.get(pair.key, pair.key)) for pair in pairs]
        relevant = {pair.key for pair in pairs}
        stored = stored_vectors.read(
            session, bound, relevant=relevant, queries=vectors, seed=options.seed, where=options.where
        )
    limit.require_not_over("reading")
    by_text = dict(zip(texts, vectors, strict=True))
    return base, _training_set(training_queries.of(pairs, stored), by_text, options)


def _texts(pairs: Sequence[Pair]) -> list[str]:
    """Returns the queries, each once, in the order of the pairs."""
    return list(dict.fromkeys(validation.check_query_text(pair.query) for pair in pairs))


def _training_set(
    queries: TrainingQueries, vectors: Mapping[str, NDArray[np.float32]], options: QueryTraining
) -> TrainingSet:
    folds.require_enough(
        len(queries.queries), f"{queries.gone} pairs were left out, because {report.WHY_GONE}, which leaves"
    )
    component = folds.component_numbers(queries)
    fold = folds.hold_out(component, count=options.parts, seed=options.seed)
    used = np.stack([vectors[text] for text in queries.queries])
    return TrainingSet(queries, used, fold, component, options.seed)


def _fit(data: TrainingSet, base: BaseEncoder, options: QueryTraining, *, limit: TimeLimit, on_step: OnStep) -> Fit:
    device, recipe = base.whole.device, options.recipe
    with random_generators.seeded(options.seed, device):
        if options.kind == "map":
            return fit_map.fit_map(data, recipe, device=device, limit=limit, on_step=on_step)
        return fit_encoder.fit_encoder(data, recipe, whole=base.whole, limit=limit, on_step=on_step)


def _report(index: str, queries: TrainingQueries, fitted: Fit, *, options: QueryTraining) -> TrainingReport:
    """Returns the report of a training whose encoder wasn't written."""
    held_out = report.gain(*fitted.held_out, seed=options.seed, components=fitted.components)
    return TrainingReport(
        index=index,
        kind=options.kind,
        recommended=held_out.low > 0,
        folder=None,
        queries=len(queries.queries),
        pairs=queries.pairs,
        rows=queries.rows,
        gone=queries.gone,
        vectors=len(queries.stored.vectors),
        is_sample=queries.stored.is_sample,
        epochs=fitted.epochs,
        decay=fitted.decay,
        held_out=held_out,
        trained_on=report.gain(*fitted.trained_on, seed=options.seed),
        seconds=0.0,
    )


def _made(base: BaseEncoder, fitted: Fit) -> "SentenceTransformer":
    if isinstance(fitted.trained, np.ndarray):
        return folder.with_map(base.whole, fitted.trained)
    return folder.with_query_encoder(base.whole, fitted.trained)
