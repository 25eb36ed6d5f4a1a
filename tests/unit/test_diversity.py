"""Maximal Marginal Relevance: what is chosen, in which order, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.search import diversity

SCORES = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=12)
RELEVANCE = st.floats(0, 1)


@st.composite
def candidates(draw: st.DrawFn) -> tuple[list[float], NDArray[np.float32]]:
    scores = draw(SCORES)
    number = st.floats(allow_nan=False, allow_infinity=False, width=32)
    return scores, draw(arrays.arrays(np.float32, (len(scores), 3), elements=number))


def by_definition(scores: list[float], vectors: NDArray[np.float32], *, limit: int, relevance: float) -> list[int]:
    """The same, as the paper has it, one candidate at a time; for scores from 0 to 1 and vectors of length 1."""
    chosen: list[int] = []
    while len(chosen) < min(limit, len(scores)):
        left = [number for number in range(len(scores)) if number not in chosen]
        values = {
            number: relevance * scores[number]
            - (1 - relevance) * max((float(vectors[number] @ vectors[other]) for other in chosen), default=0.0)
            for number in left
        }
        chosen.append(max(left, key=lambda number: values[number]))
    return chosen


@given(candidates(), st.integers(1, 15), RELEVANCE)
def test_the_choice_is_the_beginning_of_a_permutation(
    given_: tuple[list[float], NDArray[np.float32]], limit: int, relevance: float
) -> None:
    scores, vectors = given_
    chosen = diversity.mmr(scores, vectors, limit=limit, relevance=relevance)
    assert len(chosen) == min(limit, len(scores))
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(range(len(scores)))
    whole = diversity.mmr(scores, vectors, limit=len(scores) + 1, relevance=relevance)
    assert chosen == whole[: len(chosen)]


@given(candidates())
def test_by_relevance_alone_the_order_is_that_of_the_scores_and_of_equals_that_given(
    given_: tuple[list[float], NDArray[np.float32]],
) -> None:
    scores, vectors = given_
    expected = sorted(range(len(scores)), key=lambda number: -scores[number])
    assert diversity.mmr(scores, vectors, limit=99, relevance=1) == expected


@given(candidates(), RELEVANCE)
def test_the_one_with_the_highest_score_is_always_first(
    given_: tuple[list[float], NDArray[np.float32]], relevance: float
) -> None:
    scores, vectors = given_
    chosen = diversity.mmr(scores, vectors, limit=1, relevance=relevance)
    assert chosen == ([scores.index(max(scores))] if scores else [])


@given(st.integers(0, 1000), st.floats(0.05, 0.95))  # at the ends, rounding decides between equals
def test_it_chooses_what_the_definition_chooses(seed: int, relevance: float) -> None:
    random = np.random.default_rng(seed)
    scores = random.permutation(np.linspace(0, 1, 10)).tolist()
    vectors = random.standard_normal((10, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = vectors.astype(np.float32)
    found = diversity.mmr(scores, made * random.uniform(0.5, 2), limit=7, relevance=relevance)
    assert found == by_definition(scores, made, limit=7, relevance=relevance)


@given(st.integers(2, 8), st.floats(0, 0.49))
def test_a_duplicate_is_pushed_back_behind_what_is_new(copies: int, relevance: float) -> None:
    vectors = np.array([[1, 0, 0]] * copies + [[0, 1, 0]], np.float32)
    scores = [1.0] * copies + [0.9]
    assert diversity.mmr(scores, vectors, limit=2, relevance=relevance) == [0, copies]


def test_equals_come_in_the_order_given() -> None:
    assert diversity.mmr([1, 1, 1, 1], np.eye(4, dtype=np.float32), limit=4, relevance=0.5) == [0, 1, 2, 3]


def test_scores_count_by_their_range_not_by_their_scale() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    for scale, shift in ((1, 0), (1000, -5), (1e-6, 3)):
        scores = [scale * score + shift for score in (1.0, 0.8, 0.0)]
        assert diversity.mmr(scores, vectors, limit=3, relevance=0.5) == [0, 2, 1]
        assert diversity.mmr(scores, vectors, limit=3, relevance=0.7) == [0, 1, 2]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(errors.QueryError, match=f"limit={limit}.*1 or more"):
        diversity.mmr([1.0], np.ones((1, 2), np.float32), limit=limit, relevance=0.5)


@pytest.mark.parametrize("relevance", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_relevance_out_of_range_is_refused(relevance: float) -> None:
    with pytest.raises(errors.QueryError, match=r"relevance=.*score alone"):
        diversity.mmr([1.0], np.ones((1, 2), np.float32), limit=1, relevance=relevance)


@pytest.mark.parametrize("shape", [(2, 3), (1,), (0, 3), (1, 3, 1)])
def test_other_than_one_vector_a_score_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(errors.QueryError, match="one score and one vector"):
        diversity.mmr([1.0], np.ones(shape, np.float32), limit=1, relevance=0.5)


def test_what_is_not_finite_is_refused() -> None:
    one = np.ones((1, 2), np.float32)
    for scores, vectors in (([float("nan")], one), ([float("inf")], one), ([1.0], one * np.nan)):
        with pytest.raises(errors.QueryError, match="finite"):
            diversity.mmr(scores, vectors, limit=1, relevance=0.5)
