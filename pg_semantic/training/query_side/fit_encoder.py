"""Trains a copy of a whole encoder for queries, and measures it on one held-out part: `fit_encoder`."""

from typing import TYPE_CHECKING

import numpy as np

from pg_semantic.training import out_of_memory
from pg_semantic.training.epoch_measures import EpochMeasures
from pg_semantic.training.pace import OnStep, Pace
from pg_semantic.training.query_side import choice, epochs, folds
from pg_semantic.training.query_side.epochs import Negatives, Recipe
from pg_semantic.training.query_side.fit import Fit, TrainingSet
from pg_semantic.training.query_side.query_transformer import QueryTransformer
from pg_semantic.training.time_limit import TimeLimit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@out_of_memory.translated('train a map (kind="map", --kind map), or a smaller encoder')
def fit_encoder(
    data: TrainingSet,
    recipe: Recipe,
    *,
    whole: "SentenceTransformer",
    limit: TimeLimit,
    on_step: OnStep = lambda *_: None,
) -> Fit:
    """Trains a copy of ``whole`` on the queries outside fold 0, which is held out and chooses the epoch.

    Raises:
        errors.ConfigurationError: The time limit is too short, or memory runs out.
    """
    held_out, others = data.inside(0), data.outside(0)
    side = QueryTransformer(whole, data.queries.queries, dimensions=data.vectors.shape[1])
    negatives = Negatives(data.queries, data.vectors, device=side.device)
    limit.require_not_over("reading")
    least = epochs.steps(negatives, others, recipe)
    pace = Pace(limit, least=least, planned=recipe.epochs * least, on_step=on_step)
    started = limit.elapsed
    before = [data.ndcg(numbers, side.vectors(numbers)) for numbers in (held_out, others)]
    limit.reserved += limit.elapsed - started  # to measure again at the end
    tried = EpochMeasures()
    started = limit.elapsed
    for _ in epochs.run(side, negatives, others, recipe=recipe, seed=data.seed, on_step=pace.step):
        tried.add([data.ndcg(held_out, side.vectors(held_out))], side.trained)
        if not limit.allows((limit.elapsed - started) / len(tried.measured)):
            break
    # Half of the held-out components choose the epoch that the other half is measured with.
    component = np.unique(data.components[held_out], return_inverse=True)[1]
    chosen = choice.choose(tried.of(0), folds.divide(component, count=2, seed=data.seed))
    side.trained.load_state_dict(tried.weights, strict=False)
    after = data.ndcg(others, side.vectors(others))
    of_held_out, of_others = (before[0], chosen.per_query), (before[1], after)
    return Fit(side.trained, chosen.candidate + 1, None, of_held_out, of_others, data.components[held_out])
