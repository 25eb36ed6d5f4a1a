"""Hard negatives as sentence-transformers chooses them: by the library itself, and by its rules in numpy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Found = dict[str, list[str]]  # query -> negatives, best first

# Arguments of `mine_hard_negatives`, which are also those of `Mining`.
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"negatives": 1},
    {"relative_margin": 0.05},
    {"relative_margin": 0.3, "negatives": 5},
    {"absolute_margin": 0.1},
    {"absolute_margin": 0.02, "relative_margin": 0.02},
    {"max_score": 0.4},
    {"min_score": 0.35},
    {"max_score": 0.5, "min_score": 0.2, "negatives": 4},
    {"range_min": 5},
    {"range_min": 2, "range_max": 9, "relative_margin": 0.1},
    {"range_max": 3},
    {"range_min": 3, "max_score": 0.45, "negatives": 2},
    {"range_max": 50, "negatives": 10},
    {"range_max": 1000, "relative_margin": 0.6},
)


def by_rules(
    queries: Mapping[str, NDArray[np.float32]],
    documents: Mapping[str, NDArray[np.float32]],
    positives: Mapping[str, Sequence[str]],
    *,
    negatives: int = 3,
    relative_margin: float | None = None,
    absolute_margin: float | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    range_min: int = 0,
    range_max: int | None = None,
) -> Found:
    """Masks a matrix of scores, as the library does, with its default of ``range_max`` for each query by itself."""
    keys = list(documents)
    matrix = np.stack([documents[key] for key in keys]).astype(np.float64)
    found: Found = {}
    for query, vector in queries.items():
        most = len(positives[query])
        drops = any(one is not None for one in (relative_margin, absolute_margin, max_score))
        last = range_min + negatives * (10 if drops else 1) + most if range_max is None else range_max
        scores = matrix @ vector.astype(np.float64)
        threshold = min(scores[keys.index(key)] for key in positives[query])
        pool = np.argsort(-scores, kind="stable")[: last + most]
        left = scores[pool].copy()
        left[[keys[number] in positives[query] for number in pool]] = -np.inf
        if absolute_margin is not None:
            left[left + absolute_margin > threshold] = -np.inf
        if relative_margin is not None:
            left[left > threshold - abs(threshold) * relative_margin] = -np.inf
        if max_score is not None:
            left[left > max_score] = -np.inf
        if min_score is not None:
            left[left < min_score] = -np.inf
        ranks = np.argsort(-left, kind="stable")[:last][range_min:][:negatives]
        found[query] = [keys[pool[rank]] for rank in ranks if left[rank] > -np.inf]
    return found


def by_library(
    queries: Mapping[str, NDArray[np.float32]],
    documents: Mapping[str, NDArray[np.float32]],
    positives: Mapping[str, Sequence[str]],
    *,
    negatives: int = 3,
    **settings: Any,
) -> Found:
    """Calls the library itself, with texts that are the keys, and an encoder that looks up their vectors.

    Queries with the same number of positives are passed together, because its default of ``range_max`` depends on the
    highest number of any. Skips the test without the package ``datasets``, which the library needs for this.
    """
    datasets = pytest.importorskip("datasets", reason="mine_hard_negatives needs the package datasets")
    from sentence_transformers.util import mine_hard_negatives

    found: Found = {query: [] for query in queries}
    for count in {len(keys) for keys in positives.values()}:
        pairs = [(query, key) for query, keys in positives.items() if len(keys) == count for key in keys]
        mined = mine_hard_negatives(
            datasets.Dataset.from_dict({"query": [one for one, _ in pairs], "answer": [key for _, key in pairs]}),
            LooksUp(queries, documents),
            corpus=list(documents),
            num_negatives=negatives,
            verbose=False,
            **settings,
        )
        for row in mined:
            if row["answer"] == positives[row["query"]][0]:
                found[row["query"]].append(row["negative"])
    return found


class LooksUp:
    """What `mine_hard_negatives` calls of a SentenceTransformer."""

    device = "cpu"

    def __init__(
        self, queries: Mapping[str, NDArray[np.float32]], documents: Mapping[str, NDArray[np.float32]]
    ) -> None:
        self._queries, self._documents = queries, documents

    def encode_query(self, texts: Sequence[str], **_: Any) -> NDArray[np.float32]:
        return np.stack([self._queries[text] for text in texts])

    def encode_document(self, texts: Sequence[str], **_: Any) -> NDArray[np.float32]:
        return np.stack([self._documents[text] for text in texts])

    def similarity(self, one: Any, other: Any) -> Any:
        from sentence_transformers.util import cos_sim

        return cos_sim(one, other)

    def similarity_pairwise(self, one: Any, other: Any) -> Any:
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(one, other)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same directions with length 1."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / lengths
