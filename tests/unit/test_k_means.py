"""k-means: clusters of directions, the largest first."""

import sys

import numpy as np
import pytest

from pg_semantic import errors
from pg_semantic.search import k_means

AXES = np.eye(4, dtype=np.float32)
RANDOM = np.random.default_rng(3)
NEAR = np.concatenate([AXES[[which]] + RANDOM.normal(0, 0.05, (size, 4)) for which, size in ((2, 5), (0, 9), (1, 7))])
VECTORS = NEAR.astype(np.float32) * RANDOM.uniform(0.1, 10, (21, 1)).astype(np.float32)


def test_vectors_of_one_direction_are_a_cluster_whatever_their_lengths_and_the_largest_is_first() -> None:
    assert k_means.clustered(VECTORS, count=3) == [2] * 5 + [0] * 9 + [1] * 7
    assert k_means.clustered(VECTORS, count=3, seed=9) == k_means.clustered(VECTORS, count=3)


def test_there_are_no_more_clusters_than_directions() -> None:
    repeated = np.repeat(AXES[:2], [3, 4], axis=0) * np.array([[1], [2], [3], [1], [2], [3], [4]], np.float32)
    assert k_means.clustered(repeated, count=5) == [1, 1, 1, 0, 0, 0, 0]
    assert k_means.clustered(np.zeros((3, 4), np.float32), count=2) == [0, 0, 0]
    assert k_means.clustered(AXES[:1], count=2) == [0]


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[encode\]'"):
        k_means.clustered(AXES, count=2)


@pytest.mark.parametrize(("vectors", "count"), [(1, 1), (2, 1), (18, 3), (500, 12)])
def test_the_usual_number_of_clusters_grows_with_the_square_root(vectors: int, count: int) -> None:
    assert k_means.usual_count(vectors, most=12) == count
