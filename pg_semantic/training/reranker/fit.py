"""Trains a cross-encoder epoch by epoch, and measures it on held-out queries: `fit`."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.training import out_of_memory, random_generators
from pg_semantic.training.checkpoints import Checkpoints
from pg_semantic.training.epoch_measures import EpochMeasures
from pg_semantic.training.pace import OnStep, Pace
from pg_semantic.training.query_side import choice, folds
from pg_semantic.training.report import Measured
from pg_semantic.training.reranker import candidates
from pg_semantic.training.reranker.candidates import HeldOutHits
from pg_semantic.training.reranker.reranker_training import RerankerTraining
from pg_semantic.training.reranker.starting_point import StartingPoint
from pg_semantic.training.reranker.training_lists import TrainingList
from pg_semantic.training.time_limit import TimeLimit

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from pg_semantic.rerankers.cross_encoder import CrossEncoderReranker

_TOKENS = 4096  # that are scored at once
_TIMED = 4  # held-out queries that are reranked before training, to know how long it takes


@dataclass(frozen=True, slots=True)
class RerankerSet:
    """What a reranker is trained on and measured with.

    Attributes:
        lists: The passages to train on.
        held_out: What searches found for the held-out queries, which share no relevant row with those in ``lists``.
        components: The component of each held-out query, shape (queries,).
    """

    lists: Sequence[TrainingList]
    held_out: Sequence[HeldOutHits]
    components: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RerankerFit:
    """What was trained.

    Attributes:
        trained: The cross-encoder after the chosen epoch.
        epochs: The number of that epoch.
        held_out: nDCG@10 of each held-out query as the first stage ranks, and as the reranker does.
    """

    trained: "CrossEncoder"
    epochs: int
    held_out: tuple[Measured, Measured]


def fit(  # noqa: PLR0913 - what keeps a training within bounds
    data: RerankerSet,
    start: StartingPoint,
    options: RerankerTraining,
    *,
    halved: bool,
    limit: TimeLimit,
    checkpoints: Checkpoints,
    on_step: OnStep = lambda *_: None,
) -> RerankerFit:
    """Trains the cross-encoder in place.

    Half of the held-out components choose the epoch that the other half is measured with.

    Args:
        data: What to train and measure with.
        start: The cross-encoder.
        options: How to train.
        halved: Whether to multiply in bfloat16 while training.
        limit: How long it may take.
        checkpoints: Where to continue, and where to keep the state of the training.
        on_step: Called after each step.

    Raises:
        errors.ConfigurationError: The time limit is too short, the learning rate too high, or memory runs out.
    """
    with out_of_memory.translated("choose a smaller batch (--batch), or a lower max_tokens (--max-tokens)"):
        limit.reserved += _time_to_measure(start.cross_encoder, data.held_out, limit)
        limit.require_not_over("reading and searching")
        tried = _train(data, start, options, halved=halved, limit=limit, checkpoints=checkpoints, on_step=on_step)
    component = np.unique(data.components, return_inverse=True)[1]
    chosen = choice.choose(tried.of(0), folds.divide(component, count=2, seed=options.seed))
    trained = start.cross_encoder
    trained.load_state_dict(tried.weights, strict=False)
    before = candidates.first_stage(data.held_out)
    return RerankerFit(trained.eval(), chosen.candidate + 1, (before, chosen.per_query))


def _train(  # noqa: PLR0913 - see `fit`
    data: RerankerSet,
    start: StartingPoint,
    options: RerankerTraining,
    *,
    halved: bool,
    limit: TimeLimit,
    checkpoints: Checkpoints,
    on_step: OnStep,
) -> EpochMeasures:
    """Trains epoch by epoch as long as there is time, and measures after each."""
    from pg_semantic.training.quiet_trainer import TrainingProgress
    from pg_semantic.training.reranker import cross_trainer  # both import torch

    trained, latest, done, started = start.cross_encoder, checkpoints.latest, checkpoints.steps, limit.elapsed
    with checkpoints.reading():
        tried = EpochMeasures() if latest is None else EpochMeasures.read(latest, trained.device)
    batches = cross_trainer.batches(data.lists, options)
    steps = len(batches)
    checkpoints.begin_epochs(steps=steps)
    pace = Pace(limit, least=steps - done % steps, planned=options.epochs * steps, on_step=on_step, before=done)

    def on_epoch() -> bool:
        tried.add([_measured(trained, data.held_out)], trained)
        return limit.allows((limit.elapsed - started) / (len(tried.measured) - done / steps))

    progress = TrainingProgress(pace.step, on_epoch, is_due=checkpoints.is_due)
    with tempfile.TemporaryDirectory() as scratch, random_generators.seeded(options.seed, trained.device):
        made = cross_trainer.trainer(start, data.lists, options, progress=progress, scratch=Path(scratch))
        made.run(batches, halved=halved, checkpoints=checkpoints, measures=tried)
    return tried


def reranker(trained: "CrossEncoder") -> "CrossEncoderReranker":
    """Returns a cross-encoder as searches use it, in 32-bit arithmetic."""
    from pg_semantic.encoders.local.token_budget import TokenBudget
    from pg_semantic.rerankers.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker(trained, reference="in training", budget=TokenBudget(_TOKENS))


def _measured(trained: "CrossEncoder", held_out: Sequence[HeldOutHits]) -> Measured:
    """Returns nDCG@10 of the held-out queries, as a search with this reranker would rank."""
    import torch

    if not all(bool(torch.isfinite(one).all()) for one in trained.parameters()):
        raise errors.ConfigurationError(
            "Training diverged: a weight is no longer a finite number. Choose a lower learning_rate."
        )
    return candidates.reranked(held_out, reranker(trained))


def _time_to_measure(trained: "CrossEncoder", held_out: Sequence[HeldOutHits], limit: TimeLimit) -> float:
    """Returns about how many seconds it takes to rerank the candidates of all held-out queries."""
    some = held_out[:: max(1, len(held_out) // _TIMED)]
    started = limit.elapsed
    _measured(trained, some)
    return (limit.elapsed - started) * len(held_out) / len(some)
