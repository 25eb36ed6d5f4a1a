"""Divides queries into folds that share no row, so that a figure about one fold says something about other rows."""

import numpy as np
from numpy.typing import NDArray

from pg_semantic.evaluation import Judgements, components
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.training.query_side.training_queries import TrainingQueries


def component_numbers(queries: TrainingQueries) -> NDArray[np.int64]:
    """Returns the number of each query's component, shape (queries,); see `evaluation.components.connected`."""
    keys = queries.stored.keys
    hashes = {query: query_hash(query) for query in queries.queries}
    grades = {
        query: {keys[row]: 1 for row in rows} for query, rows in zip(queries.queries, queries.relevant, strict=True)
    }
    connected = components.connected(Judgements(grades), hashes)
    numbers = {hashed: number for number, members in enumerate(connected) for hashed in members}
    return np.array([numbers[hashes[query]] for query in queries.queries], np.int64)


def divide(groups: NDArray[np.int64], *, count: int, seed: int) -> NDArray[np.int64]:
    """Assigns each group of queries to one of ``count`` folds, of about the same number of queries.

    Args:
        groups: The group of each query, shape (queries,), such as its component. Groups are numbered from 0.
        count: How many folds.
        seed: The same seed gives the same folds.

    Returns:
        The fold of each query, shape (queries,). No fold has fewer queries than fold 0, so if a single group is larger
        than a fold, it is in another one.
    """
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    fold_of, filled = np.zeros(len(sizes), np.int64), np.zeros(count, np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    rank = np.empty(count, np.int64)
    rank[np.argsort(filled, kind="stable")] = np.arange(count)
    assigned: NDArray[np.int64] = rank[fold_of[groups]]
    return assigned
