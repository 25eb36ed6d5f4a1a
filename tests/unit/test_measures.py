"""Measures of relevance: their names, and what they give for each query."""

import sys
from collections.abc import Mapping, Sequence
from math import log2

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic import errors
from pg_semantic.evaluation import measures

NAMES = (
    "nDCG@10",
    "nDCG(gains={1: 1, 2: 3, 3: 7})@10",
    "nDCG(judged_only=True)@10",
    "RR",
    "RR@10",
    "RR(rel=2)@10",
    "R@100",
    "R(judged_only=True)@5",
    "AP@100",
    "AP(judged_only=True)@100",
    "P@5",
    "P(judged_only=True)@5",
    "Success@5",
    "Judged@10",
    "Rprec",
    "Bpref",
)

GRADES = {"kind of tea": {"a": 3, "b": 0, "c": 1, "d": 2}}
RUN = {"kind of tea": ["unjudged", "b", "a", "c"]}


def value(name: str, grades: Mapping[str, Mapping[str, int]], run: Mapping[str, Sequence[str]]) -> float:
    """A measure of the only query."""
    (one,) = measures.per_query([name], grades, run)[name]
    return float(one)


def random_example(seed: int, *, queries: int = 40) -> tuple[dict[str, dict[str, int]], dict[str, list[str]]]:
    """Judgements of queries, each with a relevant row, and results for each of them."""
    rng = np.random.default_rng(seed)
    keys = [f"k{number}" for number in range(60)]
    grades, run = {}, {}
    for number in range(queries):
        judged = rng.permutation(keys)[: rng.integers(2, 30)]
        grades[f"q{number}"] = {str(key): int(rng.integers(0, 4)) for key in judged} | {"k0": 1}
        run[f"q{number}"] = [str(key) for key in rng.permutation(keys)[: rng.integers(1, 60)]]
    return grades, run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nDCG@10", (3 / 2 + 1 / log2(5)) / (3 + 2 / log2(3) + 1 / 2)),
        ("nDCG@3", (3 / 2) / (3 + 2 / log2(3) + 1 / 2)),
        ("nDCG(gains={1: 1, 2: 3, 3: 7})@10", (7 / 2 + 1 / log2(5)) / (7 + 3 / log2(3) + 1 / 2)),
        ("nDCG(judged_only=True)@10", (3 / log2(3) + 1 / 2) / (3 + 2 / log2(3) + 1 / 2)),
        ("RR@10", 1 / 3),
        ("MRR@10", 1 / 3),
        ("RR@2", 0),
        ("RR(judged_only=True)@10", 1 / 2),
        ("RR(judged_only=True)@1", 0),
        ("R@100", 2 / 3),
        ("R@3", 1 / 3),
        ("AP@100", (1 / 3 + 2 / 4) / 3),
        ("P@2", 0),
        ("P@4", 2 / 4),
        ("P@5", 2 / 5),
        ("P(rel=3)@4", 1 / 4),
        ("Success@2", 0),
        ("Success@3", 1),
        ("Judged@1", 0),
        ("Judged@10", 3 / 4),
        ("Rprec", 1 / 3),
    ],
)
def test_a_measure_is_that_of_an_example_worked_out_by_hand(name: str, expected: float) -> None:
    assert value(name, GRADES, RUN) == pytest.approx(expected, abs=1e-12)


def test_compat_prefers_the_rows_found_among_those_of_equal_grade() -> None:
    # Rank-biased overlap with the ideal a, b: all of the first row, half of the first two.
    assert value("Compat", {"tea": {"b": 1, "a": 1}}, {"tea": ["a"]}) == pytest.approx((1 + 0.95 / 2) / (1 + 0.95))


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_those_of_ir_measures(seed: int) -> None:
    grades, run = random_example(seed)
    relevant = [ir_measures.Qrel(query, key, grade) for query in grades for key, grade in grades[query].items()]
    found = [ir_measures.ScoredDoc(query, key, -rank) for query in run for rank, key in enumerate(run[query])]
    values = measures.per_query(NAMES, grades, run)
    for name, measure in zip(NAMES, measures.parse(NAMES), strict=True):
        expected = {one.query_id: one.value for one in ir_measures.iter_calc([measure], relevant, found)}
        assert values[name] == pytest.approx([expected[query] for query in grades], abs=1e-9), name
        assert len(set(expected.values())) > 1, name


def test_measures_together_are_the_same_as_each_by_itself() -> None:
    grades, run = random_example(7)
    names = [*NAMES, *(f"nDCG(gains={{1: {gain}}})@10" for gain in range(4, 12))]
    together = measures.per_query(names, grades, run)
    assert list(together) == names
    for name in names:
        assert together[name].tolist() == measures.per_query([name], grades, run)[name].tolist()


@given(st.lists(st.text(max_size=20), min_size=8, max_size=8, unique=True), st.data())
def test_no_text_of_a_query_or_key_changes_a_measure(texts: list[str], data: st.DataObject) -> None:
    grades, run = random_example(3, queries=8)
    keys = sorted({key for found in run.values() for key in found} | {key for own in grades.values() for key in own})
    names = data.draw(st.lists(st.text(max_size=20), min_size=len(keys), max_size=len(keys), unique=True))
    query, key = dict(zip(grades, texts, strict=True)), dict(zip(keys, names, strict=True))
    renamed = {query[text]: {key[one]: grade for one, grade in own.items()} for text, own in grades.items()}
    found = {query[text]: [key[one] for one in own] for text, own in run.items()}
    expected = measures.per_query(NAMES, grades, run)
    assert {name: values.tolist() for name, values in measures.per_query(NAMES, renamed, found).items()} == {
        name: values.tolist() for name, values in expected.items()
    }


def test_very_long_texts_with_the_same_beginning_are_different() -> None:
    long = "tea " * 50_000
    values = measures.per_query(["RR@10"], {long: {long + "1": 1}, long + "?": {"": 1}}, {long: ["", long + "1"]})
    assert values["RR@10"].tolist() == [0.5, 0]


def test_the_order_of_results_counts_and_never_that_of_their_names() -> None:
    keys = [f"{number:03}" for number in range(200)]
    assert value("RR", {"tea": {"150": 1}}, {"tea": keys}) == pytest.approx(1 / 151)
    assert value("RR", {"tea": {"150": 1}}, {"tea": keys[::-1]}) == pytest.approx(1 / 50)


def test_a_key_that_occurs_twice_counts_where_it_first_occurs() -> None:
    assert value("nDCG@10", {"tea": {"a": 2, "b": 1}}, {"tea": ["a", "a", "b", "a"]}) == pytest.approx(1)


@pytest.mark.parametrize("run", [{}, {"tea": []}, {"another": ["a"]}])
def test_a_query_without_results_counts_zero_and_has_no_unjudged_result(run: Mapping[str, Sequence[str]]) -> None:
    values = measures.per_query(NAMES, {"tea": {"a": 2}}, run)
    assert {name: one.tolist() for name, one in values.items()} == {
        name: [1.0] if name == "Judged@10" else [0.0] for name in NAMES
    }


def test_queries_without_a_relevant_row_count_zero_and_change_no_other() -> None:
    grades, run = random_example(5)
    more = {"nothing judged": {}, **grades, "nothing relevant": {"k1": 0, "k2": -1}}
    found = {**run, "nothing judged": ["k1"], "nothing relevant": ["k1", "k2", "k3", "k4"]}
    values, expected = measures.per_query(NAMES, more, found), measures.per_query(NAMES, grades, run)
    for name in NAMES:
        assert values[name][1:-1].tolist() == expected[name].tolist()
        assert values[name][[0, -1]].tolist() == ([0, 0.5] if name == "Judged@10" else [0, 0])


def test_queries_with_a_relevant_row_are_answerable() -> None:
    grades = {"b": {"k": 0, "l": 2}, "none": {}, "zero": {"k": 0}, "negative": {"k": -1}, "a": {"k": 1}}
    assert list(measures.answerable(grades).items()) == [("b", {"k": 0, "l": 2}), ("a", {"k": 1})]


def test_a_grade_below_zero_is_that_of_a_judged_row_that_is_not_relevant() -> None:
    run = {"tea": ["spam", "a"]}
    for name in NAMES:
        assert value(name, {"tea": {"spam": -2, "a": 1}}, run) == value(name, {"tea": {"spam": 0, "a": 1}}, run)


def test_grades_that_overflow_in_trec_eval_are_refused() -> None:
    assert value("nDCG@10", {"tea": {"a": 10_000}}, {"tea": ["a"]}) == 1
    with pytest.raises(errors.ConfigurationError, match="grade of 5000000000, above 10000"):
        value("nDCG@10", {"tea": {"a": 5_000_000_000}}, {"tea": ["a"]})


def test_no_queries_have_no_values() -> None:
    assert measures.per_query(["nDCG@10", "Judged@10"], {}, {})["nDCG@10"].shape == (0,)
    assert measures.per_query([], GRADES, RUN) == {}


@pytest.mark.parametrize("name", [*NAMES, "P( rel = 2, judged_only = True )@5", "Compat(p=0.8)", 'nDCG(dcg="log2")@5'])
def test_a_measure_is_read_as_ir_measures_writes_it(name: str) -> None:
    (measure,) = measures.parse([name])
    assert measures.parse([str(measure)]) == [measure]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ndcg@10",
        "nDCG@",
        "nDCG@-1",
        "nDCG@10\n",
        "nDCG@10@10",
        "nDCG@10, RR@10",
        "ERR@10",
        "NumQ",
        "alpha_nDCG@10",
        "__import__('os')",
        "nDCG@0",
        "P(cutoff=0)",
        "P(cutoff=True)",
        "RR(judged_only=True)@0",
        "nDCG@10000000000",
        "nDCG@100000000",
        "P",
        "R(judged_only=True)",
        "P(rel=0)@5",
        "P(rel=True)@5",
        "P(rel=1.5)@5",
        "P(rel=1.2.3)@5",
        "P(rel=5@5",
        "P(relevance=1)@5",
        "nDCG(judged_only=1)@3",
        "Judged(judged_only=True)@3",
        "nDCG(dcg='other')@3",
        "nDCG(gains=3)@3",
        "nDCG(gains={1})@3",
        "nDCG(gains={1: -1})@3",
        "nDCG(gains={1: 5000000000})@3",
        "Compat@10",
        "Compat(p=1.5)",
    ],
)
def test_a_measure_that_cannot_be_computed_is_refused_with_examples(name: str) -> None:
    with pytest.raises(errors.ConfigurationError) as refused:
        measures.parse(["nDCG@10", name])
    assert repr(name) in str(refused.value)
    assert "Write nDCG@10, RR@10" in str(refused.value)


def test_exponential_gain_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"nDCG\(gains=\{1: 1, 2: 3, 3: 7\}\)@10"):
        measures.parse(["nDCG(dcg='exp-log2')@10"])


def test_measures_without_the_extra_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[evaluate\]'"):
        measures.per_query(["nDCG@10"], GRADES, RUN)
