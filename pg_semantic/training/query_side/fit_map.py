"""Trains a map of the vectors of queries, by cross-validation: `fit_map`."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pg_semantic.training.pace import OnStep, Pace
from pg_semantic.training.query_side import choice, epochs
from pg_semantic.training.query_side.epochs import Negatives, Recipe
from pg_semantic.training.query_side.fit import Fit, TrainingSet
from pg_semantic.training.query_side.query_map import QueryMap
from pg_semantic.training.report import Measured
from pg_semantic.training.time_limit import TimeLimit

if TYPE_CHECKING:
    import torch

DECAYS = (0.3,)


def fit_map(
    data: TrainingSet,
    recipe: Recipe,
    *,
    decays: Sequence[float] = DECAYS,
    device: "torch.device",
    limit: TimeLimit,
    on_step: OnStep = lambda *_: None,
) -> Fit:
    """Trains a map for each decay and fold, on the queries of the other folds, then one on all queries.

    So each query is held out once. The held-out queries choose the decay and the number of epochs of the last map.

    Raises:
        errors.ConfigurationError: The time limit is too short.
    """
    negatives = Negatives(data.queries, data.vectors, device=device)
    limit.require_not_over("reading")
    folds = int(data.folds.max()) + 1
    # An epoch of each fold and decay, and one of the last map.
    least = (len(decays) * (folds - 1) + 1) * epochs.steps(negatives, data.all, recipe)
    pace = Pace(limit, least=least, planned=recipe.epochs * least, on_step=on_step)

    def start(decay: float, numbers: Sequence[int], held_out: Sequence[int]) -> _MapInTraining:
        side = QueryMap(data.vectors, decay=decay, device=device)
        steps = epochs.run(side, negatives, numbers, recipe=recipe, seed=data.seed, on_step=pace.step)
        return _MapInTraining(side, steps, list(held_out))

    runs = [[start(decay, data.outside(fold), data.inside(fold)) for fold in range(folds)] for decay in decays]
    measured = np.concatenate(list(_rounds(data, runs, recipe=recipe, limit=limit)))
    chosen = choice.choose(measured, data.folds)
    rounds, number = divmod(chosen.candidate, len(decays))
    last = start(decays[number], data.all, ())
    for _ in itertools.islice(last.epochs, rounds + 1):
        pass
    before, after = (data.ndcg(data.all, vectors) for vectors in (data.vectors, last.side.vectors(data.all)))
    return Fit(
        last.side.matrix, rounds + 1, decays[number], (before, chosen.per_query), (before, after), data.components
    )


@dataclass(frozen=True, slots=True)
class _MapInTraining:
    """A map in training, and the queries that are held out from it."""

    side: QueryMap
    epochs: Iterator[None]
    held_out: list[int]


def _rounds(
    data: TrainingSet, runs: Sequence[Sequence[_MapInTraining]], *, recipe: Recipe, limit: TimeLimit
) -> Iterator[Measured]:
    """Trains all maps by one epoch after another, as long as there is time.

    Yields:
        A measure of each decay and query after an epoch, shape (decays, queries).
    """
    started = limit.elapsed
    for done in range(1, recipe.epochs + 1):
        yield np.stack([_measured(data, of_decay) for of_decay in runs])
        each = (limit.elapsed - started) / done
        last = each / len(runs) * (done + 1)  # of the last map: more than it takes, as it is only one
        if not limit.allows(each + last):
            return


def _measured(data: TrainingSet, runs: Sequence[_MapInTraining]) -> Measured:
    """Trains the maps of all folds by an epoch, and measures each query with the map that it was held out from."""
    found = np.empty(len(data.folds))
    for run in runs:
        next(run.epochs)
        found[run.held_out] = data.ndcg(run.held_out, run.side.vectors(run.held_out))
    return found
