"""Negatives are chosen as `mine_hard_negatives` of sentence-transformers does, which these tests compare with."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pg_semantic import errors
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.training import Mining, ScoredChunk
from pg_semantic.training.mining.choose_negatives import Candidate, choose
from tests.hard_negatives import SETTINGS, Found, by_library, by_rules, unit

Vectors = Mapping[str, NDArray[np.float32]]

_EXACT: dict[str, Any] = {"not_nearer_than": None}


def corpus(seed: int) -> tuple[Vectors, Vectors, Mapping[str, Sequence[str]]]:
    """Queries, documents and one to three positives for each query, mostly near ones."""
    random = np.random.default_rng(seed)
    documents = {f"d{n}": row for n, row in enumerate(unit(random.normal(size=(400, 12)).astype(np.float32)))}
    queries = {f"q{n}": row for n, row in enumerate(unit(random.normal(size=(40, 12)).astype(np.float32)))}
    positives = {}
    for number, (query, vector) in enumerate(queries.items()):
        nearest = sorted(documents, key=lambda key: -float(documents[key] @ vector))
        far = 400 if number % 5 == 0 else 20  # some positives are unlike their query
        positives[query] = [str(key) for key in random.choice(nearest[:far], size=1 + number % 3, replace=False)]
    return queries, documents, positives


def chosen(
    queries: Vectors, documents: Vectors, positives: Mapping[str, Sequence[str]], mining: Mining
) -> tuple[Found, Counter[str]]:
    """What `choose` makes of an exact search."""
    found, dropped = {}, Counter[str]()
    for query, vector in queries.items():
        scored = [candidate(key, float(row.astype(float) @ vector.astype(float))) for key, row in documents.items()]
        scored.sort(key=lambda one: -one.passage.score)
        answers = [one for one in scored if one.passage.key in positives[query]]
        others = [one for one in scored[: mining.last_rank(len(answers)) + len(answers)] if one not in answers]
        negatives = choose(query, answers, others, mining=mining, dropped=dropped)
        found[query] = [one.key for one in negatives]
    return found, dropped


def candidate(key: str, score: float, nearness: float | None = None, group: str | None = None) -> Candidate:
    return Candidate(ScoredChunk(key, 0, score), nearness, group)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_same_negatives_as_by_the_rules_of_sentence_transformers(settings: dict[str, Any]) -> None:
    for seed in range(3):
        given = corpus(seed)
        assert chosen(*given, Mining(**settings, **_EXACT))[0] == by_rules(*given, **settings)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.filterwarnings("ignore")  # those of datasets
def test_the_rules_are_those_of_the_library(settings: dict[str, Any]) -> None:
    given = corpus(7)
    assert by_rules(*given, **settings) == by_library(*given, **settings)


def test_random_negatives_are_from_the_range_that_the_top_ones_are_from_in_order_and_repeat_by_seed() -> None:
    given = corpus(1)
    settings: dict[str, Any] = {"relative_margin": 0.1, "range_min": 2, "range_max": 25}
    window = by_rules(*given, **settings, negatives=23)
    one, other, third = (
        chosen(*given, Mining(**settings, **_EXACT, sampling="random", seed=seed))[0] for seed in (1, 1, 2)
    )
    assert one == other
    assert one != third
    for query, negatives in one.items():
        assert len(negatives) == min(3, len(window[query]))
        assert negatives == [key for key in window[query] if key in negatives]


def test_a_query_gets_the_same_random_negatives_whatever_the_other_queries() -> None:
    queries, documents, positives = corpus(2)
    mining = Mining(sampling="random", range_max=50, **_EXACT)
    alone = {query: queries[query] for query in list(queries)[20:]}
    every, _ = chosen(queries, documents, positives, mining)
    assert chosen(alone, documents, positives, mining)[0] == {query: every[query] for query in alone}


def test_the_margin_is_that_of_the_least_similar_positive_and_works_below_zero() -> None:
    answers = [candidate("a", 0.9), candidate("b", -0.5)]
    others = [candidate("c", 0.8), candidate("d", -0.51), candidate("e", -0.56)]
    found = choose("q", answers, others, mining=Mining(relative_margin=0.1), dropped=Counter())
    assert [one.key for one in found] == ["e"]


def test_candidates_too_near_to_a_positive_or_of_its_group_are_dropped_and_counted() -> None:
    answers = [candidate("a", 0.9, group="g"), candidate("b", 0.8)]
    others = [
        candidate("c", 0.7, 0.95, "h"),
        candidate("d", 0.6, 0.9499, "h"),
        candidate("e", 0.5, 0.1, "g"),
        candidate("f", 0.4, 0.1),
    ]
    dropped = Counter[str]()
    found = choose("q", answers, others, mining=Mining(), dropped=dropped)
    assert [one.key for one in found] == ["d", "f"]
    assert dropped == {"not_nearer_than": 1, "group": 1}


def test_a_rounded_similarity_of_equal_texts_counts_as_1() -> None:
    found = [candidate("b", 0.8, 1 - 1e-7), candidate("c", 0.7, 0.99999)]
    mining = Mining(not_nearer_than=1)
    kept = choose("q", [candidate("a", 0.9)], found, mining=mining, dropped=Counter())
    assert [one.key for one in kept] == ["c"]


def test_more_candidates_are_looked_at_if_a_filter_can_drop_some() -> None:
    assert Mining(**_EXACT).last_rank(2) == 5
    assert Mining(**_EXACT, min_score=0.1).last_rank(2) == 5
    assert Mining(**_EXACT, range_min=4, max_score=0.1).last_rank(2) == 36
    assert Mining().last_rank(2) == 32
    assert Mining(range_max=9, max_score=0.1).last_rank(2) == 9


@pytest.mark.parametrize(
    "settings",
    [
        {"negatives": 0},
        {"range_min": -1},
        {"range_min": 3, "range_max": 3},
        {"range_min": 3, "range_max": 5},
        {"sampling": "best"},
        {"not_nearer_than": 0},
        {"not_nearer_than": 1.5},
    ],
    ids=str,
)
def test_settings_that_find_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(errors.QueryError, match=next(iter(settings))):
        Mining(**settings)


class Logits:
    """A reranker of which only the kind of its scores counts."""

    reference, score_type = "logits", "logit"

    def score(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        raise NotImplementedError


def test_a_share_of_a_logit_is_refused_as_a_margin() -> None:
    with BatchingReranker(Logits()) as reranker:  # type: ignore[arg-type]
        with pytest.raises(errors.QueryError, match="absolute_margin"):
            Mining(rerank=reranker, relative_margin=0.05)
        assert Mining(rerank=reranker, absolute_margin=0.5).reranks
        assert not Mining(rerank=reranker).reranks
