"""Training the queries' side: how queries are held out, measured and chosen, and what is learned."""

import math
from collections.abc import Iterable

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.training import Pair, QueryTraining, record, report
from pg_semantic.training.pace import Pace
from pg_semantic.training.query_side import fit_map, folds, training_queries
from pg_semantic.training.query_side.choice import choose
from pg_semantic.training.query_side.epochs import Negatives
from pg_semantic.training.query_side.fit import Fit, TrainingSet
from pg_semantic.training.query_side.stored_vectors import StoredVectors
from pg_semantic.training.query_side.training_queries import TrainingQueries
from pg_semantic.training.time_limit import TimeLimit

CPU = torch.device("cpu")
Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Vectors:
    scaled: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def stored(vectors: Vectors, chunks: Iterable[int]) -> StoredVectors:
    """Rows named a0, a1 and so on, with as many of the vectors as ``chunks`` says."""
    counts = list(chunks)
    starts = np.cumsum([0, *counts[:-1]])
    return StoredVectors(tuple(f"a{n:04}" for n in range(len(counts))), starts, vectors)


def asked(relevant: Iterable[Iterable[int]], vectors: StoredVectors) -> TrainingQueries:
    pairs = [Pair(f"query {n}", vectors.keys[row]) for n, rows in enumerate(relevant) for row in rows]
    return training_queries.of(pairs, vectors)


relevances = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=3, unique=True), min_size=10, max_size=60)


@given(relevances, st.integers(2, 5), st.integers(0, 3))
def test_no_row_is_relevant_in_two_folds(relevant: list[list[int]], count: int, seed: int) -> None:
    queries = asked(relevant, stored(np.eye(31, dtype=np.float32), [1] * 31))
    fold = folds.divide(folds.component_numbers(queries), count=count, seed=seed)
    of_row: dict[int, set[int]] = {}
    for rows, one in zip(queries.relevant, fold.tolist(), strict=True):
        for row in rows:
            of_row.setdefault(row, set()).add(one)
    assert all(len(found) == 1 for found in of_row.values())


def test_a_query_in_another_spelling_is_the_same_query() -> None:
    pairs = [Pair("Is it  warm?", "a0000"), Pair("is it warm?", "a0001")]
    queries = training_queries.of(pairs, stored(np.eye(2, dtype=np.float32), [1, 1]))
    assert (queries.queries, queries.relevant) == (("Is it  warm?",), ((0, 1),))


@given(st.lists(st.integers(1, 40), min_size=5, max_size=40), st.integers(2, 5))
def test_the_first_fold_is_nearest_to_an_equal_part_and_folds_differ_by_a_group_at_most(
    sizes: list[int], count: int
) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    filled = np.bincount(folds.divide(groups, count=count, seed=1), minlength=count)
    wanted = sum(sizes) / count
    assert abs(filled[0] - wanted) == abs(filled - wanted).min()
    assert filled.max() - filled.min() <= max(sizes)


def test_a_large_part_is_held_out_although_a_smaller_one_could_be() -> None:
    groups = np.repeat(np.arange(5), [300, 300, 200, 195, 5])
    assert (folds.divide(groups, count=5, seed=0) == 0).sum() == 200


def test_the_same_seed_gives_the_same_folds_and_another_seed_others() -> None:
    groups = np.arange(100)
    first, again, other = (folds.divide(groups, count=5, seed=seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_ndcg_is_that_of_ir_measures(seed: int) -> None:
    random = np.random.default_rng(seed)
    chunks = random.integers(1, 4, 40)
    vectors = unit(random.normal(size=(chunks.sum(), 8)))
    relevant = [random.choice(40, random.integers(1, 15), replace=False).tolist() for _ in range(5)]
    queries = asked(relevant, stored(vectors, chunks))
    asking = random.normal(size=(5, 8)).astype(np.float32)
    found = training_queries.ndcg(queries, range(5), asking)
    rows = np.repeat(np.arange(40), chunks)
    run = [
        ir_measures.ScoredDoc(str(n), str(row), float((vectors[rows == row] @ vector).max()))
        for n, vector in enumerate(asking)
        for row in range(40)
    ]
    qrels = [ir_measures.Qrel(str(n), str(row), 1) for n, some in enumerate(queries.relevant) for row in some]
    measure = ir_measures.nDCG @ 10
    expected = {one.query_id: one.value for one in ir_measures.iter_calc([measure], qrels, run)}
    np.testing.assert_allclose(found, [expected[str(n)] for n in range(5)], atol=1e-6)


def test_pairs_without_vectors_are_counted_and_left_out() -> None:
    pairs = [Pair("one", "a0000"), Pair("one", "a0000"), Pair("one", "lost"), Pair("two", "lost")]
    queries = training_queries.of(pairs, stored(np.eye(2, dtype=np.float32), [1, 1]))
    assert (queries.queries, queries.relevant, queries.gone) == (("one",), ((0,),), 2)


def test_the_positive_vector_of_a_row_is_its_chunk_nearest_to_the_query() -> None:
    queries = asked([[0, 1]], stored(np.eye(4, dtype=np.float32), [3, 1]))
    assert training_queries.nearest_vectors(queries, np.array([[0.1, 0.2, 0.9, 0]], np.float32)) == [[2, 3]]


def test_the_loss_leaves_out_other_relevant_rows_and_copies_of_the_positive_vector() -> None:
    vectors = unit(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0.01, 0], [-1, 0, 0]]))
    queries = asked([[0, 1]], stored(vectors, [1] * 5))
    asking = unit(np.array([[0.9, 0.8, 0.1]]))
    negatives = Negatives(queries, asking, device=CPU)
    loss = negatives.loss(torch.from_numpy(asking), [(0, 0)])
    scores = 20 * (vectors @ asking[0])[[0, 2, 4]]
    assert float(loss) == pytest.approx(math.log(np.exp(scores - scores[0]).sum()), rel=1e-5)


def test_a_candidate_is_measured_by_queries_that_did_not_choose_it() -> None:
    noise = np.random.default_rng(0).normal(size=(200, 400))
    groups = np.arange(400) % 5
    chosen = choose(noise, groups)
    assert noise[chosen.candidate].mean() > 0.1  # the best of 200 candidates that are all as good
    assert abs(chosen.per_query.mean()) < 0.06


def test_a_candidate_that_is_better_is_chosen() -> None:
    measured = np.random.default_rng(0).normal(size=(20, 300))
    measured[7] += 1
    chosen = choose(measured, np.arange(300) % 2)
    assert chosen.candidate == 7
    assert (chosen.per_query == measured[7]).all()


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_limit_that_one_epoch_cannot_meet_says_after_some_steps_how_long_it_takes() -> None:
    clock = Clock()
    limit = TimeLimit(30, clock=clock)
    pace = Pace(limit, least=100, planned=2000, on_step=lambda *_: None)

    def step() -> None:
        for _ in range(100):
            clock.now += 1
            pace.step()

    with pytest.raises(
        errors.ConfigurationError, match=r"^seconds=30 is too short: one epoch takes about 94 s"
    ) as told:
        step()
    assert clock.now < 110
    assert "at least 137 seconds" in str(told.value)  # a tenth more than 5 s so far and 1.25 times the rest


@pytest.mark.parametrize(("least", "slow"), [(1, 1), (100, 50), (100, 100)])
def test_a_first_epoch_whose_steps_get_slower_ends_when_the_time_is_over(least: int, slow: int) -> None:
    clock = Clock()
    pace = Pace(TimeLimit(30, clock=clock), least=least, planned=2000, on_step=lambda *_: None)
    for _ in range(slow - 1):
        clock.now += 0.1
        pace.step()
    clock.now += 40
    with pytest.raises(errors.ConfigurationError, match=f"seconds=30 is too short: reading and {slow} of the first"):
        pace.step()


def test_a_later_epoch_is_not_ended_by_an_error_because_something_can_be_kept() -> None:
    clock = Clock()
    pace = Pace(TimeLimit(30, clock=clock), least=2, planned=2000, on_step=lambda *_: None)
    pace.step()
    pace.step()
    clock.now += 40
    pace.step()


def test_a_limit_allows_what_fits_with_some_caution_and_what_is_reserved() -> None:
    clock = Clock()
    limit = TimeLimit(30, clock=clock)
    clock.now += 10
    assert limit.allows(15)
    assert not limit.allows(17)
    limit.reserved = 5
    assert not limit.allows(15)
    assert TimeLimit(None, clock=clock).allows(1e9)


def rotated(seed: int = 0, *, rows: int = 250) -> TrainingSet:
    """Queries that a rotation brings to their rows, and nothing else does: what a map can learn for unseen rows."""
    random = np.random.default_rng(seed)
    vectors = unit(random.normal(size=(rows, 16)))
    turned, triangle = np.linalg.qr(np.eye(16) + 0.2 * random.normal(size=(16, 16)))
    turned = (turned * np.sign(np.diag(triangle))).astype(np.float32)
    asking = unit(vectors @ turned + 0.1 * random.normal(size=(rows, 16)))
    queries = asked([[row] for row in range(rows)], stored(vectors, [1] * rows))
    fold = folds.divide(folds.component_numbers(queries), count=5, seed=0)
    return TrainingSet(queries, asking, fold, fold)


def fit(data: TrainingSet, decays: Iterable[float] = (0.001,), *, limit: TimeLimit | None = None) -> Fit:
    torch.manual_seed(0)
    recipe = QueryTraining().recipe
    return fit_map.fit_map(data, recipe, decays=list(decays), device=CPU, limit=limit or TimeLimit(None))


def test_a_map_learns_what_holds_for_rows_that_it_has_not_seen() -> None:
    data = rotated()
    found = report.gain(*fit(data).held_out, seed=0)
    assert found.low > 0.02
    assert found.p < 0.001


def test_ways_to_ask_for_the_same_row_count_as_one_observation() -> None:
    chance = np.random.default_rng(0)
    rows = chance.normal(0.1, 0.5, size=20)
    once = report.gain(np.zeros(20), rows, seed=0, components=np.arange(20))
    assert once == report.gain(np.zeros(20), rows, seed=0)
    often = np.repeat(rows, 10)
    found = report.gain(np.zeros(200), often, seed=0, components=np.repeat(np.arange(20), 10))
    assert found.queries == 200
    assert (found.difference, found.low, found.high, found.p) == pytest.approx(
        (once.difference, once.low, once.high, once.p)
    )
    assert report.gain(np.zeros(200), often, seed=0).low > found.low + 0.05  # as if they were independent
    some = chance.integers(0, 7, 200)
    mixed = report.gain(np.zeros(200), often, seed=0, components=some)
    assert mixed.low < mixed.difference < mixed.high
    assert mixed.difference == pytest.approx(often.mean())


def test_training_that_diverges_is_an_error_and_no_gain() -> None:
    recipe = QueryTraining(learning_rate=1e30).recipe
    with pytest.raises(errors.EncoderError, match=r"Training diverged: .* Lower the learning rate"):
        fit_map.fit_map(rotated(rows=100), recipe, device=CPU, limit=TimeLimit(None))


def test_vectors_that_are_not_finite_have_no_rank() -> None:
    queries = asked([[0]], stored(np.eye(2, dtype=np.float32), [1, 1]))
    with pytest.raises(errors.EncoderError, match="no longer finite numbers"):
        training_queries.ndcg(queries, [0], np.full((1, 2), np.nan, np.float32))


@pytest.mark.parametrize(("share", "said"), [(0.4, "Use 0.333 or 0.5"), (0.3, "Use 0.25 or 0.333")])
def test_a_share_that_is_no_equal_part_is_refused(share: float, said: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=said):
        QueryTraining(held_out=share)


@pytest.mark.parametrize(("share", "parts"), [(0.5, 2), (0.33, 3), (1 / 3, 3), (0.25, 4), (0.2, 5), (0.1, 10)])
def test_a_share_is_one_of_equal_parts(share: float, parts: int) -> None:
    assert QueryTraining(held_out=share).parts == parts


def test_a_map_with_a_very_strong_decay_stays_where_it_was() -> None:
    data = rotated()
    fitted = fit(data, [1e4])
    assert isinstance(fitted.trained, np.ndarray)
    np.testing.assert_allclose(fitted.trained, np.eye(16), atol=0.02)


def test_the_decay_that_is_better_for_held_out_queries_is_chosen() -> None:
    data = rotated()
    assert fit(data, [1e4, 0.001]).decay == 0.001


def test_the_same_seed_gives_the_same_map() -> None:
    data = rotated()
    first, again = (fit(data).trained for _ in range(2))
    assert isinstance(first, np.ndarray)
    assert isinstance(again, np.ndarray)
    assert first.tobytes() == again.tobytes()


def random_answers(seed: int = 0) -> TrainingQueries:
    """Queries whose rows were drawn at random; ten ask for the same row. Nothing can be learned for other rows."""
    vectors = unit(np.random.default_rng(seed).normal(size=(30, 64)))
    return asked([[n // 10] for n in range(300)], stored(vectors, [1] * 30))


def leaked(queries: TrainingQueries, groups: NDArray[np.int64]) -> report.Gain:
    asking = unit(np.random.default_rng(1).normal(size=(len(queries.queries), 64)))
    # Each row is asked for in its own way, which can only be learned by heart.
    own = unit(np.random.default_rng(2).normal(size=(30, 64)))
    asking = unit(asking + 2 * own[[rows[0] for rows in queries.relevant]])
    fold = folds.divide(groups, count=5, seed=0)
    return report.gain(*fit(TrainingSet(queries, asking, fold, groups)).held_out, seed=0)


def test_learning_rows_by_heart_looks_like_a_gain_only_on_a_split_that_leaks() -> None:
    queries = random_answers()
    leaking = leaked(queries, np.arange(len(queries.queries)))
    honest = leaked(queries, folds.component_numbers(queries))
    assert leaking.low > 0.2
    assert honest.low <= 0


def test_a_limit_cuts_epochs_and_still_gives_a_map() -> None:
    data = rotated(rows=100)
    clock, steps = Clock(), list[int]()
    limit = TimeLimit(60, clock=clock)

    def slow(done: int, _planned: int) -> None:
        steps.append(done)
        clock.now += 1

    fitted = fit_map.fit_map(data, QueryTraining(epochs=20).recipe, decays=[0.1], device=CPU, limit=limit, on_step=slow)
    assert fitted.epochs < 20
    assert clock.now - 100 <= 60
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "both"}, {"held_out": 0}, {"held_out": 0.6}, {"epochs": 0}, {"seconds": 0}, {"seconds": math.nan}],
)
def test_an_argument_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"{next(iter(wrong))}="):
        QueryTraining(**wrong)  # type: ignore[arg-type]


def test_the_hash_of_pairs_does_not_depend_on_their_order_and_differs_for_other_pairs() -> None:
    pairs = [Pair("one", "1"), Pair("two", "2")]
    assert record.pairs_hash(pairs) == record.pairs_hash(pairs[::-1])
    assert record.pairs_hash(pairs) != record.pairs_hash([Pair("one", "2"), Pair("two", "1")])
