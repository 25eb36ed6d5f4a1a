"""Variants as text, and as data for the registry."""

import json
from collections.abc import Sequence

import numpy as np
import pytest

from pg_semantic import errors, evaluation
from pg_semantic.evaluation import Variant
from pg_semantic.rerankers import BatchingReranker, Scores, ScoreType
from pg_semantic.search import Convex, Diverse, Options, Rerank, Rrf


class LengthReranker:
    """Scores a passage by how much longer it is than the query."""

    reference = "length"
    score_type: ScoreType = "logit"

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        return np.array([len(passage) - len(query) for passage in passages], np.float32)


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        ("now", Variant("now")),
        ("words:mode=lexical,match=all", Variant("words", mode="lexical", options=Options(match="all"))),
        ("exact:exact=yes", Variant("exact", exact=True)),
        ("next encoder:generation=next", Variant("next encoder", generation="next")),
        (
            "both:mode=hybrid,fusion=convex,dense=0.6,lexical=0.4,depth=50",
            Variant("both", mode="hybrid", options=Options(fusion=Convex(0.6, 0.4), depth=50)),
        ),
        ("both: mode = hybrid , k=2", Variant("both", mode="hybrid", options=Options(fusion=Rrf(2)))),
        ("various:diverse=0.5", Variant("various", options=Options(diverse=Diverse(0.5)))),
    ],
)
def test_a_variant_is_read_from_text(text: str, variant: Variant) -> None:
    assert evaluation.parse_variant(text) == variant


def test_tuned_stands_for_the_options_that_were_kept() -> None:
    kept = Options(fusion=Convex(0.8, 0.2), depth=50)
    for text, wanted in (("depth=20", Options(fusion=Convex(0.8, 0.2), depth=20)), ("match=all", None)):
        found = evaluation.parse_variant(f"a:mode=hybrid,fusion=tuned,{text}", tuned=lambda: kept)
        assert found.options == (wanted or Options(fusion=Convex(0.8, 0.2), depth=50, match="all"))
    rrf = evaluation.parse_variant("a:mode=hybrid,fusion=tuned", tuned=lambda: Options(fusion=Rrf(7, 2, 1)))
    assert rrf.options == Options(fusion=Rrf(7, 2, 1))
    words = evaluation.parse_variant("a:mode=hybrid,fusion=tuned", tuned=lambda: Options(match="all"))
    assert words.options == Options(match="all")
    for text, said in (("dense=0.3", "already has dense"), ("k=3", "already has k")):
        with pytest.raises(errors.ConfigurationError, match=said):
            evaluation.parse_variant(f"a:mode=hybrid,fusion=tuned,{text}", tuned=lambda: kept)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no name"),
        (":mode=hybrid", "has no name"),
        ("mode=hybrid", "write a name and a colon before its options"),
        ("a,mode=hybrid", "write a name and a colon before its options"),
        ("a:hybrid", "write options as NAME:KEY=VALUE"),
        ("a:mode=hybrid,mode=dense", "write options as NAME:KEY=VALUE"),
        ("a:mode=meaning", "mode='meaning' is unknown: use one of dense, lexical, hybrid"),
        ("a:generation=new", "use one of live, next, previous"),
        ("a:mode=hybrid,weight=3", "weight is unknown: the options are generation"),
        ("a:mode=hybrid,fusion=sum", "use rrf, convex or tuned"),
        ("a:mode=hybrid,fusion=tuned", "needs the options that were tuned"),
        ("a:mode=hybrid,fusion=convex,k=3", "k is an option of fusion=rrf"),
        ("a:mode=hybrid,k=many", r"k=many: write a whole number\."),
        ("a:mode=hybrid,depth=1.5", r"depth=1\.5: write a whole number\."),
        ("a:ef_search=", r"ef_search=: write a whole number\."),
        ("a:diverse=much", r"diverse=much: write a number\."),
        ("a:mode=hybrid,lexical=half", r"lexical=half: write a number\."),
        ("a:exact=yes,ef_search=200", "ef_search has no effect with exact=yes"),
        ("a:mode=hybrid,dense=-1", "weights must be"),
        ("a:dense=0.5", "dense has no effect with mode=dense: it needs mode=hybrid"),
        ("a:match=all", "match has no effect with mode=dense"),
        ("a:mode=lexical,exact=yes", "exact has no effect with mode=lexical"),
        ("a:exact=true", "write yes or no"),
        ("a:rerank_depth=20", "rerank_depth needs reranker"),
        ("a:mode=hybrid,match=some", "match=some is unknown"),
    ],
)
def test_a_text_that_is_no_variant_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=said):
        evaluation.parse_variant(text)


def test_variants_with_the_same_reranker_share_it_and_it_is_loaded_once() -> None:
    loaded = []

    def load(reference: str) -> BatchingReranker:
        loaded.append(reference)
        return BatchingReranker(LengthReranker())

    texts = ["none", "a:reranker=x,rerank_depth=5", "b:reranker=x,rerank_depth=9", "c:reranker=y"]
    _, a, b, c = (variant.options.rerank for variant in evaluation.parse_variants(texts, load=load))
    assert a
    assert b
    assert c
    assert (a.depth, b.depth) == (5, 9)
    assert a.reranker is b.reranker is not c.reranker
    assert loaded == ["x", "y"]


def test_settings_are_data_that_tells_variants_apart() -> None:
    texts = ["a", "a:exact=yes", "a:mode=hybrid", "a:mode=hybrid,k=2", "a:mode=hybrid,fusion=convex", "a:diverse=0.5"]
    settings = [json.dumps(evaluation.parse_variant(text).settings, sort_keys=True) for text in texts]
    assert len(set(settings)) == len(texts)
    assert (
        evaluation.parse_variant("b").settings == evaluation.parse_variant("a").settings
    )  # the name is only for people


@pytest.mark.parametrize(("reranked", "diverse", "longest"), [(10, 50, 10), (100, 50, 50), (50, None, 50)])
def test_a_page_is_no_longer_than_what_the_shallowest_step_reorders(
    reranked: int, diverse: int | None, longest: int
) -> None:
    various = None if diverse is None else Diverse(0.7, diverse)
    options = Options(rerank=Rerank(BatchingReranker(LengthReranker()), depth=reranked), diverse=various)
    assert Variant("a", options=options).longest_page == longest
    assert Variant("a").longest_page is None
