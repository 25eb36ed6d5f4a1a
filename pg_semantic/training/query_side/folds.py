"""Divides queries into folds that share no row, so that a figure about one fold says something about other rows."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.evaluation import components
from pg_semantic.evaluation.query_hash import query_hash
from pg_semantic.training.query_side.training_queries import TrainingQueries

LEAST_QUERIES = 50
"""The fewest queries to train with. The interval of a gain on a fifth of them would mean little."""


def require_enough(count: int, what: str) -> None:
    """Checks that the queries are enough to train and to measure with.

    Args:
        count: How many queries.
        what: The beginning of the message.

    Raises:
        errors.QueryError: There are fewer than `LEAST_QUERIES`.
    """
    if count < LEAST_QUERIES:
        raise errors.QueryError(
            f"{what} only {count} queries with a relevant row, and training needs {LEAST_QUERIES}: with fewer, no one "
            "could tell whether it helped. Judge more queries."
        )


def require_enough_given(count: int, *, gone: int) -> None:
    """Checks that the queries that were given are enough; see `require_enough`.

    Args:
        count: How many queries.
        gone: How many judgements or pairs were left out already because their row doesn't exist.
    """
    require_enough(
        count, f"{gone} judgements or pairs name rows that don't exist, which leaves" if gone else "There are"
    )


_TOO_FEW = (
    "Too few queries can be held out, because they are connected through rows that they share: judge queries about "
    "other rows too."
)


def hold_out(components: NDArray[np.int64], *, count: int, seed: int) -> NDArray[np.int64]:
    """Returns the fold of each query, shape (queries,): each of ``count`` folds is about an equal part.

    Raises:
        errors.QueryError: There are too few components.
    """
    if count > len(components):
        raise errors.QueryError(
            f"{len(components)} queries can't be divided into {count} parts: hold out a larger share."
        )
    assigned = divide(components, count=count, seed=seed)
    if len(np.unique(assigned)) < count:
        raise errors.QueryError(_TOO_FEW)
    return assigned


def share_of(components: NDArray[np.int64], share: float, *, seed: int) -> NDArray[np.bool_]:
    """Returns which queries to hold out: whole components in random order, as near to a share as they allow.

    Components that are too large for what is left of the share are not held out, unless the smallest one of these
    brings the number of held-out queries nearer to it.

    Args:
        components: The number of each query's component, shape (queries,). They are numbered from 0.
        share: The share of the queries, above 0 and below 1.
        seed: The same seed holds the same queries out.

    Raises:
        errors.QueryError: There is only one component.
    """
    sizes, wanted = np.bincount(components), share * len(components)
    chosen, count = np.zeros(len(sizes), np.bool_), 0
    for component in np.random.default_rng(seed).permutation(len(sizes)):
        if count + sizes[component] <= wanted:
            chosen[component] = True
            count += sizes[component]
    if not chosen.all():
        smallest = np.flatnonzero(~chosen)[sizes[~chosen].argmin()]
        if not count or abs(count + sizes[smallest] - wanted) < abs(count - wanted):
            chosen[smallest] = True
    if chosen.all():
        raise errors.QueryError(_TOO_FEW)
    held_out: NDArray[np.bool_] = chosen[components]
    return held_out


def component_numbers(queries: TrainingQueries) -> NDArray[np.int64]:
    """Returns the number of each query's component, shape (queries,); see `evaluation.components.connected`."""
    keys = queries.stored.keys
    both = zip(queries.queries, queries.relevant, strict=True)
    return numbers_of({query: [keys[row] for row in rows] for query, rows in both})


def numbers_of(relevant: Mapping[str, Iterable[str]]) -> NDArray[np.int64]:
    """Returns the number of each query's component, shape (queries,).

    Args:
        relevant: The keys of the rows that are relevant to each query.
    """
    hashes = {query: query_hash(query) for query in relevant}
    connected = components.connected_by((hashes[query], keys) for query, keys in relevant.items())
    numbers = {hashed: number for number, members in enumerate(connected) for hashed in members}
    return np.array([numbers[hashed] for hashed in hashes.values()], np.int64)


def divide(groups: NDArray[np.int64], *, count: int, seed: int) -> NDArray[np.int64]:
    """Assigns each group of queries to one of ``count`` folds, of about the same number of queries.

    Args:
        groups: The group of each query, shape (queries,), such as its component. Groups are numbered from 0.
        count: How many folds.
        seed: The same seed gives the same folds.

    Returns:
        The fold of each query, shape (queries,). The size of fold 0 is nearest to an equal part of the queries: if a
        single group is larger, it is in another fold, and the others have the same share of the rest.
    """
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    fold_of, filled = np.zeros(len(sizes), np.int64), np.zeros(count, np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    rank = np.empty(count, np.int64)
    rank[np.argsort(abs(filled - len(groups) / count), kind="stable")] = np.arange(count)
    assigned: NDArray[np.int64] = rank[fold_of[groups]]
    return assigned
